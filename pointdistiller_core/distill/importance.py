# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How much a pillar or a cell of a map matters: importance for sampling and weighting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import logging

import torch
from torch import Tensor

from pointdistiller_core.distill.term import Lesson, View
from pointdistiller_core.errors import ConfigError
from pointdistiller_core.models.layer import Rows, pool_to, tensors_of, with_tensors

logger = logging.getLogger(__name__)

IMPORTANCE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    'num_points': lambda features, num_points: num_points.to(features.dtype),
    'channel_max': lambda features, _num_points: features.amax(dim=1),
    'abs_mean': lambda features, _num_points: features.abs().mean(dim=1),
    'uniform': lambda features, _num_points: features.new_zeros(len(features)),
}
"""Scores (R,) of rows by their teacher features (R, C) and point counts (R,) int64.

`num_points` is the paper's score for voxels and pillars, `channel_max` its score for points and
what the authors' code uses wherever the features are a map; `abs_mean` is a remark of that code.
`uniform` prefers none.
"""


def _confidence(lesson: Lesson, _tap: str, rows: Rows) -> Tensor:
    """How sure the teacher is of any class."""
    return _confidences(lesson.teacher, rows).amax(dim=1)


def _disagreement(lesson: Lesson, _tap: str, rows: Rows) -> Tensor:
    """The largest difference of the networks' confidence in a class."""
    ours, theirs = (_confidences(view, rows) for view in (lesson.student, lesson.teacher))
    return (theirs - ours).abs().amax(dim=1)


def _confidences(view: View, rows: Rows) -> Tensor:
    """(R, K); 0 where nothing was seen."""
    confidences: Tensor = view.model.confidences(view.output, rows)
    return confidences.detach()


def _gradient(lesson: Lesson, tap: str, rows: Rows) -> Tensor:
    """Length of the gradient of the student's detection loss in its features."""
    assert lesson.detection_loss is not None
    output = lesson.student.outputs[tap]
    tensors = tensors_of(output)
    gradients = torch.autograd.grad(
        lesson.detection_loss, tensors, retain_graph=True, allow_unused=True
    )
    filled = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(tensors, gradients, strict=True)
    ]
    layer = lesson.student.model.layers()[tap]
    own = layer.to_rows(with_tensors(output, filled), lesson.prepared)
    lengths = own.features.float().norm(dim=1, keepdim=True)
    return pool_to(own, rows.map_shape, lengths)[:, 0]


IMPORTANCE_OF_OUTPUTS: Mapping[str, Callable[[Lesson, str, Rows], Tensor]] = {
    'confidence': _confidence,
    'gradient': _gradient,
    'disagreement': _disagreement,
}
"""Scores (R,) of rows of a tap by what the networks made of them."""
NEEDS_TEACHER_OUTPUT = {'confidence', 'disagreement'}


@torch.no_grad()
def score_rows(name: str, lesson: Lesson, tap: str, rows: Rows, teacher: Tensor) -> Tensor:
    """Importance (R,) of rows, by its name; without gradients.

    Args:
        name: a key of `IMPORTANCE` or `IMPORTANCE_OF_OUTPUTS`.
        lesson: of the batch.
        tap: layer of the rows.
        rows: places of the rows, and the points behind them.
        teacher: (R, C) its features.
    """
    if name in IMPORTANCE:
        return IMPORTANCE[name](teacher, rows.num_points)
    return IMPORTANCE_OF_OUTPUTS[name](lesson, tap, rows)


def check_importance(name: str, taps: Sequence[str], *, where: str) -> None:
    """Check that the importance can be had of these layers.

    Raises:
        ConfigError: it is `gradient`, and one of them is before a ReLU, which works in place.
    """
    if name == 'gradient' and (wrong := [tap for tap in taps if tap.endswith('.norm')]):
        raise ConfigError(
            f'{where}.importance gradient: there is none of {wrong}, which a ReLU replaces; tap '
            'the same without .norm, or choose another importance'
        )


class SampleWarning:
    """Says once that nearly all rows are sampled, so that importance chooses nothing."""

    SHARE = 0.9

    def __init__(self, where: str) -> None:
        self._where = where
        self._said = False

    def __call__(self, num_samples: int, sizes: Sequence[int]) -> None:
        """Look at a batch, of whose frames with rows of these numbers so many are sampled."""
        num_rows = sum(sizes)
        taken = sum(min(num_samples, size) for size in sizes)
        if self._said or not num_rows or taken < self.SHARE * num_rows:
            return
        self._said = True
        logger.warning(
            '%s: %d samples of a frame are nearly all of its rows (%d on average), so importance '
            'chooses little; sample fewer',
            self._where,
            num_samples,
            round(num_rows / len(sizes)),
        )


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
    if sample == 'top':  # not topk, which takes others of equal ones on other devices
        return importance.argsort(descending=True, stable=True)[:num_samples]
    order = importance.argsort(descending=True, stable=True)
    num_top = (num_samples + 1) // 2 if sample == 'mixed' else 0
    return torch.cat([order[:num_top], order[len(order) - (num_samples - num_top) :]])


def sample_top_and_random(importance: Tensor, num_samples: int) -> Tensor:
    """The most important rows, and as many of the others at random; each at most once.

    Equally important rows are taken in random order.

    Args:
        importance: (R,) scores.
        num_samples: of either kind; fewer if there are not so many.

    Returns:
        (S,) int64.
    """
    shuffled = torch.randperm(len(importance), device=importance.device)
    order = shuffled[importance[shuffled].argsort(descending=True, stable=True)]
    others = order[num_samples:]
    drawn = torch.randperm(len(others), device=importance.device)[:num_samples]
    return torch.cat([order[:num_samples], others[drawn]])


def scale_to_one(importance: Tensor) -> Tensor:
    """Scores (S,) scaled to 0 to 1; 0 where all are equal."""
    if not len(importance):
        return importance
    low, high = importance.aminmax()
    return (importance - low) / (high - low).clamp(min=torch.finfo(importance.dtype).tiny)
