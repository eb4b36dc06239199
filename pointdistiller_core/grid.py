# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The grid of a detector; the only place that divides extents by cell sizes."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

# float32 has steps of 0.06 m at the end of it
Bound: TypeAlias = Annotated[float, Field(ge=-1e6, le=1e6)]
Range: TypeAlias = tuple[Bound, Bound, Bound, Bound, Bound, Bound]
Size: TypeAlias = Annotated[float, Field(ge=1e-3, le=1e6)]


class Grid(BaseModel):
    """Point cloud range and voxel size, and every shape that follows from them.

    Attributes:
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max [m], LiDAR frame.
        voxel_size: extents of one cell along x, y, z [m].
    """

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)

    point_cloud_range: Range
    voxel_size: tuple[Size, Size, Size]

    @model_validator(mode='after')
    def _check_whole_cells(self) -> Grid:
        low, high = self.point_cloud_range[:3], self.point_cloud_range[3:]
        for axis, start, stop, size in zip('xyz', low, high, self.voxel_size, strict=True):
            if size <= 0 or stop <= start:
                raise ValueError(
                    f'{axis}: range [{start}, {stop}] and voxel size {size} must be positive'
                )
            cells = (stop - start) / size
            if abs(cells - round(cells)) > 1e-3:
                raise ValueError(
                    f'{axis}: range [{start}, {stop}] is not a whole number of {size} m cells '
                    f'({cells:.4f}); choose {start + round(cells) * size:g} as its end'
                )
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        low, high = self.point_cloud_range[:3], self.point_cloud_range[3:]
        nx, ny, nz = (
            round((stop - start) / size)
            for start, stop, size in zip(low, high, self.voxel_size, strict=True)
        )
        return nx, ny, nz

    @property
    def bev_shape(self) -> tuple[int, int]:
        """(H, W): cells along y, then along x."""
        nx, ny, _ = self.shape
        return ny, nx

    def strided_bev_shape(self, stride: int) -> tuple[int, int]:
        """(H, W) of a BEV map that is `stride` times coarser than the grid.

        Raises:
            ValueError: the grid's cells are not a multiple of `stride`.
        """
        height, width = self.bev_shape
        if height % stride or width % stride:
            raise ValueError(
                f'BEV grid of {height} x {width} cells is not a multiple of the stride {stride}'
            )
        return height // stride, width // stride
