# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Attention-guided and non-local distillation (Zhang and Ma, ICLR 2021).

Its authors released the supplement alone; forms and numbers are those of the known ports to
mmdetection, which were made from it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pointdistiller_core.config import AttentionNonlocalConfig
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.adapters import build_adapter
from pointdistiller_core.distill.terms.feature_term import (
    FeatureTerm,
    Pair,
    safe_norm,
    split_frames,
)


class AttentionNonlocalTerm(FeatureTerm):
    """Four distances of each tap: masked features, channel means, spatial means, relations."""

    config: AttentionNonlocalConfig

    def __init__(
        self,
        config: AttentionNonlocalConfig,
        *,
        teacher: Mapping[str, int],
        student: Mapping[str, int],
    ) -> None:
        super().__init__(config, teacher=teacher, student=student)
        self.levels = nn.ModuleList(
            AttentionNonlocalLevel(config, *channels) for channels in self.channels
        )

    def compare(self, level: int, pair: Pair, _lesson: Lesson) -> Tensor:
        """Weighted sum of the four."""
        config, distances = self.config, self.levels[level](pair)
        weights = {
            'feature': config.feature_weight,
            'channel': config.channel_weight,
            'spatial': config.spatial_weight,
            'nonlocal': config.nonlocal_weight,
        }
        return torch.stack([weight * distances[name] for name, weight in weights.items()]).sum()


class AttentionNonlocalLevel(nn.Module):
    """The distances of one tap, with their adapters.

    Args:
        config: sizes and temperature.
        student: C of the student.
        teacher: C of the teacher.
    """

    def __init__(self, config: AttentionNonlocalConfig, student: int, teacher: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        inner = {'inner': config.nonlocal_channels, 'stride': config.nonlocal_stride}
        self.feature_adapter = build_adapter(student, teacher, 'linear')
        self.channel_adapter = build_adapter(student, teacher, 'linear')
        self.spatial_adapter = nn.Conv2d(1, 1, 3, padding=1)
        self.student_relations = NonLocalBlock(student, **inner)
        self.teacher_relations = NonLocalBlock(teacher, **inner)
        self.relation_adapter = build_adapter(student, teacher, 'linear')

    def forward(self, pair: Pair) -> dict[str, Tensor]:
        """Euclidean distances over the whole batch, by name."""
        adapted = self.feature_adapter(pair.student)
        difference = (pair.teacher - adapted) * self._mask(pair, adapted).sqrt()
        channels = self.channel_adapter(pair.frame_means(pair.student))
        space = self.spatial_adapter(pair.to_map(pair.student.mean(dim=1, keepdim=True)))
        relations = self.relation_adapter(self.student_relations(pair, pair.student))
        return {
            'feature': safe_norm(difference),
            'channel': safe_norm(pair.frame_means(pair.teacher) - channels),
            'spatial': safe_norm(pair.teacher.mean(dim=1, keepdim=True) - pair.from_map(space)),
            'nonlocal': safe_norm(self.teacher_relations(pair, pair.teacher) - relations),
        }

    @torch.no_grad()
    def _mask(self, pair: Pair, adapted: Tensor) -> Tensor:
        """(N, C_T) product of a mask over rows and one over channels, each of both networks.

        The student has a channel mask of its own only once it has the teacher's channels.
        """
        rows = [
            row_mask(features, pair.sizes, temperature=self.temperature)
            for features in (pair.teacher, pair.student)
        ]
        channels = [
            channel_mask(pair.frame_means(features.abs()), temperature=self.temperature)
            for features in (pair.teacher, adapted)
        ]
        over_rows, over_channels = (torch.stack(masks).mean(dim=0) for masks in (rows, channels))
        return over_rows[:, None] * over_channels[pair.frames]


def row_mask(rows: Tensor, sizes: tuple[int, ...], *, temperature: float) -> Tensor:
    """(N,) softmax of the mean magnitude of rows (N, C), of mean 1 in each frame."""
    energies = split_frames(rows.abs().mean(dim=1) / temperature, sizes)
    return torch.cat([len(energy) * energy.softmax(dim=0) for energy in energies])


def channel_mask(magnitudes: Tensor, *, temperature: float) -> Tensor:
    """(B, C) softmax of the mean magnitude of channels (B, C), of mean 1 in each frame."""
    return magnitudes.shape[1] * (magnitudes / temperature).softmax(dim=1)


class NonLocalBlock(nn.Module):
    """Dot-product non-local block (Wang et al., CVPR 2018): every row sees all rows of its frame.

    The affinities, Q K^T over the number of keys, are never built: without a softmax Q (K^T V) is
    the same and grows with the number of rows instead of its square. There is no batch norm, and
    no start at zero, from which the block would be no more than its input.

    Args:
        channels: C.
        inner: channels of queries, keys and values.
        stride: of the max pooling of keys and values on maps.
    """

    def __init__(self, channels: int, *, inner: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.query, self.key, self.value = (nn.Linear(channels, inner) for _ in range(3))
        self.output = nn.Linear(inner, channels)

    def forward(self, pair: Pair, rows: Tensor) -> Tensor:
        """Rows (N, C) plus what they take from the rows of their frame."""
        queries = pair.split(self.query(rows))
        keys, values = (self._pooled(pair, layer(rows)) for layer in (self.key, self.value))
        taken = [
            query @ (key.T @ value / max(len(key), 1))
            for query, key, value in zip(queries, keys, values, strict=True)
        ]
        response: Tensor = self.output(torch.cat(taken))
        return rows + response

    def _pooled(self, pair: Pair, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows (n, C) of each frame."""
        if not pair.is_map:
            return pair.split(rows)
        maps = rows.view(len(pair.sizes), *pair.bev_shape, -1)
        return tuple(max_pool(maps, self.stride).flatten(1, 2))


def max_pool(maps: Tensor, stride: int) -> Tensor:
    """Max pooling of (B, H, W, C) in windows of `stride`; deterministic on GPUs, too."""
    batch_size, rows, columns, channels = maps.shape
    height, width = min(stride, rows), min(stride, columns)
    whole = maps[:, : rows - rows % height, : columns - columns % width]
    windows = (batch_size, rows // height, height, columns // width, width, channels)
    return whole.reshape(windows).amax(dim=(2, 4))
