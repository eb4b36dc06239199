# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Attention-guided and non-local distillation (Zhang and Ma, ICLR 2021).

Its authors released only the supplement; forms and numbers are those of the known ports to
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
)
from pointdistiller_core.models.layer import Rows, split_frames


class AttentionNonlocalTerm(FeatureTerm):
    """Four distances of each tap: masked features, channel means, spatial means, relations."""

    config: AttentionNonlocalConfig
    needs_cells = True  # the adapter of the spatial means is a convolution

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
        space = self.spatial_adapter(pair.rows.to_map(pair.student.mean(dim=1, keepdim=True)))
        seen = pair.rows.from_map(space)
        relations = self.relation_adapter(self.student_relations(pair.rows, pair.student))
        return {
            'feature': safe_norm(difference),
            'channel': safe_norm(pair.frame_means(pair.teacher) - channels),
            'spatial': safe_norm(pair.teacher.mean(dim=1, keepdim=True) - seen),
            'nonlocal': safe_norm(self.teacher_relations(pair.rows, pair.teacher) - relations),
        }

    @torch.no_grad()
    def _mask(self, pair: Pair, adapted: Tensor) -> Tensor:
        """(N, C_T) product of a mask over rows and one over channels, each of both networks.

        The student has a channel mask of its own only after it is adapted to the teacher's
        channels.
        """
        rows = [
            row_mask(features, pair.rows.sizes, temperature=self.temperature)
            for features in (pair.teacher, pair.student)
        ]
        channels = [
            channel_mask(pair.frame_means(features.abs()), temperature=self.temperature)
            for features in (pair.teacher, adapted)
        ]
        over_rows, over_channels = (torch.stack(masks).mean(dim=0) for masks in (rows, channels))
        return over_rows[:, None] * over_channels[pair.rows.frames]


def row_mask(values: Tensor, sizes: tuple[int, ...], *, temperature: float) -> Tensor:
    """(N,) softmax of the mean magnitude of values (N, C), of mean 1 in each frame."""
    energies = split_frames(values.abs().mean(dim=1) / temperature, sizes)
    return torch.cat([len(energy) * energy.softmax(dim=0) for energy in energies])


def channel_mask(magnitudes: Tensor, *, temperature: float) -> Tensor:
    """(B, C) softmax of the mean magnitude of channels (B, C), of mean 1 in each frame."""
    return magnitudes.shape[1] * (magnitudes / temperature).softmax(dim=1)


class NonLocalBlock(nn.Module):
    """Dot-product non-local block (Wang et al., CVPR 2018): every row sees all rows of its frame.

    The affinities, Q K^T over the number of keys, are never built: without a softmax Q (K^T V) is
    the same and grows with the number of rows instead of its square. There is no batch norm, and
    no start at zero, with which the block would only return its input.

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

    def forward(self, rows: Rows, features: Tensor) -> Tensor:
        """Features (N, C) plus what they gather from their frame."""
        queries = rows.split(self.query(features))
        keys, values = (self._pooled(rows, layer(features)) for layer in (self.key, self.value))
        taken = [
            query @ (key.T @ value / max(len(key), 1))
            for query, key, value in zip(queries, keys, values, strict=True)
        ]
        response: Tensor = self.output(torch.cat(taken))
        return features + response

    def _pooled(self, rows: Rows, values: Tensor) -> tuple[Tensor, ...]:
        """Values (n, C) of each frame."""
        if not rows.is_map:
            return rows.split(values)
        maps = rows.to_map(values).permute(0, 2, 3, 1)
        return tuple(max_pool(maps, self.stride).flatten(1, 2))


def max_pool(maps: Tensor, stride: int) -> Tensor:
    """Max pooling of (B, H, W, C) in windows of `stride`; deterministic on GPUs, too."""
    batch_size, rows, columns, channels = maps.shape
    height, width = min(stride, rows), min(stride, columns)
    whole = maps[:, : rows - rows % height, : columns - columns % width]
    windows = (batch_size, rows // height, height, columns // width, width, channels)
    return whole.reshape(windows).amax(dim=(2, 4))
