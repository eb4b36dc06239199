# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Farthest point sampling (PointNet++, Qi et al., NeurIPS 2017), as its public CUDA kernel.

Every step takes the point that is farthest from all taken ones, so one sample needs the one before
it. On a CPU, three things that change no result make this fast: the points are kept in blocks of
neighbors, of which a sample touches only those that it may be nearest to; the next samples are
found among the few farthest points, many of them before the others have to be updated; and a step
is a handful of calls of NumPy on some hundred numbers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

MAX_THREADS = 1024  # of the kernel's block; decides which of several farthest points is taken
_FARTHEST = 1e10  # [m^2] before the first sample, as in the kernel
_BLOCK = 64  # most points, if their number is a power of two
_DENSE = 1024  # points of a cloud up to which blocks do not pay
_CANDIDATES = 128  # most points among which the next samples are looked for
_SLACK = 1 - 1e-5  # of a bound in float32


@torch.no_grad()
def farthest_points(points: Tensor, num_samples: int) -> Tensor:
    """Sample points that are far from one another; the first one is always taken first.

    Of several farthest points, that one is taken whose thread of the public kernel comes first in
    its reduction: the smallest bit-reversed thread number, then the smallest index. With fewer
    different points than samples the rest are mostly copies of the first.

    Args:
        points: (B, N, 3) x, y, z [m].
        num_samples: M.

    Returns:
        (B, M) int64 indices into the N points, in the order in which they are taken; of tensors
        without values (on the device `meta`) only the shape.
    """
    if points.is_meta:
        return points.new_zeros(len(points), num_samples, dtype=torch.int64)
    if points.device.type != 'cpu' or points.shape[1] <= _DENSE:
        return _dense(points.float(), num_samples)
    arrays = points.float().numpy()
    samples = [_Cloud(cloud).sample(num_samples) for cloud in arrays]
    joined = np.stack(samples) if samples else np.zeros((0, num_samples), np.int64)
    return torch.from_numpy(joined)


@lru_cache(maxsize=16)
def tie_order(num_points: int) -> IntArray:
    """(N,) indices of points; of equally far ones, the earlier in this order is taken."""
    bits = min(MAX_THREADS, max(num_points, 1)).bit_length() - 1
    threads = np.arange(num_points) % (1 << bits)
    reverse = np.zeros(num_points, np.int64)
    for bit in range(bits):
        reverse |= (threads >> bit & 1) << (bits - 1 - bit)
    return np.argsort(reverse, kind='stable')


def _dense(points: Tensor, num_samples: int) -> Tensor:
    """All clouds at once, every point at every step."""
    batch_size, num_points, _ = points.shape
    order = torch.from_numpy(tie_order(num_points)).to(points.device)
    x, y, z = points[:, order].permute(2, 0, 1).contiguous()
    distances = torch.full_like(x, _FARTHEST)
    taken = order.new_zeros(batch_size, num_samples)  # the first point is the first of the order
    for step in range(1, num_samples):
        last = taken[:, step - 1 : step]
        dx, dy, dz = (axis - axis.gather(1, last) for axis in (x, y, z))
        torch.minimum(distances, dx.mul_(dx).add_(dy.mul_(dy)).add_(dz.mul_(dz)), out=distances)
        taken[:, step] = distances.argmax(dim=1)
    return order[taken]


class _Cloud:
    """Points (N, 3) in blocks, and how far each is from the taken ones."""

    def __init__(self, points: FloatArray) -> None:
        order = _blocks_of_neighbors(points)
        num_points = len(points)
        self._index = np.minimum(order, num_points - 1)
        rank = np.empty(num_points, np.int64)
        rank[tie_order(num_points)] = np.arange(num_points)
        self._rank = rank[self._index].ravel()
        self._points = np.ascontiguousarray(points[self._index].transpose(2, 0, 1))
        self._flat = np.ascontiguousarray(self._points.reshape(3, -1).T)
        self._low, self._high = self._points.min(axis=2), self._points.max(axis=2)
        # [m^2]; what only fills a block is never taken
        self._distances = np.where(order < num_points, np.float32(_FARTHEST), np.float32(-1))
        self._farthest = self._distances.max(axis=1)  # of each block
        self._share = 0.9

    def sample(self, num_samples: int) -> IntArray:
        """(M,) indices of points; see `farthest_points`."""
        places = [np.flatnonzero(self._rank == 0)[:1]]
        count = 1
        while count < num_samples:
            self._update(places[-1])
            if self._farthest.max() <= 0:
                break  # only copies are left: the first in the order of ties, which is point 0
            places.append(self._next_samples()[: num_samples - count])
            count += len(places[-1])
        taken = np.zeros(num_samples, np.int64)
        taken[:count] = self._index.ravel()[np.concatenate(places)]
        return taken

    def _next_samples(self) -> IntArray:
        """Places of one or more samples, as they would be found one by one.

        All other points are nearer than the candidates, and a sample brings points only nearer.
        """
        candidates, lowest = self._candidates()
        candidates = candidates[np.argsort(self._rank[candidates])]
        distances = self._distances.ravel()[candidates]
        between = _square_distances(self._flat[candidates])
        taken = []
        while distances[best := distances.argmax()] >= lowest:
            taken.append(best)
            np.minimum(distances, between[best], out=distances)
        return candidates[taken]

    def _candidates(self) -> tuple[IntArray, float]:
        """Places of all points that are as far as the second value or farther; not too many."""
        farthest, flat = self._farthest.max(), self._distances.ravel()
        while True:
            lowest = farthest * np.float32(self._share)
            (places,) = np.nonzero(flat >= lowest)
            if len(places) <= _CANDIDATES:
                if len(places) < _CANDIDATES // 2:
                    self._share *= 0.95
                return places, lowest
            if self._share >= 1:  # as many are equally far
                return places[[self._rank[places].argmin()]], lowest
            self._share = min(1.0, self._share * 1.05)

    def _update(self, samples: IntArray) -> None:
        """Bring all points nearer that are nearer to one of the samples (places, S)."""
        x, y, z = (self._flat[samples, axis] for axis in range(3))
        bounds = np.zeros((len(self._farthest), len(samples)), np.float32)
        for axis, values in enumerate((x, y, z)):
            low, high = self._low[axis, :, None], self._high[axis, :, None]
            outside = np.maximum(low - values, values - high).clip(min=0)
            bounds += outside * outside
        blocks, sources = np.nonzero(bounds * np.float32(_SLACK) < self._farthest[:, None])
        if not len(blocks):
            return
        distances = np.zeros((len(blocks), self._points.shape[2]), np.float32)
        for axis, values in enumerate((x, y, z)):
            offset = self._points[axis][blocks]
            offset -= values[sources, None]
            offset *= offset
            distances += offset
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        nearest = np.minimum.reduceat(distances, starts, axis=0)
        changed = blocks[starts]
        updated = np.minimum(self._distances[changed], nearest)
        self._distances[changed] = updated
        self._farthest[changed] = updated.max(axis=1)


def _square_distances(points: FloatArray) -> FloatArray:
    """(N, N) [m^2] between points (N, 3)."""
    x, y, z = (axis[:, None] - axis for axis in points.T)
    x *= x
    y *= y
    z *= z
    x += y
    x += z
    squares: FloatArray = x
    return squares


def _blocks_of_neighbors(points: FloatArray) -> IntArray:
    """(blocks, points per block) indices of points, halved again and again across the widest axis.

    Some blocks are filled with the index N.
    """
    num_points = len(points)
    levels = max(0, (num_points // _BLOCK).bit_length() - 1)
    width = -(-num_points // (1 << levels))
    filled = np.concatenate([points, points[-1:]])
    order = np.full((1, width << levels), num_points)
    order[0, :num_points] = np.arange(num_points)
    for _ in range(levels):
        blocks = filled[np.minimum(order, num_points)]
        axes = np.ptp(blocks, axis=1).argmax(axis=1)
        values = np.take_along_axis(blocks, axes[:, None, None], axis=2)[..., 0]
        halves = np.argpartition(values, order.shape[1] // 2, axis=1)
        order = np.take_along_axis(order, halves, axis=1).reshape(2 * len(order), -1)
    return order
