# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Contrast of local graphs: PointDistiller's graphs and weights, taught as CRD teaches rows.

The distance of PointDistiller has a trivial minimum, at which both adapters give a constant. Here
every graph feature G of the student must find the teacher's of the same graph among all others of
the batch, so a constant costs the most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from pointdistiller_core.config import GraphContrastConfig
from pointdistiller_core.distill.importance import (
    NEEDS_TEACHER_OUTPUT,
    SampleWarning,
    check_importance,
    importance_weights,
    sample_top_and_random,
    scale_to_one,
    score_rows,
)
from pointdistiller_core.distill.term import Lesson
from pointdistiller_core.distill.terms.contrastive import contrast
from pointdistiller_core.distill.terms.feature_term import FeatureTerm, Pair
from pointdistiller_core.distill.terms.local_graph import (
    EdgeTerms,
    GraphAdapter,
    LocalGraphs,
    sum_terms,
)
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.models.layer import split_frames
from pointdistiller_core.pointcloud.neighbors import knn


class GraphContrastTerm(FeatureTerm):
    """Each graph of the student finds the teacher's among all of a batch, and vice versa.

    A graph is a row i with its nearest neighbors j in the teacher's standardized features. Of each
    network, an edge [x_i - x_j, x_i] goes through a linear layer with batch norm and ReLU, and the
    edges of a graph are pooled by their maximum. With one neighbor, which is the row itself, that
    is a contrast of rows.
    """

    config: GraphContrastConfig

    def __init__(
        self,
        config: GraphContrastConfig,
        *,
        teacher: Mapping[str, int],
        student: Mapping[str, int],
    ) -> None:
        super().__init__(config, teacher=teacher, student=student)
        self.needs_teacher_output = config.importance in NEEDS_TEACHER_OUTPUT
        self._warn = SampleWarning(f'distillation.terms.{config.name}.num_samples')
        self.student_adapters, self.teacher_adapters = (
            nn.ModuleList(
                GraphAdapter(channels[side], config.channels, edge='difference')
                for channels in self.channels
            )
            for side in (0, 1)
        )

    def check(self, teacher: AnyDetector, student: AnyDetector) -> None:
        """As `FeatureTerm.check`, and for an importance that cannot be had of the taps."""
        super().check(teacher, student)
        where = f'distillation.terms.{self.config.name}'
        check_importance(self.config.importance, self.taps, where=where)

    def compare(self, level: int, pair: Pair, lesson: Lesson) -> Tensor:
        """InfoNCE of both directions, added; 0 without rows."""
        config, frames = self.config, pair.rows.occupied()
        importance = score_rows(config.importance, lesson, pair.tap, pair.rows, pair.teacher)
        kept, sizes = torch.cat(frames), tuple(map(len, frames))
        self._warn(2 * config.num_samples, sizes)
        teacher = pair.teacher[kept]
        graphs = build_frame_graphs(teacher, importance[kept], sizes, config)
        # Also without rows, because other processes wait for this one's statistics.
        ours = self.student_adapters[level](pair.student[kept], graphs)
        theirs = self.teacher_adapters[level](teacher, graphs)
        if not graphs:
            return sum_terms(ours) + sum_terms(theirs)
        return contrast(
            graph_features(ours, graphs),
            graph_features(theirs, graphs),
            temperature=config.temperature,
            weights=torch.cat([graph.weights for graph in graphs]),
        )


@torch.no_grad()
def build_frame_graphs(
    features: Tensor, importance: Tensor, sizes: tuple[int, ...], config: GraphContrastConfig
) -> list[LocalGraphs]:
    """Graphs inside each frame that has rows; indices are of all rows.

    Args:
        features: (R, C) of the teacher.
        importance: (R,) scores.
        sizes: rows of each frame.
        config: sizes and weighting.
    """
    frames = (split_frames(values, sizes) for values in (standardize(features), importance))
    graphs, start = [], 0
    for rows, scores in zip(*frames, strict=True):
        if len(rows):
            centers = sample_top_and_random(scores, config.num_samples)
            neighbors = knn(rows[centers], rows, config.num_neighbors)
            # Of equal rows, or by rounding, another one may have been the nearest.
            neighbors[:, 0] = centers
            weights = importance_weights(
                scale_to_one(scores[centers]), config.reweight_temperature
            )
            graphs.append(LocalGraphs(start + centers, start + neighbors, weights))
        start += len(rows)
    return graphs


def standardize(features: Tensor) -> Tensor:
    """Features (R, C) of mean 0 and deviation 1 in each channel; a constant one is 0."""
    if not len(features):
        return features
    # Two passes: torch.std_mean over rows takes fifteen times as long on a CPU.
    centered = features - features.mean(dim=0)
    return centered / centered.square().mean(dim=0).sqrt().clamp(min=1e-6)


def graph_features(terms: EdgeTerms, graphs: Sequence[LocalGraphs]) -> Tensor:
    """(S, D) the features G of all graphs, from normalized edges (R, D).

    The maximum of ReLU(neighbor[j] + center[i]) over j needs no sum for each edge; its gradient
    goes to the row that it came from, in each channel.
    """
    pooled = [
        terms.neighbor.gather(0, _highest_rows(terms.neighbor, graph.neighbors))
        + terms.center[graph.centers]
        for graph in graphs
    ]
    return F.relu(torch.cat(pooled))


@torch.no_grad()
def _highest_rows(values: Tensor, neighbors: Tensor) -> Tensor:
    """(S, D) which of its neighbors (S, K) has the highest value (R, D), in each channel."""
    best = F.embedding(neighbors, values).max(dim=1).indices  # argmax takes twice the time
    return neighbors.gather(1, best)
