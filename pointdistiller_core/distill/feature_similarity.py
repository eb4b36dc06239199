# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How alike the features of teacher and student are, by measures without adapters.

A distillation loss can fall to zero while the student learns nothing, because its adapters may
agree on a constant. These measures are not trained along: linear CKA has no trained part, and the
probe is a ridge regression that must predict features of frames that it has not seen.

Deep maps hold a few cells whose features are a hundred times as long as the others', which would
decide every sum of squares. The measures see these shortened to an ordinary length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistiller_core.distill.importance import sample_rows
from pointdistiller_core.errors import DatasetError
from pointdistiller_core.models import AnyDetector, build_detector

MIN_ROWS = 8
RIDGE = 1e-3  # of the probe, on features of variance 1 on average
ORDINARY = 0.95  # of the rows: the others are shortened to the longest of these


@dataclass(frozen=True)
class Similarity:
    """Similarity of one layer of a student with the teacher's.

    Attributes:
        cka: linear centered kernel alignment, debiased: 1 for features that are equal up to
            rotation and scale, about 0 for unrelated or constant ones.
        probe_r2: part of the variance of the teacher's features that a linear map of the
            student's predicts on held-out rows; at most 1, about 0 for unrelated or constant ones.
    """

    cka: float
    probe_r2: float


def compare_features(
    teacher: AnyDetector,
    students: Mapping[str, AnyDetector],
    clouds: Iterable[Tensor],
    *,
    rows_per_frame: int = 200,
    seed: int = 0,
) -> dict[str, dict[str, Similarity]]:
    """Similarity of some students with their teacher, at every layer whose rows they share.

    Args:
        teacher: in evaluation mode.
        students: by name, in evaluation mode; they see the same places of a cloud as the teacher.
        clouds: (N, 4) points of each frame, on the device of the networks.
        rows_per_frame: rows with points, drawn at random; all if there are fewer.
        seed: of the draws.

    Returns:
        Layer, student -> similarity.

    Raises:
        DatasetError: the clouds have fewer than `MIN_ROWS` rows at a layer.
    """
    networks = [teacher, *students.values()]
    names = shared_layers(networks)
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, list[list[Tensor]]] = {name: [] for name in names}
    for cloud in clouds:
        sampled = draw_rows(networks, cloud, names, num_rows=rows_per_frame, generator=generator)
        for name, features in sampled.items():
            rows[name].append(features)
    similarities = {}
    for name, frames in rows.items():
        _check_size(name, sum(len(of_teacher) for of_teacher, *_ in frames))
        features = [shorten_outliers(torch.cat(own)) for own in zip(*frames, strict=True)]
        similarities[name] = {
            student: Similarity(linear_cka(features[0], own), probe_r2(own, features[0]))
            for student, own in zip(students, features[1:], strict=True)
        }
    return similarities


def shared_layers(networks: Sequence[AnyDetector]) -> list[str]:
    """Layers that have the same rows in all models: places, or cells of equal maps."""
    first, *others = (network.layers() for network in networks)
    return [
        name
        for name, layer in first.items()
        if not layer.is_before_relu
        and all(
            name in other
            and (other[name].map_shape, other[name].is_map) == (layer.map_shape, layer.is_map)
            for other in others
        )
    ]


@torch.inference_mode()
def draw_rows(
    networks: Sequence[AnyDetector],
    cloud: Tensor,
    names: Sequence[str],
    *,
    num_rows: int,
    generator: torch.Generator,
) -> dict[str, list[Tensor]]:
    """By layer, (n, C) features of each network, of the same rows with points of one frame."""
    prepared = networks[0].prepare([cloud])
    rows = []
    for network in networks:
        layers, outputs = network.layers(), network.run_until(prepared, names)
        rows.append({name: layers[name].to_rows(outputs[name], prepared) for name in names})
    sampled = {}
    for name in names:
        occupied = torch.nonzero(rows[0][name].num_points).squeeze(1).cpu()
        drawn = sample_rows(occupied, num_rows, 'random', generator=generator)
        kept = occupied[drawn].to(cloud.device)
        sampled[name] = [of_network[name].features[kept].float().cpu() for of_network in rows]
    return sampled


def _check_size(name: str, num_rows: int) -> None:
    if num_rows < MIN_ROWS:
        raise DatasetError(
            f'{name}: the frames hold {num_rows} rows with points, fewer than {MIN_ROWS}; take '
            'more frames, or check that their points are in range'
        )


def shorten_outliers(features: Tensor) -> Tensor:
    """Features, shortened so that none is further from their center than the ordinary ones.

    Rotating, scaling or shifting the features does the same to the result.

    Args:
        features: (n, C), n >= 1.

    Returns:
        (n, C) float64.
    """
    features = features.double()
    center = features.mean(dim=0)
    lengths = (features - center).norm(dim=1)
    center = features[lengths <= lengths.quantile(ORDINARY)].mean(dim=0)
    lengths = (features - center).norm(dim=1, keepdim=True)
    longest = lengths.quantile(ORDINARY)
    shortened = center + (features - center) * (longest / lengths)
    return torch.where(lengths > longest, shortened, features)


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Debiased linear CKA (Kornblith et al., ICML 2019; estimator of Song et al., JMLR 2012).

    The plain form is near 1 for unrelated features that are as wide as they are many; this one
    is 0 on average. It costs n C^2: the kernel matrices are not built.

    Args:
        first: (n, C) features, n >= 4.
        second: (n, D) of the same rows.
    """
    x, y = (features.double() - features.double().mean(dim=0) for features in (first, second))
    norms = _hsic(x, x) * _hsic(y, y)
    return _hsic(x, y) / norms**0.5 if norms > 0 else 0.0


def _hsic(x: Tensor, y: Tensor) -> float:
    """Unbiased Hilbert-Schmidt independence criterion of linear kernels.

    With K = X X^T and L = Y Y^T without their diagonals:
    (tr(K L) + sum(K) sum(L) / ((n - 1) (n - 2)) - 2 / (n - 2) 1^T K L 1) / (n (n - 3)).
    """
    n = len(x)
    x_diagonal, y_diagonal = x.square().sum(dim=1), y.square().sum(dim=1)
    x_sums = x @ x.sum(dim=0) - x_diagonal
    y_sums = y @ y.sum(dim=0) - y_diagonal
    trace = (x.T @ y).square().sum() - x_diagonal @ y_diagonal
    product = x_sums.sum() * y_sums.sum() / ((n - 1) * (n - 2))
    return float((trace + product - 2 / (n - 2) * (x_sums @ y_sums)) / (n * (n - 3)))


def probe_r2(source: Tensor, target: Tensor) -> float:
    """R^2 on the second half of the rows of a ridge regression that is fitted on the first.

    All channels of the target share one R^2, so those of more variance count more.

    Args:
        source: (n, C) features to predict from.
        target: (n, D) of the same rows.
    """
    half = len(source) // 2
    source, target = source.double(), target.double()
    variances, mean = torch.var_mean(source[:half], dim=0)
    # One scale for all channels: a scale for each would blow up those that hardly vary.
    spread = variances.mean().sqrt()
    scale = spread if spread > 1e-9 * mean.abs().max() else torch.inf
    x, center = (source - mean) / scale, target[:half].mean(dim=0)
    penalty = RIDGE * half * torch.eye(x.shape[1], dtype=x.dtype)
    products = x[:half].T @ (target[:half] - center)
    weights = torch.linalg.solve(x[:half].T @ x[:half] + penalty, products)
    rest = target[half:]
    error = (rest - center - x[half:] @ weights).square().sum()
    variance = (rest - rest.mean(dim=0)).square().sum()
    return float(1 - error / variance) if variance > 0 else 0.0


def untrained_twin(model: AnyDetector, *, seed: int = 0) -> AnyDetector:
    """The same network with random weights, to show the similarity without any training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin = build_detector(model.config)
    return twin.to(next(model.parameters()).device).eval()
