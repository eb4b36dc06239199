# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a study: means and spreads over seeds, and what distillation gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeAlias

Scores: TypeAlias = Mapping[str, float]  # column -> AP|R40, moderate [%]

MEANS = {'bev': 'BEV mAP', '3d': '3D mAP'}
MODERATE = 1  # place among easy, moderate, hard


@dataclass(frozen=True)
class Arm:
    """One way to train a network.

    Attributes:
        name: its key.
        title: what readers see.
        baseline: the arm that it is compared with, if any.
    """

    name: str
    title: str
    baseline: str | None = None


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (of `num - 1`); a single value has none."""

    mean: float
    deviation: float | None
    num: int


@dataclass(frozen=True)
class Row:
    """Results of an arm.

    Attributes:
        arm: the arm.
        num_seeds: complete runs that the scores are of.
        scores: by column; empty without runs.
        gains: by column of `MEANS`, the differences to the baseline of the same seed, over the
            seeds that both have.
    """

    arm: Arm
    num_seeds: int
    scores: Mapping[str, Spread]
    gains: Mapping[str, Spread]


def moderate_scores(
    ap40: Mapping[str, Mapping[str, Sequence[float]]], class_names: Sequence[str]
) -> dict[str, float]:
    """The columns of a run: both mAPs, then the 3D AP of each class.

    Args:
        ap40: metric -> class -> AP|R40 [%] easy, moderate, hard; a class that was never detected
            is missing and counts as 0.
        class_names: classes that the mAP is the mean of.
    """
    moderate = {
        metric: [ap40.get(metric, {}).get(name, (0.0,) * 3)[MODERATE] for name in class_names]
        for metric in MEANS
    }
    means = {column: fmean(moderate[metric]) for metric, column in MEANS.items()}
    each = {f'3D {name}': value for name, value in zip(class_names, moderate['3d'], strict=True)}
    return means | each


def measure_spread(values: Sequence[float]) -> Spread:
    """Spread of one or more values."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def summarize(arms: Sequence[Arm], runs: Mapping[str, Mapping[int, Scores]]) -> list[Row]:
    """A row for each arm, from the scores of its runs by seed."""
    return [_summarize_arm(arm, runs) for arm in arms]


def _summarize_arm(arm: Arm, runs: Mapping[str, Mapping[int, Scores]]) -> Row:
    mine = runs.get(arm.name, {})
    theirs = runs.get(arm.baseline, {}) if arm.baseline is not None else {}
    columns = list(next(iter(mine.values()), {}))
    scores = {
        column: measure_spread([scores[column] for scores in mine.values()]) for column in columns
    }
    paired = sorted(mine.keys() & theirs.keys())
    gains = {
        column: measure_spread([mine[seed][column] - theirs[seed][column] for seed in paired])
        for column in (MEANS.values() if paired else ())
    }
    return Row(arm, len(mine), scores, gains)


def format_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of a table; `±` is the standard deviation over seeds."""
    columns = list(dict.fromkeys(column for row in rows for column in row.scores))
    gains = list(MEANS.values())
    cells = [
        [
            row.arm.title,
            str(row.num_seeds),
            *(_format_spread(row.scores.get(column), '.1f') for column in columns),
            *(_format_spread(row.gains.get(column), '+.1f') for column in gains),
        ]
        for row in rows
    ]
    return ['arm', 'seeds', *columns, *(f'gain in {column}' for column in gains)], cells


def _format_spread(spread: Spread | None, form: str) -> str:
    if spread is None:
        return '-'
    deviation = '' if spread.deviation is None else f' ± {spread.deviation:.1f}'
    return f'{spread.mean:{form}}{deviation}'


def format_markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """The same table for a page; numbers are right-aligned."""
    ruler = ['---', *['---:'] * (len(columns) - 1)]
    escaped = ([cell.replace('|', '\\|') for cell in row] for row in (columns, ruler, *cells))
    return ''.join(f'| {" | ".join(row)} |\n' for row in escaped)
