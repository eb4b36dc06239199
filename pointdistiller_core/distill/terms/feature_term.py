# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What the terms that compare features share: paired rows of features, one pair per tap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
import torch.nn.functional as F

from pointdistiller_core.config import FeatureTermConfig
from pointdistiller_core.distill.taps import NECK, PILLARS
from pointdistiller_core.distill.term import Lesson, Term
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models.stages.pillar_encoder import scatter_to_bev


@dataclass(frozen=True)
class Pair:
    """Features of one tap of both networks: a row per pillar, or per cell of a map.

    Attributes:
        tap: its name.
        teacher: (N, C_T) float32, without gradients.
        student: (N, C_S) float32.
        coords: (N, 3) int64 frame, row, column.
        sizes: number of rows of each frame; the frames follow one another.
        bev_shape: H, W of the map that the rows are cells of.
    """

    tap: str
    teacher: Tensor
    student: Tensor
    coords: Tensor
    sizes: tuple[int, ...]
    bev_shape: tuple[int, int]

    @property
    def frames(self) -> Tensor:
        """(N,) int64 frame of each row."""
        return self.coords[:, 0]

    @property
    def is_map(self) -> bool:
        """Whether every cell has its row, in order."""
        return self.tap != PILLARS

    def to_map(self, rows: Tensor) -> Tensor:
        """Rows (N, C) laid out as (B, C, H, W); cells without a row are zero."""
        if self.is_map:
            return rows.view(len(self.sizes), *self.bev_shape, -1).permute(0, 3, 1, 2)
        sizes = {'batch_size': len(self.sizes), 'bev_shape': self.bev_shape}
        return scatter_to_bev(rows, self.coords, **sizes)  # type: ignore[arg-type]

    def from_map(self, maps: Tensor) -> Tensor:
        """The rows (N, C) of a map (B, C, H, W)."""
        frames, rows, columns = self.coords.T
        return rows_of(maps) if self.is_map else maps[frames, :, rows, columns]

    def frame_means(self, rows: Tensor) -> Tensor:
        """(B, C) mean of the rows (N, C) of each frame; 0 where there are none."""
        parts = self.split(rows)
        return torch.stack([part.sum(dim=0) / max(len(part), 1) for part in parts])

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows of each frame."""
        return split_frames(rows, self.sizes)


class FeatureTerm(Term):
    """A term that compares one tap after the other.

    Args:
        config: with the taps; none of them stands for all levels of the backbone.
        teacher: C of each tap of the teacher.
        student: C of each tap of the student.

    Raises:
        ConfigError: the levels of the two backbones do not match.
    """

    config: FeatureTermConfig

    def __init__(
        self,
        config: FeatureTermConfig,
        *,
        teacher: Mapping[str, int],
        student: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.config = config
        self.taps = config.taps or self.default_taps(teacher, student)
        self.channels = [(student[tap], teacher[tap]) for tap in self.taps]

    def default_taps(
        self, teacher: Mapping[str, int], student: Mapping[str, int]
    ) -> tuple[str, ...]:
        """The taps where the configuration names none."""
        return backbone_levels(teacher, student, term=self.config.name)

    def forward(self, lesson: Lesson) -> Tensor:
        """Weighted sum over the taps; finite where there are no pillars."""
        # Outside autocast: half precision is too coarse for distances and variances.
        with torch.autocast(lesson.pillars.points.device.type, enabled=False):
            pairs = [pair_features(lesson, tap) for tap in self.taps]
            losses = [self.compare(level, pair, lesson) for level, pair in enumerate(pairs)]
            return self.config.weight * torch.stack(losses).sum()

    def compare(self, level: int, pair: Pair, lesson: Lesson) -> Tensor:
        """Loss of `taps[level]`, a scalar, before the weight."""
        raise NotImplementedError


def backbone_levels(
    teacher: Mapping[str, int], student: Mapping[str, int], *, term: str
) -> tuple[str, ...]:
    """The taps behind each stage of the backbone, finest first.

    Raises:
        ConfigError: teacher and student have not as many.
    """
    ours, theirs = (
        tuple(tap for tap in taps if tap not in {PILLARS, NECK} and not tap.endswith('.norm'))
        for taps in (student, teacher)
    )
    if ours != theirs:
        raise ConfigError(
            f'distillation.terms.{term}.taps: none stands for all levels of the backbone, but the '
            f'teacher has {list(theirs)} and the student {list(ours)}; name the taps'
        )
    return ours


def pair_features(lesson: Lesson, tap: str) -> Pair:
    """Rows of both networks; maps of different resolutions are averaged to the coarser one."""
    teacher = lesson.teacher.features[tap].detach().float()
    student = lesson.student.features[tap].float()
    if tap == PILLARS:
        sizes = lesson.pillars.coords[:, 0].bincount(minlength=lesson.pillars.batch_size).tolist()
        grid = lesson.student.model.config.grid
        return Pair(
            tap,
            teacher,
            student,
            lesson.pillars.coords[:, [0, 2, 3]],
            tuple(sizes),
            grid.bev_shape,
        )
    height, width = map(min, teacher.shape[2:], student.shape[2:])
    coords = map_coords(len(student), (height, width), student.device)
    return Pair(
        tap,
        rows_of(pool_to(teacher, (height, width))),
        rows_of(pool_to(student, (height, width))),
        coords,
        (height * width,) * len(student),
        (height, width),
    )


def pool_to(maps: Tensor, bev_shape: tuple[int, int]) -> Tensor:
    """(B, C, H, W) averaged to a coarser H, W; itself if it has these."""
    return maps if maps.shape[2:] == bev_shape else F.adaptive_avg_pool2d(maps, bev_shape)


def split_frames(rows: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Rows (N, ...) as those of each frame, by their numbers."""
    return torch.split(rows, list(sizes))


def rows_of(maps: Tensor) -> Tensor:
    """(B, C, H, W) as (B H W, C): no copy of maps in channels-last memory."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def map_coords(batch_size: int, bev_shape: tuple[int, int], device: torch.device | str) -> Tensor:
    """(B H W, 3) int64 frame, row, column of every cell, in the order of `rows_of`."""
    axes = [torch.arange(size, device=device) for size in (batch_size, *bev_shape)]
    return torch.cartesian_prod(*axes)


def sample_rows(pair: Pair, lesson: Lesson, num_samples: int) -> list[Tensor]:
    """Random rows of each frame, fewer where it has fewer; of a map, of cells with points.

    Most cells of a map are empty and alike: they would say little, and nothing of each other.
    """
    frames, _, rows, columns = lesson.pillars.coords.T
    if pair.is_map:
        (height, width), grid = pair.bev_shape, lesson.student.model.config.grid.bev_shape
        rows, columns = rows * height // grid[0], columns * width // grid[1]
        chosen = torch.unique((frames * height + rows) * width + columns)
    else:
        chosen = torch.arange(len(frames), device=frames.device)
    samples = []
    for frame in range(len(pair.sizes)):
        candidates = chosen[pair.frames[chosen] == frame]
        order = torch.randperm(len(candidates), device=candidates.device)
        samples.append(candidates[order[:num_samples]])
    return samples


def mean_square(first: Tensor, second: Tensor) -> Tensor:
    """Mean of the squared differences; 0 without any, and yet a way for gradients."""
    difference = first - second
    return difference.square().sum() / max(difference.numel(), 1)


def safe_norm(values: Tensor, dim: int | None = None) -> Tensor:
    """Euclidean norm, of everything without `dim`; its slope at 0 is 0 instead of undefined."""
    return values.square().sum(dim=dim).clamp(min=1e-12).sqrt()
