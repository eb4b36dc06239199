# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of a comparison: recall by distance, overlaps, times, and the worst clouds."""

from __future__ import annotations

from io import BytesIO
import math

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.evaluation.comparison.pairs import (
    IOU_BINS,
    AgreementNumbers,
    CloudAgreement,
    Tally,
)
from pointdistiller_core.evaluation.comparison.session import (
    TIMELINE,
    CloudResult,
    OnlineComparison,
)
from pointdistiller_core.evaluation.figures import (
    Axes,
    ConstrainedLayoutEngine,
    Figure,
    FixedLocator,
    FuncFormatter,
    NullLocator,
)
from pointdistiller_core.evaluation.pictures.scenes import draw_agreement, extent_of

_INK, _FAINT, _GRID, _BAR = '#1d2433', '#8a93a6', '#e4e8ef', '#e7ebf2'
# Okabe and Ito's colors, which color-blind people tell apart.
_TEACHER, _STUDENT = '#0072b2', '#d55e00'
_RECALL, _PRECISION = ('#009e73', 'solid'), ('#cc79a7', 'dashed')
_SIZE = (6.6, 3.6)  # [inches]
_FEW = 60  # fewer points of a line are drawn as dots, too
_LOG_TICKS = [step * 10.0**power for power in range(-2, 7) for step in (1, 2, 5)]  # [ms]


def plot_distances(comparison: OnlineComparison) -> bytes:
    """Recall and precision against the teacher over the distance, as SVG."""
    figure, axes = _new_figure("The student's boxes beside the teacher's")
    tally = comparison.curves['agreement']
    _draw_counts(axes, tally, "teacher's boxes")
    _draw_rates(axes, tally, '', {'recall': _RECALL, 'precision': _PRECISION})
    return _finish_distances(figure, axes)


def plot_truth(comparison: OnlineComparison) -> bytes:
    """Recall and precision of both against the labels over the distance, as SVG."""
    figure, axes = _new_figure('Teacher and student beside the ground truth')
    _draw_counts(axes, comparison.curves['teacher_truth'], 'labels')
    for name, color in (('teacher', _TEACHER), ('student', _STUDENT)):
        styles = {'recall': (color, 'solid'), 'precision': (color, 'dotted')}
        _draw_rates(axes, comparison.curves[f'{name}_truth'], f'{name}: ', styles)
    return _finish_distances(figure, axes)


def plot_overlaps(comparison: OnlineComparison) -> bytes:
    """Overlap of the boxes that both have, for each class, as SVG."""
    names = comparison.rules.class_names
    num_rows = math.ceil(len(names) / 3)
    figure = _build_figure((_SIZE[0], 0.6 + 3.0 * num_rows), 'Overlap of paired boxes')
    panels = figure.subplots(num_rows, min(3, len(names)), squeeze=False)
    for label, axes in enumerate(panels.flat):
        if label >= len(names):
            axes.set_axis_off()
            continue
        _style(axes)
        _draw_overlaps(axes, comparison, label)
    for axes in panels[:, 0]:
        axes.set_ylabel('pairs', color=_INK, fontsize=9)
    _add_legend(figure, panels[0, 0])
    return _to_svg(figure)


def plot_latencies(comparison: OnlineComparison) -> bytes:
    """Histogram of both latencies, as SVG; the axis of times is logarithmic."""
    figure, axes = _new_figure('Time for a cloud, from points to boxes')
    for name, color in (('teacher', _TEACHER), ('student', _STUDENT)):
        histogram = comparison.latencies[name]
        edges, counts = histogram.bars()
        median, high = histogram.percentile_ms(50), histogram.percentile_ms(95)
        label = f'{name}: median {median:.1f} ms, p95 {high:.1f} ms'
        axes.stairs(counts, edges, color=color, fill=True, alpha=0.4, label=label)
        axes.axvline(median, color=color, linewidth=1.5)
    axes.set(xscale='log')
    axes.set_xlabel('[ms]', color=_INK, fontsize=9)
    axes.set_ylabel('clouds', color=_INK, fontsize=9)
    _name_ticks(axes, 'x')
    _add_legend(figure, axes)
    return _to_svg(figure)


def plot_timeline(comparison: OnlineComparison) -> bytes:
    """Agreement and times from the first cloud to the last, as SVG."""
    figure = _build_figure((_SIZE[0], 4.4), 'From cloud to cloud')
    above, below = figure.subplots(2, 1, sharex=True)
    counts, sums = comparison.timeline.sums()
    values = dict(zip(TIMELINE, sums.T, strict=True))
    clouds = counts.cumsum() - (counts - 1) / 2
    marker = 'o' if len(clouds) <= _FEW else ''
    for name, whole, (color, line) in (
        ('recall', values['reference'], _RECALL),
        ('precision', values['found'], _PRECISION),
    ):
        rate = np.divide(
            values['matched'], whole, out=np.full(len(whole), np.nan), where=whole > 0
        )
        above.plot(clouds, rate, color=color, ls=line, marker=marker, ms=3, label=name)
    for name, color in (('teacher', _TEACHER), ('student', _STUDENT)):
        mean_ms = values[f'{name}_ms'] / counts
        below.plot(clouds, mean_ms, color=color, marker=marker, ms=3, label=name)
    above.set(ylim=(-0.03, 1.05))
    above.set_ylabel('part of the boxes', color=_INK, fontsize=9)
    below.set(yscale='log')
    below.set_ylabel('[ms]', color=_INK, fontsize=9)
    below.set_xlabel('cloud', color=_INK, fontsize=9)
    for axes in (above, below):
        _style(axes)
    _add_legend(figure, above, below)
    _name_ticks(below, 'y')
    return _to_svg(figure)


def draw_cloud(
    result: CloudResult, agreement: CloudAgreement, comparison: OnlineComparison, title: str
) -> bytes:
    """One cloud from above as PNG: what both have, what the student misses and what it adds.

    Seen from above in the teacher's training frame, in which the ranges are given, too.
    """
    points = result.level_points
    x_min, x_max, y_min, y_max = extent_of(points, agreement.reference.boxes)
    if ranges := comparison.rules.ranges:
        limits = np.array(ranges)
        low, high = limits.min(axis=0), limits.max(axis=0)
        x_min, y_min = max(x_min, low[0] - 2), max(y_min, low[1] - 2)
        x_max, y_max = min(x_max, high[3] + 2), min(y_max, high[4] + 2)
    picture = BytesIO()
    draw_agreement(
        picture,
        points,
        {
            'agreed': agreement.pairs[1],
            'missed by the student': agreement.missed,
            'extra of the student': agreement.extra,
        },
        class_names=comparison.rules.class_names,
        title=title,
        extent=(x_min, x_max, y_min, y_max),
    )
    return picture.getvalue()


def _draw_counts(axes: Axes, tally: Tally, what: str) -> None:
    """Bars behind the curves: the number of boxes behind each point."""
    edges, numbers = _filled_bands(tally)
    behind = axes.twinx()
    behind.set_zorder(axes.get_zorder() - 1)
    axes.patch.set_visible(False)
    counts = [number.num_reference for number in numbers]
    behind.bar(edges[:-1], counts, np.diff(edges) * 0.92, align='edge', color=_BAR)
    behind.set_ylabel(what, color=_FAINT, fontsize=9)
    behind.set_ylim(0, max([*counts, 1]) * 1.6)
    _style(behind)
    behind.grid(visible=False)


def _draw_rates(axes: Axes, tally: Tally, prefix: str, styles: dict[str, tuple[str, str]]) -> None:
    edges, numbers = _filled_bands(tally)
    places = (edges[:-1] + edges[1:]) / 2
    for name, (color, line) in styles.items():
        rates = [getattr(number, name) for number in numbers]
        label = f'{prefix}{name} {getattr(tally.numbers(), name):.3f}'
        axes.plot(places, rates, color=color, ls=line, marker='o', ms=3.5, label=label)


def _filled_bands(tally: Tally) -> tuple[NDArray[np.float64], list[AgreementNumbers]]:
    """Edges [m] and numbers of the bands, up to the last one with boxes."""
    width = tally.distances[0]
    numbers = [tally.numbers(band=band) for band in range(len(tally.distances) + 1)]
    filled = [number.num_reference + number.num_found > 0 for number in numbers]
    count = max((band + 1 for band, any_box in enumerate(filled) if any_box), default=1)
    return np.linspace(0, width * count, count + 1, dtype=np.float64), numbers[:count]


def _finish_distances(figure: Figure, axes: Axes) -> bytes:
    axes.set(ylim=(0, 1.05), xlim=(0, None))
    axes.set_xlabel('distance from the sensor [m]', color=_INK, fontsize=9)
    axes.set_ylabel('part of the boxes', color=_INK, fontsize=9)
    _add_legend(figure, axes)
    return _to_svg(figure)


def _draw_overlaps(axes: Axes, comparison: OnlineComparison, label: int) -> None:
    from_above, in_3d = comparison.tallies['agreement'].iou_histograms(label)
    edges = np.linspace(0, 1, IOU_BINS + 1)
    name = comparison.rules.class_names[label]
    axes.set_title(f'{name}: {from_above.sum()} pairs', color=_INK, fontsize=9)
    axes.stairs(from_above, edges, color=_TEACHER, fill=True, alpha=0.3, label='from above')
    axes.stairs(in_3d, edges, color=_STUDENT, linewidth=1.8, label='3D')
    least = comparison.rules.iou_thresholds[label]
    axes.axvline(least, color=_INK, linewidth=1, linestyle=':', label='least, from above')
    axes.set(xlim=(max(0, least - 0.25), 1), ylim=(0, None))
    axes.set_xlabel('IoU', color=_INK, fontsize=9)


def _new_figure(title: str) -> tuple[Figure, Axes]:
    figure = _build_figure(_SIZE, title)
    axes = figure.subplots()
    _style(axes)
    return figure, axes


def _build_figure(size: tuple[float, float], title: str) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)  # [inches]
    figure = Figure(figsize=size, facecolor='white', layout=layout)
    figure.suptitle(title, color=_INK, fontsize=11)
    return figure


def _style(axes: Axes) -> None:
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_FAINT, labelsize=8, length=0)
    for side, spine in axes.spines.items():
        spine.set(color=_FAINT, visible=side in {'left', 'bottom'})


def _add_legend(figure: Figure, *all_axes: Axes) -> None:
    """Draw one legend below the panels, where it hides nothing."""
    entries = [axes.get_legend_handles_labels() for axes in all_axes]
    labels = [label for _, of_axes in entries for label in of_axes]
    figure.legend(
        [handle for handles, _ in entries for handle in handles],
        labels,
        loc='outside lower center',
        ncols=len(labels) if len(labels) < 4 or len(all_axes) > 1 else 2,
        fontsize=8,
        labelcolor=_INK,
        frameon=False,
    )


def _name_ticks(axes: Axes, direction: str) -> None:
    """Plain numbers of milliseconds along a logarithmic axis."""
    axis = axes.xaxis if direction == 'x' else axes.yaxis
    low, high = axis.get_view_interval()
    inside = [tick for tick in _LOG_TICKS if low <= tick <= high]
    axis.set_major_locator(FixedLocator(inside or _LOG_TICKS))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axis.set_minor_locator(NullLocator())


def _to_svg(figure: Figure) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, format='svg')
    return picture.getvalue()
