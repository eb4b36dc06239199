# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A fixed number of points of each cloud, as a network on points needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistiller_core.grid import Range
from pointdistiller_core.records import Cut


@dataclass(frozen=True)
class SampledPoints:
    """The points of a batch that a network sees.

    Frames without a point in range have no place: D of the B frames have N points each.

    Attributes:
        points: (D, N, F) float32 x, y, z [m] and further columns, LiDAR frame.
        num_points: (D, N) int64: 1, and 0 of a point that was drawn a second time.
        frames: (D,) frame in the batch of each cloud, ascending.
        batch_size: B.
        owners: per frame (N',) int64, the place of each input point as an index into the D N
            points; -1 out of range and of points that were not drawn.
        cuts: `points` of those in range, summed over the frames.
    """

    points: Tensor
    num_points: Tensor
    frames: tuple[int, ...]
    batch_size: int
    owners: tuple[Tensor, ...]
    cuts: Mapping[str, Cut]

    def __len__(self) -> int:
        return self.num_points.numel()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Places of each frame."""
        size = self.points.shape[1]
        return tuple(size if frame in self.frames else 0 for frame in range(self.batch_size))


def sample_points(
    points: Sequence[Tensor],
    point_cloud_range: Range,
    *,
    num_points: int,
    far: float,
    seed: int | None,
) -> SampledPoints:
    """Draw the same number of points from each cloud, as OpenPCDet does.

    Only x and y decide whether a point is in range. Of too many points, all that are far are kept
    if they are fewer than `num_points`, and the near ones are drawn; of too few, some are drawn
    again. The order is random.

    Args:
        points: B tensors (N', F) float32 x, y, z [m] and further columns, LiDAR frame. Points that
            are not finite are out of range.
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max [m].
        num_points: N.
        far: distance [m] from which points are far.
        seed: of the draws of each cloud; None takes torch's global generator.
    """
    drawn, counts, owners = [], [], []
    frames: list[int] = []
    in_range = 0
    for frame, cloud in enumerate(points):
        inside = _in_range(cloud, point_cloud_range)
        in_range += len(inside)
        own = inside.new_full((len(cloud),), -1)
        if len(inside):
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            chosen = _choose(cloud[inside], num_points, far, generator)
            places = inside[chosen]
            first = places.new_full((len(cloud),), num_points)
            slots = torch.arange(num_points, device=cloud.device)
            first.scatter_reduce_(0, places, slots, 'amin')
            own = torch.where(first < num_points, first + len(frames) * num_points, -1)
            drawn.append(cloud[places])
            counts.append((first[places] == slots).long())
            frames.append(frame)
        owners.append(own)
    none = points[0].new_zeros(0, num_points, points[0].shape[1])
    num = torch.cat([none[..., 0].long(), *(count[None] for count in counts)])
    kept = int(num.sum())
    return SampledPoints(
        points=torch.cat([none, *(cloud[None] for cloud in drawn)]),
        num_points=num,
        frames=tuple(frames),
        batch_size=len(points),
        owners=tuple(owners),
        cuts={'points': Cut(kept, in_range - kept)},
    )


def _in_range(points: Tensor, point_cloud_range: Range) -> Tensor:
    """(n,) int64 points that are finite and in range along x and y, also on its limits."""
    low = points.new_tensor(point_cloud_range[:2])
    high = points.new_tensor(point_cloud_range[3:5])
    inside = ((points[:, :2] >= low) & (points[:, :2] <= high)).all(dim=1)
    return (inside & points.isfinite().all(dim=1)).nonzero()[:, 0]


def _choose(
    points: Tensor, num_points: int, far: float, generator: torch.Generator | None
) -> Tensor:
    """(num_points,) int64 of the points (n, F), in random order."""

    def shuffled(indices: Tensor) -> Tensor:
        order = torch.randperm(len(indices), generator=generator)
        return indices[order.to(indices.device)]

    indices = torch.arange(len(points), device=points.device)
    if len(points) <= num_points:
        again = [shuffled(indices) for _ in range(-(-num_points // len(points)) - 1)]
        return shuffled(torch.cat([indices, *again])[:num_points])
    is_far = points[:, :3].norm(dim=1) >= far
    if int(is_far.sum()) >= num_points:
        return shuffled(indices)[:num_points]
    near = shuffled(indices[~is_far])
    kept = indices[is_far]
    return shuffled(torch.cat([near[: num_points - len(kept)], kept]))
