# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How much a pillar or a cell of a map matters: importance for sampling and weighting."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

IMPORTANCE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    'num_points': lambda features, num_points: num_points.to(features.dtype),
    'channel_max': lambda features, _num_points: features.amax(dim=1),
    'abs_mean': lambda features, _num_points: features.abs().mean(dim=1),
}
"""Scores (R,) of rows by their teacher features (R, C) and point counts (R,) int64.

`num_points` is the paper's score for voxels and pillars, `channel_max` its score for points and
what the authors' code uses wherever the features are a map; `abs_mean` is a remark of that code.
"""


def importance_weights(importance: Tensor, temperature: float) -> Tensor:
    """Weights of the sampled pillars in the loss: softmax over the samples, of mean 1.

    Point counts are integers up to 32: at the authors' temperature of 0.01 only the pillars tied
    at the largest count keep a weight; about 10 gives a graded weighting.

    Args:
        importance: (S,) scores of the samples.
        temperature: divides the scores; a higher one gives more even weights.

    Returns:
        (S,) weights.
    """
    return len(importance) * torch.softmax(importance / temperature, dim=0)


def sample_rows(
    importance: Tensor,
    num_samples: int,
    sample: str,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Rows to compare, each at most once.

    Args:
        importance: (R,) scores.
        num_samples: S, clipped to P.
        sample: 'top' or 'bottom' by importance, 'mixed' for half of each (as the authors' code),
            'random' for random draws.
        generator: of the draws; None is torch's global one.

    Returns:
        (S,) int64.
    """
    num_samples = min(num_samples, len(importance))
    if sample == 'random':
        order = torch.randperm(len(importance), device=importance.device, generator=generator)
        return order[:num_samples]
    if sample == 'top':
        return importance.topk(num_samples).indices
    order = importance.argsort(descending=True, stable=True)
    num_top = (num_samples + 1) // 2 if sample == 'mixed' else 0
    return torch.cat([order[:num_top], order[len(order) - (num_samples - num_top) :]])
