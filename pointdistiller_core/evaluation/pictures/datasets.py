# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of the labels of a dataset: classes, distances and points per box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.evaluation.figures import (
    Axes,
    ConstrainedLayoutEngine,
    Figure,
    save_figure,
)
from pointdistiller_core.formats.kitti import DIFFICULTIES

if TYPE_CHECKING:
    FloatArray = NDArray[np.floating[Any]]
    IntArray = NDArray[np.int64]
    Groups = Mapping[str, NDArray[np.bool_]]

_DPI = 110
_INK, _FAINT, _GRID = '#1d2433', '#8a93a6', '#e4e8ef'
_LEVEL_COLORS = ('#0f9d8a', '#2f5fd0', '#d1495b', '#c3cad6')  # easy, moderate, hard, none
# Also told apart by their line, in print and by color-blind people.
_CLASS_STYLES = (
    ('#2f5fd0', 'solid'),
    ('#d1495b', (0, (5, 1.5))),
    ('#0f9d8a', (0, (1.5, 1.2))),
    ('#e08e0b', (0, (5, 1.5, 1, 1.5))),
    ('#7a4fc4', (0, (8, 2))),
)
_DISTANCE_BIN = 5.0  # [m]
_OTHERS = 'others'


def draw_objects(
    path: Path,
    names: NDArray[np.str_],
    *,
    difficulties: IntArray,
    distances: FloatArray,
    num_points: IntArray,
    title: str = '',
) -> None:
    """Draw objects by class and difficulty, distance, and number of points.

    Args:
        path: PNG or SVG file to write.
        names: (N,) classes; the rarest ones are drawn together.
        difficulties: (N,) place in `DIFFICULTIES`, -1 for none.
        distances: (N,) from the sensor, seen from above [m].
        num_points: (N,) in the box of each object.
        title: above everything.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)  # [inches]
    figure = Figure(figsize=(13, 9), dpi=_DPI, facecolor='white', layout=layout)
    figure.suptitle(title, x=0.01, ha='left', color=_INK, fontsize=14)
    (classes, reach), (density, both) = figure.subplots(2, 2)
    groups = _group(names)
    _draw_classes(classes, names, difficulties)
    _draw_distances(reach, groups, distances)
    _draw_num_points(density, groups, num_points)
    _draw_points_over_distance(both, groups, distances, num_points)
    save_figure(figure, path)


def _group(names: NDArray[np.str_]) -> Groups:
    """Name and members (N,) of each group that gets a color."""
    common = [str(name) for name, _ in Counter(names.tolist()).most_common()]
    kept = common if len(common) <= len(_CLASS_STYLES) else common[: len(_CLASS_STYLES) - 1]
    groups = {name: names == name for name in kept}
    if len(kept) < len(common):
        groups[_OTHERS] = ~np.isin(names, kept)
    return groups


def _draw_classes(axes: Axes, names: NDArray[np.str_], difficulties: IntArray) -> None:
    """A bar for each class, in pieces for the difficulties."""
    totals = Counter(names.tolist()).most_common()
    labels = [name for name, _ in totals]
    starts = np.zeros(len(totals))
    rated = bool((difficulties >= 0).any())  # without a camera there are no difficulties
    kinds = [*DIFFICULTIES, 'none'] if rated else ['labelled']
    for level, (kind, color) in enumerate(zip(kinds, _LEVEL_COLORS, strict=False)):
        own = names[difficulties == (level if kind in DIFFICULTIES else -1)]
        counts = np.array([(own == name).sum() for name in labels], float)
        axes.barh(labels, counts, left=starts, color=color, height=0.65, label=kind)
        starts += counts
    for row, (_, total) in enumerate(totals):
        axes.annotate(
            str(total),
            (total, row),
            xytext=(5, 0),
            textcoords='offset points',
            va='center',
            color=_INK,
            fontsize=9,
        )
    axes.invert_yaxis()
    axes.margins(x=0.12)
    _dress(axes, 'Classes and KITTI difficulties' if rated else 'Classes', 'objects', '', grid='x')
    axes.tick_params(axis='y', labelsize=10, labelcolor=_INK)


def _draw_distances(axes: Axes, groups: Groups, distances: FloatArray) -> None:
    last = distances.max(initial=_DISTANCE_BIN)
    edges = np.arange(0, last + _DISTANCE_BIN, _DISTANCE_BIN)
    _draw_histogram(axes, groups, distances, edges)
    axes.set_xlim(0, edges[-1])
    _dress(axes, 'Distance', 'distance from the sensor [m]', f'objects per {_DISTANCE_BIN:g} m')


def _draw_num_points(axes: Axes, groups: Groups, num_points: IntArray) -> None:
    """Bins that double; objects without a point are in the first one."""
    highest = max(1, int(num_points.max(initial=1)))
    edges = np.array([0.5, *2.0 ** np.arange(np.ceil(np.log2(highest + 1)) + 1)])
    _draw_histogram(axes, groups, num_points.clip(0.6, None), edges)
    axes.set_xscale('log', base=2)
    ticks = edges[1::2]
    axes.set_xticks([0.71, *ticks], ['0', *(f'{tick:g}' for tick in ticks)])
    axes.minorticks_off()
    axes.set_xlim(edges[0], edges[-1])
    _dress(axes, 'Points in a box', 'points, doubling from bin to bin', 'objects')


def _draw_points_over_distance(
    axes: Axes, groups: Groups, distances: FloatArray, num_points: IntArray
) -> None:
    size = float(np.clip(4e4 / max(1, len(distances)), 1.5, 22))
    for (name, own), (color, _) in zip(groups.items(), _CLASS_STYLES, strict=False):
        axes.scatter(
            distances[own],
            num_points[own].clip(0.7, None),
            s=size,
            color=color,
            alpha=0.6,
            linewidths=0,
            label=name,
            rasterized=True,
        )
    axes.set_yscale('log')
    axes.set_xlim(0, None)
    axes.set_yticks([0.7, 1, 10, 100, 1000, 10000], ['0', '1', '10', '100', '1000', '10000'])
    axes.set_ylim(0.5, max(10.0, 1.6 * num_points.max(initial=1)))
    axes.minorticks_off()
    _dress(axes, 'Points over distance', 'distance from the sensor [m]', 'points in the box')


def _draw_histogram(axes: Axes, groups: Groups, values: NDArray[Any], edges: FloatArray) -> None:
    for (name, own), (color, line) in zip(groups.items(), _CLASS_STYLES, strict=False):
        counts, _ = np.histogram(values[own], edges)
        axes.stairs(counts, edges, color=color, linestyle=line, linewidth=1.8, label=name)
    axes.set_ylim(0, None)


def _dress(axes: Axes, title: str, x_label: str, y_label: str, *, grid: str = 'both') -> None:
    axes.set_title(title, color=_INK, fontsize=12, loc='left')
    axes.set_xlabel(x_label, color=_INK, fontsize=10)
    axes.set_ylabel(y_label, color=_INK, fontsize=10)
    axes.grid(axis=grid, color=_GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set(color=_FAINT, visible=side in {'left', 'bottom'})
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=9, labelcolor=_INK, edgecolor='none', framealpha=0.85)
