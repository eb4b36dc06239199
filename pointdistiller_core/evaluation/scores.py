# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Results of metrics, and the frames as metrics see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.records import Frame

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]


class Annotated(Protocol):
    """Labelled frames by their number, as a metric sees them."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels, those of detections too, are indices into these."""
        ...

    @property
    def frame_ids(self) -> Sequence[str]:
        """Names of the frames."""
        ...

    def __getitem__(self, index: int, /) -> Frame: ...

    def annotations(self, index: int, /) -> Any:
        """The data that the dataset's own metric needs of a frame, beside points and boxes."""
        ...


@dataclass(frozen=True)
class Scores:
    """Results of a metric; any float may be NaN if there are no labels to find.

    Attributes:
        means: over the classes, by name; the first one is the headline.
        by_class: class -> column -> value.
        num_labels: class -> labels that count.
        details: everything else: mappings, sequences, numbers and texts.
    """

    means: Mapping[str, float]
    by_class: Mapping[str, Mapping[str, float]]
    num_labels: Mapping[str, int]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, float]:
        """A line of a table: the means, then the last column of each class, e.g. `3D Car`."""
        last = {
            f'{list(columns)[-1].removesuffix(" AP")} {name}': list(columns.values())[-1]
            for name, columns in self.by_class.items()
        }
        return {**self.means, **last}

    @property
    def summary(self) -> dict[str, Any]:
        """Everything except the details, for JSON."""
        names = ('means', 'by_class', 'num_labels')
        return {name: to_json(getattr(self, name)) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON, to four decimals."""
        plain: dict[str, Any] = to_json({**self.summary, 'details': self.details}, digits=4)
        return plain

    @classmethod
    def from_summary(cls, values: Mapping[str, Any]) -> Scores:
        """Scores without details, from their `summary`.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: it is not one.
        """
        return cls(
            _numbers(values['means']),
            {name: _numbers(columns) for name, columns in values['by_class'].items()},
            {name: int(number) for name, number in values['num_labels'].items()},
        )


@dataclass(frozen=True)
class Alarms:
    """False alarms of a detector at T of the given recalls, in their order.

    Attributes:
        num_truth: labels that count.
        scores: (T,) the highest threshold that reaches each recall.
        recall: (T,) part of the labels that are found with at least this score.
        counts: (T,) false alarms with at least this score, of all frames together.
    """

    num_truth: int
    scores: FloatArray
    recall: FloatArray
    counts: FloatArray


def to_json(value: Any, *, digits: int | None = None) -> Any:
    """Plain values of mappings, sequences, numbers and texts; None for NaN.

    Args:
        value: of any depth.
        digits: decimals of every float; None keeps them all.
    """
    if isinstance(value, Mapping):
        return {key: to_json(each, digits=digits) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(each, digits=digits) for each in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if digits is None else round(value, digits)
    return value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}
