# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Neighbors in space, with the results of the public CUDA kernels of PointNet++.

Distances are not computed between all points: a grid of cells tells which may be near enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_PAIRS_AT_ONCE = 1 << 22
_TESTS_AT_ONCE = 1 << 19
_SMALL = 1024  # points of a cloud, of which all distances are computed
_FEW = 1 << 16  # pairs that are not worth a grid
_MAX_CELLS = 1 << 16  # along an axis
_EPS = 1e-8  # [m], as in the kernel


@torch.no_grad()
def ball_query(
    points: Tensor, centers: Tensor, radii: Sequence[float], num_neighbors: Sequence[int]
) -> list[Tensor]:
    """The first points within each radius around each center, in the order of their indices.

    Unused slots repeat the first neighbor; a center without neighbors gets the point 0.

    Args:
        points: (B, N, 3) x, y, z [m].
        centers: (B, M, 3) x, y, z [m].
        radii: [m]; a point at exactly the radius is not within.
        num_neighbors: k for each radius.

    Returns:
        (B, M, k) int64 indices into the N points, for each radius; of tensors without values (on
        the device `meta`) only the shapes.
    """
    batch_size, num_centers, _ = centers.shape
    shape = (batch_size * num_centers, -1)
    found = [points.new_zeros(shape[0], k, dtype=torch.int64) for k in num_neighbors]
    if points.is_meta:
        return [own.view(batch_size, num_centers, own.shape[1]) for own in found]
    if points.shape[1] <= _SMALL:
        for neighbors, radius in zip(found, radii, strict=True):
            for hits in _hits_in_small_clouds(points, centers, radius, neighbors.shape[1]):
                _fill_slots(neighbors, hits, points.shape[1])
        return [own.view(batch_size, num_centers, own.shape[1]) for own in found]
    for queries, indices, squares in _near_pairs(points, centers, max(radii)):
        within = (squares < points.new_tensor(max(radii)).square()).nonzero()[:, 0]
        keys = queries.mul_(points.shape[1]).add_(indices)
        ordered, order = keys.index_select(0, within).sort()
        squares = squares.index_select(0, within.index_select(0, order))
        for neighbors, radius in zip(found, radii, strict=True):
            hits = ordered
            if radius < max(radii):
                hits = ordered[squares < points.new_tensor(radius).square()]
            _fill_slots(neighbors, hits, points.shape[1])
    return [own.view(batch_size, num_centers, own.shape[1]) for own in found]


def _hits_in_small_clouds(
    points: Tensor, centers: Tensor, radius: float, most: int
) -> Iterator[Tensor]:
    """All distances of a few clouds at once; yields what `_fill_slots` takes.

    Many points may be within the radius, but only the first few matter: no pair is built for the
    others.
    """
    num_points, num_centers = points.shape[1], centers.shape[1]
    columns, targets = (each.permute(2, 0, 1).contiguous() for each in (points, centers))
    clouds = max(1, _TESTS_AT_ONCE // max(1, num_points * num_centers))
    for first in range(0, len(points), clouds):
        part = slice(first, first + clouds)
        squares = None
        for values, own in zip(columns, targets, strict=True):
            offset = values[part, None] - own[part, :, None]
            offset.mul_(offset)
            squares = offset if squares is None else squares.add_(offset)
        assert squares is not None
        within = (squares < points.new_tensor(radius).square()).flatten(0, 1)
        within &= within.cumsum(1, dtype=torch.int16) <= most
        queries, indices = within.nonzero(as_tuple=True)
        yield (queries + first * num_centers) * num_points + indices


def _fill_slots(neighbors: Tensor, hits: Tensor, num_points: int) -> None:
    """Write the first hits, ascending `center * num_points + index`, into rows (Q, k)."""
    queries = hits.div(num_points, rounding_mode='floor')
    indices = hits - queries * num_points
    counts = queries.bincount(minlength=len(neighbors))
    starts = counts.cumsum(0) - counts
    slots = torch.arange(len(hits), device=hits.device).sub_(starts.index_select(0, queries))
    hit = counts > 0
    neighbors[hit] = indices[starts[hit], None].expand(-1, neighbors.shape[1])
    kept = slots < neighbors.shape[1]
    neighbors[queries[kept], slots[kept]] = indices[kept]


@torch.no_grad()
def three_nearest(points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The three nearest known points of each point; of equally near ones the earlier.

    Args:
        points: (B, N, 3) x, y, z [m].
        known: (B, M, 3) x, y, z [m], M of at least 1.

    Returns:
        (B, N, 3) int64 indices into the M known points, nearest first, and (B, N, 3) distances
        [m]; with fewer than three known points index 0 at an infinite distance stands for the
        missing ones. Of tensors without values (on the device `meta`) only the shapes.
    """
    batch_size, num_points, _ = points.shape
    if points.is_meta:
        return torch.empty_like(points, dtype=torch.int64), torch.empty_like(points)
    # a non-negative float orders as its bits do, so a pair is one number: distance, then index
    missing = int(torch.tensor(torch.inf).view(torch.int32)) << 32
    best = torch.full((batch_size * num_points, 3), missing, device=points.device)
    flat, frames = points.reshape(-1, 3), torch.arange(batch_size, device=points.device)
    frames = frames.repeat_interleave(num_points)
    rest = torch.arange(len(flat), device=points.device)
    reach = _usual_reach(points, known)
    while len(rest):
        if len(rest) * known.shape[1] <= _FEW:
            reach = torch.inf
        for queries, indices, squares in _near_pairs(known, flat[rest], reach, frames[rest]):
            keys = squares.view(torch.int32).long() << 32 | indices
            _take_smallest(best, rest[queries], keys)
        found = (best[rest, 2] >> 32).int().view(torch.float32)
        rest = rest[found >= reach * reach] if reach < torch.inf else rest[:0]
        best[rest] = missing
        reach *= 2
    squares, indices = (best >> 32).int().view(torch.float32), best & 0xFFFFFFFF
    shape = (batch_size, num_points, 3)
    return indices.view(shape), squares.view(shape).sqrt()


def _usual_reach(points: Tensor, known: Tensor) -> float:
    """A distance [m] within which most points have three known ones; infinite for few pairs."""
    if known.shape[1] < 3 or points.numel() * known.shape[1] <= 3 * _FEW:
        return torch.inf
    some = points[:, :: max(1, points.shape[1] // 64)]
    third = torch.cdist(some, known).topk(3, largest=False).values[..., -1]
    return max(float(third.quantile(0.8)), 1e-3)


def _take_smallest(best: Tensor, queries: Tensor, keys: Tensor) -> None:
    """Write the three smallest keys of each query into its row of `best`."""
    for column in range(3):
        smallest = best[:, column].scatter_reduce(0, queries, keys, 'amin')
        best[:, column] = smallest
        if column < 2:
            left = keys != smallest.index_select(0, queries)
            queries, keys = queries[left], keys[left]


def interpolate(features: Tensor, indices: Tensor, distances: Tensor) -> Tensor:
    """Features (B, M, C) of known points as (B, N, C) of points, by inverse distances.

    Args:
        features: of the known points.
        indices: (B, N, 3) of `three_nearest`.
        distances: (B, N, 3) [m] of `three_nearest`.
    """
    weights = 1 / (distances + _EPS)
    weights = weights / weights.sum(dim=2, keepdim=True)
    mixed: Tensor = (gather_rows(features, indices) * weights[..., None]).sum(dim=2)
    return mixed


def gather_rows(values: Tensor, indices: Tensor) -> Tensor:
    """Rows (B, N, C) by indices (B, ...) as (B, ..., C)."""
    batch_size, num_rows, channels = values.shape
    shift = torch.arange(batch_size, device=values.device).view(-1, *[1] * (indices.dim() - 1))
    flat = (indices + shift * num_rows).flatten()
    rows = values.reshape(-1, channels).index_select(0, flat)
    return rows.view(*indices.shape, channels)


def _near_pairs(
    points: Tensor, centers: Tensor, reach: float, frames: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pairs of a center and a point that may be within reach, in parts with whole centers.

    Args:
        points: (B, N, 3) [m].
        centers: (B, M, 3) [m], or (Q, 3) with their frames.
        reach: [m]; infinite for all pairs.
        frames: (Q,) int64.

    Yields:
        (P,) int64 centers, (P,) int64 indices into the N points of their frame, and (P,) float32
        squared distances [m^2], rounded as `dx * dx + dy * dy + dz * dz`.
    """
    batch_size, num_points, _ = points.shape
    if frames is None:
        frames = torch.arange(batch_size, device=points.device).repeat_interleave(centers.shape[1])
        centers = centers.reshape(-1, 3)
    if not len(centers) or not num_points:
        return
    order, starts, counts = _cells_around(points, centers, reach, frames)
    columns, targets = points.reshape(-1, 3)[order].T.contiguous(), centers.T.contiguous()
    totals = counts.sum(dim=1)
    ends = totals.cumsum(0)
    first = 0
    while first < len(centers):
        limit = (ends[first - 1] if first else 0) + _PAIRS_AT_ONCE
        last = max(first + 1, int(torch.searchsorted(ends, limit, right=True)))
        part = slice(first, last)
        queries = torch.arange(first, last, device=points.device).repeat_interleave(totals[part])
        places = _expand(starts[part].flatten(), counts[part].flatten())
        squares = None
        for values, own in zip(columns, targets, strict=True):
            offset = values.index_select(0, places).sub_(own.index_select(0, queries))
            offset.mul_(offset)
            squares = offset if squares is None else squares.add_(offset)
        assert squares is not None
        indices = order.index_select(0, places)
        yield queries, indices.sub_(frames.index_select(0, queries) * num_points), squares
        first = last


def _cells_around(
    points: Tensor, centers: Tensor, reach: float, frames: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Points sorted by their cells, and the ranges of them in the cells around each center.

    Returns:
        (B N,) int64 the points in order; (Q, R) int64 starts and (Q, R) int64 lengths of ranges.
    """
    batch_size, num_points, _ = points.shape
    low = points.amin(dim=(0, 1)).double()
    extent = (points.amax(dim=(0, 1)).double() - low).max()
    # slack for the rounding of cells and distances
    size = max(reach * (1 + 1e-5), float(extent) / _MAX_CELLS, 1e-6)

    def cells_of(positions: Tensor) -> Tensor:
        return ((positions.double() - low) / size).floor().clamp(-1, 2 * _MAX_CELLS).long()

    cells = cells_of(points.reshape(-1, 3))
    # two more cells, so that the neighbors of a cell at the rim are of its own row and frame
    width, depth, height = (cells.amax(dim=0) + 3).tolist()

    def keys(frame: Tensor, cell: Tensor) -> Tensor:
        x, y, z = (cell + 1).unbind(-1)
        key: Tensor = ((frame * height + z) * depth + y) * width + x
        return key

    owners = torch.arange(batch_size, device=points.device).repeat_interleave(num_points)
    sorted_keys, order = keys(owners, cells).sort(stable=True)
    around = cells_of(centers).minimum(cells.amax(dim=0) + 1)
    steps = torch.cartesian_prod(*[torch.arange(-1, 2, device=points.device)] * 2)
    rows = torch.cat([torch.zeros_like(steps[:, :1]), steps], dim=1)  # x, y, z
    middle = keys(frames[:, None], around[:, None] + rows)
    starts = torch.searchsorted(sorted_keys, middle - 1)
    stops = torch.searchsorted(sorted_keys, middle + 1, right=True)
    return order, starts, stops - starts


def _expand(starts: Tensor, counts: Tensor) -> Tensor:
    """All numbers of the ranges, one range after another."""
    before = counts.cumsum(0) - counts
    total = torch.arange(int(counts.sum()), device=starts.device)
    return (starts - before).repeat_interleave(counts) + total
