# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What surrounds the convolutions, in NumPy: the pillar encoder before them, the anchors after.

The encoder is linear up to its maximum, and its batch norm can be folded into it: a point adds
four products per channel, all else is the same for all points of a pillar.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
import safetensors.numpy

from pointdistiller_core.blas import products_in_calling_thread
from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.grid import Grid
from pointdistiller_core.pointcloud.voxel_arrays import VoxelArrays

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

ARRAYS_FILE = 'arrays.safetensors'


@dataclass(frozen=True)
class ModelArrays:
    """The folded pillar encoder and the anchors; all float32.

    Attributes:
        offset_weights: (4, C) of a point's offset [m] from the center of its cell, and intensity.
        center_weights: (3, C) of the cell's center [m], which every point's position contains.
        mean_weights: (3, C) of the mean offset [m] of the pillar's points.
        shift: (C,) what a row of zeros gives: the value of an unused slot.
        anchor_xs: (W,) x [m] of the anchors in each column of the head's map.
        anchor_ys: (H,) y [m] of those in each row.
        anchor_shapes: (A, 5) z, dx, dy, dz [m], yaw [rad] of the anchors of each cell.
    """

    offset_weights: FloatArray
    center_weights: FloatArray
    mean_weights: FloatArray
    shift: FloatArray
    anchor_xs: FloatArray
    anchor_ys: FloatArray
    anchor_shapes: FloatArray

    @products_in_calling_thread()
    def encode(self, pillars: VoxelArrays, grid: Grid) -> FloatArray:
        """(P, C) features of pillars, of which there is one at least; as of `PillarEncoder`."""
        centers = _cell_centers(pillars.cells, grid)
        maxima, sums = self._reduce_points(pillars, centers)
        means = sums / pillars.num_points[:, None].astype(np.float32)
        maxima += centers @ self.center_weights - means @ self.mean_weights + self.shift
        has_unused = pillars.num_points < pillars.max_points
        lowest = np.stack([np.zeros_like(self.shift), np.maximum(self.shift, 0)])
        features: FloatArray = np.maximum(maxima, lowest.take(has_unused.view(np.int8), axis=0))
        return features

    def _reduce_points(
        self, pillars: VoxelArrays, centers: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """(P, C) largest product of each pillar's points, and (P, 3) sum of their offsets [m].

        First all pillars' first points, then the second points of those that have two, and so on:
        whole arrays at a time, several times faster than `reduceat`. So is `take`, compared with
        brackets, and arithmetic on all four columns, compared with three of them.
        """
        order = np.argsort(-pillars.num_points)
        starts, sizes = pillars.starts[order], pillars.num_points[order]
        counts = np.searchsorted(-sizes, -np.arange(sizes[0]))  # pillars with a point in each slot
        members = [starts[:count] + slot for slot, count in enumerate(counts)]
        offsets = pillars.points.take(np.concatenate(members), axis=0)
        origins = np.pad(centers.take(order, axis=0), ((0, 0), (0, 1)))  # intensity has none
        parts = np.split(offsets, np.cumsum(counts)[:-1])
        for part in parts:
            part -= origins[: len(part)]
        products = np.split(offsets @ self.offset_weights, np.cumsum(counts)[:-1])
        maxima, sums = products[0], parts[0].copy()
        for product, part in zip(products[1:], parts[1:], strict=True):
            np.maximum(maxima[: len(part)], product, out=maxima[: len(part)])
            sums[: len(part)] += part
        back = np.argsort(order)
        return maxima.take(back, axis=0), sums[:, :3].take(back, axis=0)

    def anchors_at(self, indices: IntArray) -> FloatArray:
        """(N, 7) the anchors of these indices, numbered as `HeadOutput` says."""
        cells, kinds = np.divmod(indices, len(self.anchor_shapes))
        rows, columns = np.divmod(cells, len(self.anchor_xs))
        positions = [self.anchor_xs[columns, None], self.anchor_ys[rows, None]]
        return np.concatenate([*positions, self.anchor_shapes[kinds]], axis=1)

    @property
    def num_anchors(self) -> int:
        """Anchors of a frame."""
        return len(self.anchor_xs) * len(self.anchor_ys) * len(self.anchor_shapes)


def pack_arrays(arrays: ModelArrays) -> bytes:
    """As the content of a file."""
    named = {field.name: getattr(arrays, field.name) for field in fields(arrays)}
    return safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in named.items()})


def unpack_arrays(content: bytes, config: PointPillarsConfig, *, where: str) -> ModelArrays:
    """The arrays of a file, if they are those of a detector of this configuration.

    Raises:
        CheckpointError: the file holds something else.
    """
    try:
        found = safetensors.numpy.load(content)
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f'{where}: not safetensors: {error}') from error
    expected = _shapes(config)
    shapes = {name: array.shape for name, array in found.items()}
    if shapes != expected:
        raise CheckpointError(
            f'{where}: arrays of another architecture: {shapes}, not {expected}; '
            'export the bundle again'
        )
    if bad := sorted(name for name, array in found.items() if not _is_sound(array)):
        raise CheckpointError(
            f'{where}: {bad} are NaN, infinite or not float32; export a sound bundle again'
        )
    return ModelArrays(**found)


def _is_sound(array: NDArray[Any]) -> bool:
    return array.dtype == np.float32 and bool(np.isfinite(array).all())


def _shapes(config: PointPillarsConfig) -> dict[str, tuple[int, ...]]:
    channels = config.scaled(config.encoder.channels)
    height, width = config.grid.strided_bev_shape(config.head_stride)
    kinds = sum(len(config.head.anchors[name].yaws) for name in config.class_names)
    return {
        'offset_weights': (4, channels),
        'center_weights': (3, channels),
        'mean_weights': (3, channels),
        'shift': (channels,),
        'anchor_xs': (width,),
        'anchor_ys': (height,),
        'anchor_shapes': (kinds, 5),
    }


def _cell_centers(cells: IntArray, grid: Grid) -> FloatArray:
    """(P, 3) x, y, z [m] of the centers of cells `row * W + column`."""
    rows, columns = np.divmod(cells, grid.bev_shape[1])
    positions = np.stack([columns, rows, np.zeros_like(rows)], axis=1).astype(np.float32) + 0.5
    size, low = np.array([grid.voxel_size, grid.point_cloud_range[:3]], np.float32)
    centers: FloatArray = (positions * size + low).astype(np.float32, copy=False)
    return centers
