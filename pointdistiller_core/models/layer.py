# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Layers of a detector that can be read, and their features as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pointdistiller_core.grid import Grid
from pointdistiller_core.models.stages.pillar_encoder import scatter_to_bev
from pointdistiller_core.pointcloud.voxels import Voxels, cell_centers
from pointdistiller_core.sparse.convolution import SparseTensor

MapShape = tuple[int, int]


@dataclass(frozen=True)
class Rows:
    """Features of a layer: one row per voxel, point or cell of a map.

    Attributes:
        features: (R, C), the frames one after another.
        sizes: rows of each frame.
        positions: (R, 3) x, y, z [m] of each row, LiDAR frame.
        num_points: (R,) int64 points of the cloud behind each row.
        cells: (R, 3) int64 frame, row, column, if rows are cells of a map from above.
        map_shape: H, W of this map.
        is_map: whether every cell of the map has its row, in order.
    """

    features: Tensor
    sizes: tuple[int, ...]
    positions: Tensor
    num_points: Tensor
    cells: Tensor | None = None
    map_shape: MapShape | None = None
    is_map: bool = False

    def __len__(self) -> int:
        return len(self.features)

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values (R, ...) as those of each frame."""
        return split_frames(values, self.sizes)

    def occupied(self) -> list[Tensor]:
        """(n,) int64 the rows with points of each frame.

        Most cells of a map are empty and alike, so they would say little.
        """
        occupied, start = [], 0
        for num_points in self.split(self.num_points):
            occupied.append(start + num_points.nonzero()[:, 0])
            start += len(num_points)
        return occupied

    @property
    def frames(self) -> Tensor:
        """(R,) int64 frame of each row."""
        sizes = torch.tensor(self.sizes, device=self.features.device)
        return torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)

    def to_map(self, values: Tensor) -> Tensor:
        """Values (R, C) laid out as (B, C, H, W); cells without a row are zero."""
        assert self.cells is not None
        assert self.map_shape is not None
        if self.is_map:
            return values.view(len(self.sizes), *self.map_shape, -1).permute(0, 3, 1, 2)
        return scatter_to_bev(
            values, self.cells, batch_size=len(self.sizes), bev_shape=self.map_shape
        )

    def from_map(self, maps: Tensor) -> Tensor:
        """The values (R, C) of a map (B, C, H, W)."""
        if self.is_map:
            return rows_of(maps)
        assert self.cells is not None
        frames, rows, columns = self.cells.T
        return maps[frames, :, rows, columns]


@dataclass(frozen=True)
class Layer:
    """What is known of a layer before it has run.

    Attributes:
        module: its output is the layer's features.
        channels: C of these.
        most_rows: of one frame, while training.
        to_rows: turns the module's output and the prepared points into rows.
        norm: the batch norm that scales the features, before a ReLU or without; None if there is
            none.
        map_shape: see `Rows`.
        is_map: see `Rows`.
    """

    module: nn.Module
    channels: int
    most_rows: int
    to_rows: Callable[[Any, Any], Rows]
    norm: nn.Module | None = None
    map_shape: MapShape | None = None
    is_map: bool = False

    @property
    def is_before_relu(self) -> bool:
        """Whether the features are those of the batch norm, negative ones among them."""
        return self.module is self.norm


def split_frames(values: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Values (R, ...) as those of each frame, by their numbers."""
    return torch.split(values, list(sizes))


@contextmanager
def read_layers(layers: Mapping[str, Layer]) -> Iterator[dict[str, Any]]:
    """Collect the newest output of each layer, under its name, while the context is open."""
    outputs: dict[str, Any] = {}

    with ExitStack() as stack:
        for name, layer in layers.items():
            handle = layer.module.register_forward_hook(_keep(outputs, name, layer))
            stack.callback(handle.remove)
        yield outputs


def _keep(outputs: dict[str, Any], name: str, layer: Layer) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: object, output: Any) -> None:
        # A ReLU behind a norm works in place.
        outputs[name] = output.clone() if layer.is_before_relu else output

    return hook


# --- rows of what detectors have in common ---------------------------------------------------


def voxel_layer(
    module: nn.Module, grid: Grid, *, channels: int, max_voxels: int, norm: nn.Module | None = None
) -> Layer:
    """A module whose output is (P, C) features of voxels.

    Args:
        module: its output is looked at.
        grid: of the voxels; they are cells of a map where it has one layer.
        channels: C.
        max_voxels: most of one frame, while training.
        norm: see `Layer`.
    """
    columns, rows, layers = grid.shape
    return Layer(
        module,
        channels,
        min(max_voxels, columns * rows * layers),
        lambda features, voxels: voxel_rows(features, voxels, grid),
        norm,
        grid.bev_shape if layers == 1 else None,
    )


def map_layer(
    module: nn.Module,
    grid: Grid,
    *,
    channels: int,
    stride: int,
    norm: nn.Module | None = None,
    level: int | None = None,
) -> Layer:
    """A module whose output is a map (B, C, H, W) that covers the grid.

    Args:
        module: its output is looked at.
        grid: that the map covers.
        channels: C.
        stride: cells of the grid per cell of the map, along each axis.
        norm: see `Layer`.
        level: which map, if the module's output is several maps.
    """
    height, width = shape = grid.strided_bev_shape(stride)
    return Layer(
        module,
        channels,
        height * width,
        lambda maps, voxels: map_rows(maps if level is None else maps[level], voxels, grid),
        norm,
        shape,
        is_map=True,
    )


def sparse_layer(
    module: nn.Module, grid: Grid, *, channels: int, strides: tuple[int, int], max_voxels: int
) -> Layer:
    """A module whose output is a sparse tensor.

    Args:
        module: its output is looked at.
        grid: of the voxels that the network begins with.
        channels: C.
        strides: cells of the grid per cell of the tensor, along z and along y and x.
        max_voxels: most voxels of one frame, while training.
    """
    up, across = strides
    columns, rows, layers = (
        -(-size // stride) for size, stride in zip(grid.shape, (across, across, up), strict=True)
    )
    return Layer(
        module,
        channels,
        min(8 * max_voxels, columns * rows * layers),  # a strided convolution reaches neighbors
        lambda tensor, voxels: sparse_rows(tensor, voxels, grid, strides),
    )


def voxel_rows(features: Tensor, voxels: Voxels, grid: Grid) -> Rows:
    """A row per voxel, of features (P, C)."""
    coords = voxels.coords
    flat = grid.shape[2] == 1
    return Rows(
        features,
        tuple(voxels.sizes),
        cell_centers(coords, grid),
        voxels.num_points,
        coords[:, [0, 2, 3]] if flat else None,
        grid.bev_shape if flat else None,
    )


def sparse_rows(
    tensor: SparseTensor, voxels: Voxels, grid: Grid, strides: tuple[int, int]
) -> Rows:
    """A row per occupied cell of a sparse tensor whose cells are larger; see `sparse_layer`.

    Behind a cell are the points of the voxels in its own part of the grid.
    """
    device, (depth, height, width) = tensor.features.device, tensor.sites.shape
    coords = torch.from_numpy(tensor.sites.coords).to(device)
    sizes = coords[:, 0].bincount(minlength=tensor.sites.batch_size)

    def keys(cells: Tensor) -> Tensor:
        frame, layer, row, column = cells.unbind(1)
        numbers: Tensor = ((frame * height + row) * width + column) * depth + layer
        return numbers

    up, across = strides
    steps = torch.tensor([1, up, across, across], device=device)
    own = voxels.coords.div(steps, rounding_mode='floor')
    own[:, 1].clamp_(max=depth - 1)
    places = torch.searchsorted(keys(coords), keys(own)).clamp(max=max(len(coords) - 1, 0))
    found = keys(coords)[places] == keys(own) if len(coords) else places < 0
    counts = voxels.num_points.new_zeros(len(coords))
    counts.index_add_(0, places[found], voxels.num_points[found])
    scaled = (coords + 0.5) * steps - 0.5
    return Rows(tensor.features, tuple(sizes.tolist()), cell_centers(scaled, grid), counts)


def map_rows(maps: Tensor, voxels: Voxels, grid: Grid) -> Rows:
    """A row per cell of a map (B, C, H, W) that covers the grid.

    A cell has the points of all voxels in it, and its position is in the middle of the range's
    height.
    """
    batch_size, _, height, width = maps.shape
    axes = [torch.arange(size, device=maps.device) for size in (batch_size, height, width)]
    cells = torch.cartesian_prod(*axes)
    scale = torch.tensor(grid.bev_shape, device=maps.device) / torch.tensor(
        (height, width), device=maps.device
    )
    middle = torch.full_like(cells[:, :1], grid.shape[2] / 2 - 0.5, dtype=torch.float32)
    coords = torch.cat([cells[:, :1], middle, (cells[:, 1:].float() + 0.5) * scale - 0.5], dim=1)

    frame, _, row, column = voxels.coords.T
    row, column = row * height // grid.bev_shape[0], column * width // grid.bev_shape[1]
    counts = voxels.num_points.new_zeros(len(cells))
    return Rows(
        rows_of(maps),
        (height * width,) * batch_size,
        cell_centers(coords, grid),
        counts.index_add(0, (frame * height + row) * width + column, voxels.num_points),
        cells,
        (height, width),
        is_map=True,
    )


def rows_of(maps: Tensor) -> Tensor:
    """(B, C, H, W) as (B H W, C): no copy of maps in channels-last memory."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def pool_to(rows: Rows, map_shape: MapShape | None, features: Tensor) -> Tensor:
    """Features (R, C) of the cells of a map, averaged to a coarser map if there is one."""
    if rows.map_shape == map_shape:
        return features
    assert map_shape is not None
    return rows_of(F.adaptive_avg_pool2d(rows.to_map(features), map_shape))


# --- outputs of modules ----------------------------------------------------------------------


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors of features in a module's output: a tensor, several, or a sparse one."""
    if isinstance(output, SparseTensor):
        return [output.features]
    return list(output) if isinstance(output, (tuple, list)) else [output]


def with_tensors(output: Any, tensors: Sequence[Tensor]) -> Any:
    """A module's output with other tensors in place of those of `tensors_of`."""
    if isinstance(output, SparseTensor):
        return replace(output, features=tensors[0])
    return tuple(tensors) if isinstance(output, (tuple, list)) else tensors[0]
