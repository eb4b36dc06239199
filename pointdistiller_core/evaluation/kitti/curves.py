# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Precision over recall, one panel for each metric and class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pointdistiller_core.evaluation.figures import Axes, Figure, save_figure
from pointdistiller_core.evaluation.kitti.matching import Curve
from pointdistiller_core.evaluation.kitti.metric import KittiResult

PANEL = (3.1, 2.35)  # width, height [inches]
_MARGINS = {'left': 0.85, 'right': 0.2, 'bottom': 0.6, 'top': 0.9}  # [inches]
_DPI = 160
_INK, _FAINT, _GRID = '#1d2433', '#8a93a6', '#e4e8ef'
# Also told apart by their line, in print and by color-blind people.
_STYLES = {
    'easy': ('#0f9d8a', 'solid'),
    'moderate': ('#2f5fd0', (0, (5, 1.5))),
    'hard': ('#d1495b', (0, (1.5, 1.2))),
}
_ROWS = {
    'bbox': ('2D box', 'precision [%]'),
    'bev': ("bird's eye view", 'precision [%]'),
    '3d': ('3D box', 'precision [%]'),
    'aos': ('orientation', 'similarity [%]'),
}


def draw_curves(path: Path, result: KittiResult, *, title: str = '') -> None:
    """Draw a row of panels for each metric and a column for each class.

    A panel shows what the average precision is the mean of: the best precision (for `aos`, the
    best orientation similarity) at each recall or a higher one, up to the highest recall.

    Args:
        path: PNG or SVG file to write.
        result: of `evaluate_kitti`, whose classes are the columns.
        title: above everything.
    """
    min_overlaps = result.min_overlaps
    figure, grid = _new_figure(len(result.curves), len(min_overlaps), title)
    for row, (metric, classes) in zip(grid, result.curves.items(), strict=True):
        for axes, name in zip(row, min_overlaps, strict=True):
            _draw_panel(axes, classes.get(name, {}))
        _name_row(row[0], *_ROWS[metric])
    for axes, (name, least) in zip(grid[0], min_overlaps.items(), strict=True):
        axes.set_title(f'{name}, overlap > {least:g}', color=_INK, fontsize=11)
    for axes in grid[-1]:
        axes.set_xlabel('recall [%]', color=_INK, fontsize=10)
    save_figure(figure, path)


def _new_figure(rows: int, columns: int, title: str) -> tuple[Figure, list[list[Axes]]]:
    """A figure, and its rows of panels, of one size whatever their number."""
    width = PANEL[0] * columns + _MARGINS['left'] + _MARGINS['right']
    height = PANEL[1] * rows + _MARGINS['top'] + _MARGINS['bottom']
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor='white')
    figure.subplots_adjust(
        left=_MARGINS['left'] / width,
        right=1 - _MARGINS['right'] / width,
        bottom=_MARGINS['bottom'] / height,
        top=1 - _MARGINS['top'] / height,
        wspace=0.12,
        hspace=0.1,
    )
    left, top = _MARGINS['left'] / width, 1 - 0.2 / height
    figure.suptitle(title, x=left, y=top, ha='left', va='top', color=_INK, fontsize=13)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    return figure, grid.tolist()


def _name_row(axes: Axes, name: str, quantity: str) -> None:
    axes.set_ylabel(quantity, color=_INK, fontsize=10)
    axes.annotate(
        name,
        (0, 0.5),
        xycoords='axes fraction',
        xytext=(-50, 0),
        textcoords='offset points',
        rotation=90,
        color=_INK,
        fontsize=11,
        weight='bold',
        ha='center',
        va='center',
    )


def _draw_panel(axes: Axes, levels: Mapping[str, Curve]) -> None:
    axes.set(xlim=(0, 100), ylim=(0, 103), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set(color=_FAINT, visible=side in {'left', 'bottom'})
    if not levels:
        axes.text(50, 50, 'not evaluated', color=_FAINT, fontsize=11, ha='center', va='center')
        return
    for level, curve in levels.items():
        _draw_curve(axes, level, curve)
    legend = axes.legend(
        loc='lower left',
        title='AP|R40',
        title_fontproperties={'size': 8},
        fontsize=8,
        handlelength=2.2,
        labelcolor=_INK,
        edgecolor='none',
        framealpha=0.85,
    )
    legend.set_zorder(1)  # below the curves


def _draw_curve(axes: Axes, level: str, curve: Curve) -> None:
    """A curve from recall 0 to its end, which a dot marks."""
    color, line = _STYLES[level]
    best = curve.points
    recall = np.concatenate([[0.0], curve.recall]) * 100
    values = np.concatenate([best[:1], best[: len(curve.recall)]]) * 100
    label = f'{level} {curve.ap40:.2f}'
    axes.plot(recall, values, color=color, linestyle=line, linewidth=1.8, label=label)
    axes.plot(recall[-1:], values[-1:], color=color, marker='o', markersize=3.5, clip_on=False)
