# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a study: means and spreads over seeds, and what distillation gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeAlias

Scores: TypeAlias = Mapping[str, float]  # column -> value

MEANS = ('BEV mAP', '3D mAP')  # where no run says what its means are


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
        gains: by column of the means, the differences to the baseline of the same seed, over the
            seeds that both have.
        means: columns that are means over the classes.
    """

    arm: Arm
    num_seeds: int
    scores: Mapping[str, Spread]
    gains: Mapping[str, Spread]
    means: tuple[str, ...] = MEANS


def measure_spread(values: Sequence[float]) -> Spread:
    """Spread of one or more values."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def summarize(
    arms: Sequence[Arm], runs: Mapping[str, Mapping[int, Scores]], means: Sequence[str] = MEANS
) -> list[Row]:
    """A row for each arm, from the scores of its runs by seed, some of which are means."""
    return [_summarize_arm(arm, runs, tuple(means)) for arm in arms]


def _summarize_arm(
    arm: Arm, runs: Mapping[str, Mapping[int, Scores]], means: tuple[str, ...]
) -> Row:
    mine = runs.get(arm.name, {})
    theirs = runs.get(arm.baseline, {}) if arm.baseline is not None else {}
    columns = list(next(iter(mine.values()), {}))
    scores = {
        column: measure_spread([scores[column] for scores in mine.values()]) for column in columns
    }
    return Row(arm, len(mine), scores, _gains(mine, theirs, means), means)


@dataclass(frozen=True)
class Comparison:
    """Differences of two arms, over the seeds that both have.

    Attributes:
        title: of the first arm.
        other: title of the second.
        num_seeds: that both have.
        gains: by column of the means, first minus second; empty without a seed.
    """

    title: str
    other: str
    num_seeds: int
    gains: Mapping[str, Spread]


def compare_arms(
    pairs: Sequence[tuple[str, str]],
    titles: Mapping[str, str],
    runs: Mapping[str, Mapping[int, Scores]],
    means: Sequence[str],
) -> list[Comparison]:
    """Compare the first arm of each pair with the second; see `summarize`."""
    comparisons = []
    for first, second in pairs:
        gains = _gains(runs.get(first, {}), runs.get(second, {}), means)
        num_seeds = next(iter(gains.values())).num if gains else 0
        comparisons.append(Comparison(titles[first], titles[second], num_seeds, gains))
    return comparisons


def _gains(
    mine: Mapping[int, Scores], theirs: Mapping[int, Scores], columns: Sequence[str]
) -> dict[str, Spread]:
    """Differences of the same seed; empty if no seed is in both."""
    paired = sorted(mine.keys() & theirs.keys())
    return {
        column: measure_spread([mine[seed][column] - theirs[seed][column] for seed in paired])
        for column in (columns if paired else ())
    }


def format_comparisons(comparisons: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of a table of the pairs that have a seed in common."""
    comparisons = [each for each in comparisons if each.num_seeds]
    gains = list(dict.fromkeys(column for each in comparisons for column in each.gains))
    cells = [
        [
            each.title,
            each.other,
            str(each.num_seeds),
            *(_format_spread(each.gains.get(column), '+.1f') for column in gains),
        ]
        for each in comparisons
    ]
    return ['arm', 'compared with', 'seeds', *(f'gain in {column}' for column in gains)], cells


def format_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of a table of the arms with runs; `±` is the deviation over seeds."""
    rows = [row for row in rows if row.num_seeds]
    columns = list(dict.fromkeys(column for row in rows for column in row.scores))
    gains = list(dict.fromkeys(column for row in rows for column in row.means))
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
