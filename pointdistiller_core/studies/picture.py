# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a study: a bar for each arm, or curves over a setting, with a dot for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pointdistiller_core.evaluation.figures import (
    Axes,
    ConstrainedLayoutEngine,
    Figure,
    NullFormatter,
    NullLocator,
    save_figure,
)
from pointdistiller_core.studies.table import Row, Scores

Runs = Mapping[str, Mapping[int, Scores]]

_DPI = 130
_INK, _FAINT, _GRID = '#1d2433', '#8a93a6', '#e4e8ef'
_TAUGHT, _PLAIN, _DOT = '#8fb0ee', '#c9d1de', '#1f3f99'


def draw_bars(
    path: Path, rows: Sequence[Row], runs: Runs, *, quantity: str = '', title: str = ''
) -> None:
    """Draw the means of every arm: bars are means, dots are seeds.

    A dashed line marks the mean of the arm that a distilled student is compared with.

    Args:
        path: PNG or SVG file to write.
        rows: of `summarize`, from top to bottom.
        runs: scores by arm and seed.
        quantity: what the scores are, with their unit.
        title: above everything.
    """
    means = rows[0].means
    figure = _new_figure((11, 1.4 + 0.36 * len(rows)), title)
    panels = figure.subplots(1, len(means), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, means, strict=True):
        _style(axes, column)
        axes.set_xlabel(quantity, color=_INK, fontsize=10)
        for place, row in enumerate(rows):
            _draw_bar(axes, place, row, runs, column)
    panels[0].set_yticks(range(len(rows)), [row.arm.title for row in rows], color=_INK)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    save_figure(figure, path)


def draw_settings(
    path: Path,
    rows: Sequence[Row],
    runs: Runs,
    *,
    settings: Mapping[str, Mapping[str, float]],
    quantity: str = '',
    title: str = '',
) -> None:
    """Draw the means over settings: lines join means, dots are seeds.

    A dashed line and a band mark mean and standard deviation of the arm that the first arm of a
    curve is compared with.

    Args:
        path: PNG or SVG file to write.
        rows: of `summarize`.
        runs: scores by arm and seed.
        settings: x axis of a column of panels -> arm -> its value there, positive.
        quantity: what the scores are, with their unit.
        title: above everything.
    """
    means = rows[0].means
    by_name = {row.arm.name: row for row in rows}
    figure = _new_figure((0.6 + 4.6 * len(settings), 6.4), title)
    grid = figure.subplots(len(means), len(settings), sharex='col', sharey='row', squeeze=False)
    for panels, (setting, values) in zip(grid.T, settings.items(), strict=True):
        for axes, column in zip(panels, means, strict=True):
            _style(axes, column)
            _draw_baseline(axes, [by_name[arm] for arm in values], by_name, column)
            _draw_curve(axes, values, runs, column)
        panels[-1].set_xlabel(setting, color=_INK, fontsize=10)
    for axes in grid[:, 0]:
        axes.set_ylabel(quantity, color=_INK, fontsize=10)
    save_figure(figure, path)


def _new_figure(size: tuple[float, float], title: str) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)  # [inches]
    figure = Figure(figsize=size, dpi=_DPI, facecolor='white', layout=layout)
    figure.suptitle(title, color=_INK, fontsize=13)
    return figure


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, color=_INK, fontsize=11)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set(color=_FAINT, visible=side in {'left', 'bottom'})


def _draw_bar(axes: Axes, place: int, row: Row, runs: Runs, column: str) -> None:
    if column not in row.scores:
        axes.annotate('  no run yet', (0, place), color=_FAINT, fontsize=9, va='center')
        return
    taught = row.arm.baseline is not None
    axes.barh(place, row.scores[column].mean, height=0.62, color=_TAUGHT if taught else _PLAIN)
    values = [scores[column] for scores in runs[row.arm.name].values()]
    axes.plot(values, [place] * len(values), 'o', color=_DOT, markersize=4, alpha=0.8)
    others = [scores[column] for scores in runs.get(row.arm.baseline or '', {}).values()]
    if others:
        mean = sum(others) / len(others)
        axes.plot([mean, mean], [place - 0.42, place + 0.42], '--', color=_INK, linewidth=1.2)


def _draw_baseline(
    axes: Axes, rows: Sequence[Row], by_name: Mapping[str, Row], column: str
) -> None:
    baseline = by_name.get(rows[0].arm.baseline or '') if rows else None
    if baseline is None or column not in baseline.scores:
        return
    spread = baseline.scores[column]
    deviation = spread.deviation or 0.0
    low, high = spread.mean - deviation, spread.mean + deviation
    axes.axhspan(low, high, color=_PLAIN, alpha=0.4, linewidth=0)
    axes.axhline(spread.mean, color=_INK, linestyle='--', linewidth=1.2, label=baseline.arm.title)
    axes.legend(loc='lower right', fontsize=8, labelcolor=_INK, edgecolor='none')


def _draw_curve(axes: Axes, values: Mapping[str, float], runs: Runs, column: str) -> None:
    points = [
        (value, [scores[column] for scores in runs[arm].values()])
        for arm, value in sorted(values.items(), key=lambda item: item[1])
        if runs.get(arm)
    ]
    axes.set_xscale('log', base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(sorted(values.values()), [f'{value:g}' for value in sorted(values.values())])
    means = [sum(found) / len(found) for _, found in points]
    axes.plot([value for value, _ in points], means, color=_TAUGHT, linewidth=1.8)
    for value, found in points:
        axes.plot([value] * len(found), found, 'o', color=_DOT, markersize=4, alpha=0.8)
