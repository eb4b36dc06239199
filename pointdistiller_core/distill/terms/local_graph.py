# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Local graph distillation with reweighting (PointDistiller, section 3).

Each of the S most important rows of a tap (pillars or cells of a map) is the center of a graph of
its k nearest neighbors in the teacher's feature space. An adapter per network maps every
edge, the pair of a center i and a neighbor j, to H = ReLU(BN(W e)), and the student's H is drawn
to the teacher's.

The S x k edges are never built as feature pairs: W is linear in the two ends of an edge, so

    W [x_j, x_i] = W_1 x_j + W_2 x_i

is two products per *row*, batch normalization shifts and scales those, and an edge costs one
addition. This is exact. The remaining work per edge is done in chunks that fit a cache, and
repeated in the backward pass, so memory does not grow with S x k x channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from pointdistiller_core.config import LocalGraphConfig
from pointdistiller_core.distill.compatibility import list_differences
from pointdistiller_core.distill.importance import (
    IMPORTANCE,
    NEEDS_TEACHER_OUTPUT,
    SampleWarning,
    check_importance,
    importance_weights,
    sample_rows,
    score_rows,
)
from pointdistiller_core.distill.term import Lesson, Term, layer_names
from pointdistiller_core.distill.terms.adapters import ADAPTER_EPS
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models import AnyDetector
from pointdistiller_core.models.layer import Rows
from pointdistiller_core.models.stages.batch_norm import BatchNormRows
from pointdistiller_core.pointcloud.neighbors import knn

_EDGES_PER_CHUNK = {'cpu': 2**15, 'cuda': 2**20}


@dataclass(frozen=True)
class LocalGraphs:
    """Local graphs of one frame; teacher and student share them. Indices are rows of features.

    Attributes:
        centers: (S,) int64 the sampled rows.
        neighbors: (S, k) int64 their neighbors, including themselves.
        weights: (S,) weight of each graph in the loss.
    """

    centers: Tensor
    neighbors: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.centers)

    def __getitem__(self, part: slice) -> LocalGraphs:
        return LocalGraphs(self.centers[part], self.neighbors[part], self.weights[part])


@dataclass(frozen=True)
class EdgeTerms:
    """A linear map of edges, as the sum of what each end contributes: `neighbor[j] + center[i]`.

    Attributes:
        neighbor: (P, C) contribution of a row as the neighbor of an edge.
        center: (P, C) contribution of a row as the center of an edge.
    """

    neighbor: Tensor
    center: Tensor


# --- graphs ----------------------------------------------------------------------------------


def build_graphs(
    features: Tensor,
    importance: Tensor,
    *,
    num_samples: int,
    num_neighbors: int,
    sample: str = 'top',
    temperature: float | None = None,
) -> LocalGraphs:
    """Graphs around sampled rows, by nearest neighbors in feature space.

    Args:
        features: (P, C) of the teacher; P >= 1.
        importance: (P,) scores.
        num_samples: graphs to build, clipped to P.
        num_neighbors: nodes of a graph, clipped to P.
        sample: see `sample_rows`.
        temperature: of the weights; None gives all graphs the same weight.
    """
    centers = sample_rows(importance, num_samples, sample)
    neighbors = knn(features[centers], features, num_neighbors)
    if temperature is None:
        return LocalGraphs(centers, neighbors, features.new_ones(len(centers)))
    return LocalGraphs(centers, neighbors, importance_weights(importance[centers], temperature))


def build_graphs_per_group(
    features: Tensor, importance: Tensor, groups: Sequence[Tensor], config: LocalGraphConfig
) -> list[LocalGraphs]:
    """`build_graphs` inside each group of rows, e.g. each frame; empty groups have none.

    Args:
        features: (P, C) of the teacher.
        importance: (P,) scores.
        groups: (n,) int64 rows of each group.
        config: sizes and weighting.
    """
    return [
        _select_rows(
            build_graphs(
                features[rows],
                importance[rows],
                num_samples=config.num_samples,
                num_neighbors=config.num_neighbors,
                sample=config.sample,
                temperature=config.temperature if config.reweight == 'importance' else None,
            ),
            rows,
        )
        for rows in groups
        if len(rows)
    ]


def _select_rows(graphs: LocalGraphs, rows: Tensor) -> LocalGraphs:
    return LocalGraphs(rows[graphs.centers], rows[graphs.neighbors], graphs.weights)


# --- edges -----------------------------------------------------------------------------------


def edge_product(features: Tensor, weight: Tensor, edge: str) -> EdgeTerms:
    """Product of edge vectors with a matrix, from one product per row and end.

    Args:
        features: (P, C).
        weight: (D, 2 C).
        edge: 'concat' for edge vectors [x_j, x_i], 'difference' for [x_i - x_j, x_i].
    """
    first, second = weight.chunk(2, dim=1)
    if edge == 'difference':
        first, second = -first, first + second
    return EdgeTerms(F.linear(features, first), F.linear(features, second))


def normalize_edges(
    terms: EdgeTerms, graphs: Sequence[LocalGraphs], norm: BatchNormRows
) -> EdgeTerms:
    """Batch normalization of terms (P, C) over all edges of all processes."""
    num_edges = sum(graph.neighbors.numel() for graph in graphs)
    mean, scale = norm.statistics(*edge_moments(terms, graphs), num_edges)
    return EdgeTerms(terms.neighbor * scale, (terms.center - mean) * scale + norm.bias)


def edge_moments(terms: EdgeTerms, graphs: Sequence[LocalGraphs]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of `neighbor[j] + center[i]` over all edges (i, j).

    The edges are not built: the square of a sum needs, beyond the squares, only each center times
    the sum of its neighbors. Both are 0 without edges.
    """
    if not graphs:
        return terms.center.sum(dim=0), terms.neighbor.sum(dim=0)
    num_edges = sum(graph.neighbors.numel() for graph in graphs)
    as_center, as_neighbor = _edge_counts(graphs, len(terms.center))
    neighbor_mean = (as_neighbor @ terms.neighbor) / num_edges
    center_mean = (as_center @ terms.center) / num_edges
    # Centered before they are squared; otherwise rounding of the mean would swamp the variance.
    neighbor, center = terms.neighbor - neighbor_mean, terms.center - center_mean
    squares = as_neighbor @ neighbor.square() + as_center @ center.square()
    products = torch.stack(
        [(center[graph.centers] * _sum_neighbors(neighbor, graph)).sum(dim=0) for graph in graphs]
    ).sum(dim=0)
    variance = (squares + 2 * products) / num_edges
    return neighbor_mean + center_mean, variance.clamp(min=0)


def _edge_counts(graphs: Sequence[LocalGraphs], num_rows: int) -> tuple[Tensor, Tensor]:
    """(P,) edges that start at each row as their center, and that end there."""
    as_center = graphs[0].weights.new_zeros(num_rows)
    as_neighbor = as_center.clone()
    for graph in graphs:
        as_center[graph.centers] += graph.neighbors.shape[1]
        as_neighbor += graph.neighbors.flatten().bincount(minlength=num_rows)
    return as_center, as_neighbor


def _sum_neighbors(values: Tensor, graph: LocalGraphs) -> Tensor:
    """(S, C) sum of the rows of each center's neighbors."""
    return F.embedding_bag(graph.neighbors, values, mode='sum')


# --- weights ---------------------------------------------------------------------------------


def reweight_by_features(
    graphs: Sequence[LocalGraphs], teacher: EdgeTerms, *, pool: str, temperature: float
) -> list[LocalGraphs]:
    """The graphs, weighted by the largest channel of the teacher's graph features.

    This is the paper's weight for points, softmax(max(G) / temperature). The weights are
    constants of the loss: no gradient flows through them.

    Args:
        graphs: of each frame.
        teacher: (P, C) normalized.
        pool: 'max' pools the edges of a graph to its feature G, all else averages them.
        temperature: divides the maxima.
    """
    pool = 'max' if pool == 'max' else 'mean'
    with torch.no_grad():
        scores = [
            torch.cat([_responses(teacher, part, pool).amax(dim=1) for part in _chunks(graph)])
            for graph in graphs
        ]
        return [
            replace(graph, weights=importance_weights(of_graph, temperature))
            for graph, of_graph in zip(graphs, scores, strict=True)
        ]


# --- loss ------------------------------------------------------------------------------------


def graph_distance(
    teacher: EdgeTerms, student: EdgeTerms, graphs: Sequence[LocalGraphs], *, pool: str, norm: str
) -> Tensor:
    """Weighted distance of the two networks' local graphs, H_T and H_S.

    With w the weight of a graph and D = H_T - H_S its edges' (or pooled) differences:
    'mean_square' is the mean of w D^2 over all entries (authors' code, without its factor of 2),
    'per_graph' the mean over graphs of w |D| (the paper), 'global' one |sqrt(w) D| over everything
    (authors' code without reweighting, without its factor of 5e-4).

    Args:
        teacher: (P, C) each, normalized.
        student: (P, C) each, normalized.
        graphs: one or more.
        pool: 'none' keeps every edge, 'max' and 'mean' pool the edges of a graph.
        norm: 'mean_square', 'per_graph' or 'global'.
    """
    squares = torch.cat([_square_distances(teacher, student, graph, pool) for graph in graphs])
    weights = torch.cat([graph.weights for graph in graphs])
    if norm == 'per_graph':
        return (weights * _safe_sqrt(squares)).mean()
    if norm == 'global':
        return _safe_sqrt((weights * squares).sum())
    members = [graph.centers if pool != 'none' else graph.neighbors for graph in graphs]
    num_entries = sum(member.numel() for member in members) * teacher.center.shape[1]
    return (weights * squares).sum() / num_entries


def _square_distances(
    teacher: EdgeTerms, student: EdgeTerms, graph: LocalGraphs, pool: str
) -> Tensor:
    """(S,) squared distance of each graph, in chunks whose edges are dropped until backward."""
    squares = [
        checkpoint(
            _square_distances_of_chunk,
            *(teacher, student, part, pool),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for part in _chunks(graph)
    ]
    return torch.cat(squares)


def _chunks(graph: LocalGraphs) -> Iterator[LocalGraphs]:
    """The graphs in parts whose edges fit a cache."""
    edges_per_chunk = _EDGES_PER_CHUNK.get(graph.neighbors.device.type, 2**15)
    size = max(1, edges_per_chunk // graph.neighbors.shape[1])
    return (graph[start : start + size] for start in range(0, len(graph), size))


def _square_distances_of_chunk(
    teacher: EdgeTerms, student: EdgeTerms, graph: LocalGraphs, pool: str
) -> Tensor:
    difference = _responses(teacher, graph, pool) - _responses(student, graph, pool)
    return difference.square().flatten(1).sum(dim=1)


def _responses(terms: EdgeTerms, graph: LocalGraphs, pool: str) -> Tensor:
    """H of the graphs: (S, k, C), or (S, C) if pooled."""
    centers = terms.center[graph.centers][:, None]
    response = F.relu(F.embedding(graph.neighbors, terms.neighbor) + centers)
    if pool == 'max':
        return response.amax(dim=1)
    return response.mean(dim=1) if pool == 'mean' else response


def _safe_sqrt(squares: Tensor) -> Tensor:
    """Square root whose slope at 0 is 0 instead of infinite."""
    return squares.clamp(min=1e-12).sqrt()


# --- modules ---------------------------------------------------------------------------------


class GraphAdapter(nn.Module):
    """ReLU(BN(W e)) on edges; the ReLU is left to `graph_distance`, where the edges are.

    Batch normalization always uses the statistics of the batch: an adapter is never deployed, so
    it keeps no running statistics.

    Args:
        in_channels: C of the features; an edge vector has 2 C.
        out_channels: D.
        edge: 'concat' or 'difference', see `edge_product`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, edge: str) -> None:
        super().__init__()
        self.edge = edge
        self.norm = BatchNormRows(out_channels, eps=ADAPTER_EPS, tracks=False)
        self.linear = nn.Linear(2 * in_channels, out_channels, bias=False)

    def forward(self, features: Tensor, graphs: Sequence[LocalGraphs]) -> EdgeTerms:
        """Normalized edges of features (P, C), as (P, D) terms."""
        terms = edge_product(features, self.linear.weight, self.edge)
        return normalize_edges(terms, graphs, self.norm)


class PlainEdges(nn.Module):
    """Edges without an adapter, for when only the student's adapter bridges the widths."""

    def __init__(self, *, edge: str) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, features: Tensor, _graphs: Sequence[LocalGraphs]) -> EdgeTerms:
        """Edges of features (P, C), as (P, 2 C) terms."""
        identity = torch.eye(2 * features.shape[1], dtype=features.dtype, device=features.device)
        return edge_product(features, identity, self.edge)


class LocalGraphLoss(nn.Module):
    """Unweighted loss of one tap, with the pair of its adapters.

    Args:
        config: every switch of the loss.
        teacher_channels: C of the tap of the teacher.
        student_channels: C of the tap of the student.
    """

    def __init__(
        self, config: LocalGraphConfig, *, teacher_channels: int, student_channels: int
    ) -> None:
        super().__init__()
        self.config = config
        plain = config.teacher_adapter == 'none'
        channels = 2 * teacher_channels if plain else config.adapter_channels
        self.student_adapter = GraphAdapter(student_channels, channels, edge=config.edge)
        self.teacher_adapter = (
            PlainEdges(edge=config.edge)
            if plain
            else GraphAdapter(teacher_channels, channels, edge=config.edge)
        )
        self.teacher_adapter.requires_grad_(config.teacher_adapter == 'trained')

    def forward(
        self, teacher: Tensor, student: Tensor, *, importance: Tensor, frames: Sequence[Tensor]
    ) -> Tensor:
        """The loss, a scalar; 0 without rows.

        Args:
            teacher: (R, C) features, without gradient.
            student: (R, C') features of the same rows.
            importance: (R,) scores of the rows.
            frames: indices of the rows of each frame.
        """
        config = self.config
        with torch.no_grad():
            groups = frames if config.per_frame else [torch.cat([*frames])]
            graphs = build_graphs_per_group(teacher, importance, groups, config)
        if not graphs:  # rows that no graph has must not count as its edges
            teacher, student = teacher[:0], student[:0]
        # Also without rows, because other processes wait for this one's statistics.
        ours, theirs = self.student_adapter(student, graphs), self.teacher_adapter(teacher, graphs)
        if not graphs:
            return sum_terms(ours) + sum_terms(theirs)
        graphs = self._reweight(graphs, theirs, batch_size=len(groups))
        return graph_distance(theirs, ours, graphs, pool=config.pool, norm=config.norm)

    def _reweight(
        self, graphs: list[LocalGraphs], teacher: EdgeTerms, *, batch_size: int
    ) -> list[LocalGraphs]:
        """Weights that follow only from the teacher's adapter, or not from the graphs."""
        config = self.config
        if config.reweight == 'graph':
            return reweight_by_features(
                graphs, teacher, pool=config.pool, temperature=config.temperature
            )
        if config.reweight == 'batch_size':
            return [replace(graph, weights=batch_size * graph.weights) for graph in graphs]
        return graphs


class LocalGraphTerm(Term):
    """Local graph distillation of one or more layers, each with its adapters; losses are summed.

    Args:
        config: every switch of the loss.
        teacher: C of each layer of the teacher.
        student: C of each layer of the student.
    """

    def __init__(
        self,
        config: LocalGraphConfig,
        *,
        teacher: Mapping[str, int],
        student: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.config = config
        self.taps = layer_names(config.taps)
        self.needs_teacher_output = config.importance in NEEDS_TEACHER_OUTPUT
        self._warn = SampleWarning(f'distillation.terms.{config.name}.num_samples')
        self.losses = nn.ModuleList(
            LocalGraphLoss(config, teacher_channels=teacher[name], student_channels=student[name])
            for name in self.taps
        )

    def check(self, teacher: AnyDetector, student: AnyDetector) -> None:
        """Check that both have the same rows to compare, and enough for the samples.

        A single frame may still have fewer; then all of its rows are taken.

        Raises:
            ConfigError: lists what differs or is too small, with both values.
        """
        where = f'distillation.terms.{self.config.name}'
        check_importance(self.config.importance, self.taps, where=where)
        sides = [
            {name: layer for name, layer in model.layers().items() if name in self.taps}
            for model in (teacher, student)
        ]
        differences = list_differences(
            *({f'cells of {n}': layer.map_shape for n, layer in side.items()} for side in sides)
        )
        if differences:
            raise ConfigError(
                f'{where}.taps: compared cell by cell; tap another layer, or make '
                'backbone.strides and neck.strides equal:\n' + '\n'.join(differences)
            )
        for name, layer in sides[1].items():
            if self.config.per_frame and self.config.num_samples > layer.most_rows:
                raise ConfigError(
                    f'{where}.num_samples {self.config.num_samples} is more than {name} of the '
                    f'models can have in a frame, which is {layer.most_rows}; sample fewer'
                )

    def forward(self, lesson: Lesson) -> Tensor:
        """Weighted loss; 0 without rows."""
        losses = [
            self._loss_of_tap(loss, lesson, tap)
            for loss, tap in zip(self.losses, self.taps, strict=True)
        ]
        return self.config.weight * torch.stack(losses).sum()

    def _loss_of_tap(self, loss: nn.Module, lesson: Lesson, tap: str) -> Tensor:
        config, rows = self.config, lesson.teacher.rows[tap]
        teacher, student = rows.features.detach(), lesson.student.rows[tap].features
        # Outside autocast: half precision is too coarse for distances and variances.
        with torch.autocast(student.device.type, enabled=False):
            importance = score_rows(config.importance, lesson, tap, rows, teacher.float())
            frames = self._frames(rows)
            self._warn(config.num_samples, _group_sizes(frames, per_frame=config.per_frame))
            result: Tensor = loss(
                teacher.float(), student.float(), importance=importance, frames=frames
            )
        return result

    def _frames(self, rows: Rows) -> Sequence[Tensor]:
        """Rows of each frame; by what networks made of them, only those with points."""
        if self.config.importance in IMPORTANCE:
            return rows.split(torch.arange(len(rows), device=rows.features.device))
        return rows.occupied()


def _group_sizes(frames: Sequence[Tensor], *, per_frame: bool) -> list[int]:
    sizes = [len(frame) for frame in frames]
    return sizes if per_frame else [sum(sizes)]


def sum_terms(terms: EdgeTerms) -> Tensor:
    """Sum of all entries; without rows it is 0, but still has gradients."""
    return terms.neighbor.sum() + terms.center.sum()
