# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures from above: points, labelled boxes and detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.evaluation.figures import (
    Axes,
    Figure,
    Line2D,
    LineCollection,
    ListedColormap,
    Normalize,
    PolyCollection,
    ScalarMappable,
    colormaps,
    save_figure,
)
from pointdistiller_core.evaluation.matching import Matches, match_detections
from pointdistiller_core.geometry.boxes import box_corners_bev
from pointdistiller_core.records import IGNORE_LABEL, Detections, Frame, GroundTruth

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    BoolArray = NDArray[np.bool_]
    Extent = tuple[float, float, float, float]

WIDTH = 1600  # pixels
_DPI = 100
_CLASS_SIZE = 9  # of the names of classes [points]
_BACKGROUND = '#0b0e14'
_TEXT = '#e6e9ef'
_FAINT = '#6b7486'
_GRID = '#232a36'
# The maps begin above black: every point stays visible on the background.
_IMPORTANCE_COLORS = ListedColormap(colormaps['inferno'](np.linspace(0.3, 1.0, 256)))
_HEIGHT_COLORS = ListedColormap(colormaps['bone'](np.linspace(0.3, 0.9, 256)))
_HEIGHT_RANGE = (-2.0, 2.0)  # [m] around the sensor: the road, vehicles, people


@dataclass(frozen=True)
class Style:
    """How one kind of box is drawn; color and line both distinguish it from the others."""

    color: str
    line: str = 'solid'
    width: float = 1.6
    fill: float = 0.0
    marker: str = ''


STYLES: Mapping[str, Style] = {
    'student': Style('#8dff57', width=2.2, fill=0.15),
    'teacher': Style('#35d0ff', width=1.8, line='dashed'),
    'truth': Style('#ffffff', width=1.0),
    'found': Style('#8dff57', fill=0.15),
    'false positive': Style('#ff4d7d', fill=0.25, marker='x'),
    'missed': Style('#ffd23f', line='dotted', width=2.0),
    'ignored': Style('#8b93a5', width=1.0),
    'agreed': Style('#10c795', fill=0.15),
    'missed by the student': Style('#f0a81e', line='dotted', width=2.4),
    'extra of the student': Style('#5cbcf5', fill=0.2, line='dashed', width=2.0),
}


@dataclass(frozen=True)
class Panel:
    """One picture of a comparison.

    Attributes:
        title: e.g. the model's name.
        detections: of this model; None shows only the truth.
        matches: of these detections against the truth.
    """

    title: str
    detections: Detections | None = None
    matches: Matches | None = None


# --- pictures --------------------------------------------------------------------------------


def draw_scene(
    target: Path | BinaryIO | Axes,
    points: FloatArray,
    *,
    importance: FloatArray | None = None,
    truth: GroundTruth | None = None,
    teacher: Detections | None = None,
    student: Detections | None = None,
    title: str = '',
    extent: Extent | None = None,
    class_names: Sequence[str] | None = None,
    student_name: str = 'student',
    truth_name: str = 'truth',
) -> None:
    """Draw one frame from above, x to the right.

    Args:
        target: PNG file to write, `WIDTH` pixels wide, by its name or open; or axes to draw into.
        points: (N, 3 or more) x, y, z first [m], LiDAR frame.
        importance: (N,) in [0, 1] colors the points; without it their height does.
        truth: labelled boxes.
        teacher: detections.
        student: detections.
        title: above the picture.
        extent: x_min, x_max, y_min, y_max [m]; by default everything but stray points.
        class_names: writes the class beside the boxes of the student, or of the teacher, or of
            the truth, the first that has any.
        student_name: of the student's boxes in the legend.
        truth_name: of the labelled boxes there.
    """
    layers = {'student': student, 'teacher': teacher, **_split_truth(truth)}  # finest on top
    shown = {name: records for name, records in layers.items() if records is not None}
    extent = extent or extent_of(points, *(records.boxes for records in shown.values()))
    if isinstance(target, Axes):
        axes = target
    else:
        figure, (axes,) = _new_figure(extent, columns=1)
    _draw_ground(axes, extent)
    _draw_points(axes, points, importance)
    for name, records in shown.items():
        _draw_boxes(axes, records.boxes, STYLES[name])
    if class_names is not None and (named := student or teacher or truth):
        _write_classes(axes, named, class_names, [])
    _write_title(axes, title, size=15)
    counts = {name: len(records) for name, records in shown.items()}
    _add_legend(axes, counts, size=11, names={'student': student_name, 'truth': truth_name})
    _add_color_bar(axes, importance=importance is not None)
    if not isinstance(target, Axes):
        _save(figure, target)


def draw_comparison(
    path: Path,
    points: FloatArray,
    panels: Sequence[Panel],
    *,
    truth: GroundTruth,
    title: str = '',
) -> None:
    """Draw what each of some models found, missed and made up, side by side, x upwards.

    Args:
        path: PNG file to write, `WIDTH` pixels wide.
        points: (N, 3 or more) x, y, z first [m], LiDAR frame.
        panels: from left to right; one or more.
        truth: labelled boxes.
        title: above the picture.
    """
    extent = extent_of(points, truth.boxes)
    # x upwards: turned by a quarter, so that the long panels stand side by side.
    turned = (-extent[3], -extent[2], extent[0], extent[1])
    figure, all_axes = _new_figure(turned, columns=len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_ground(axes, turned)
        _draw_points(axes, _turn_points(points), None)
        counts = _draw_panel(axes, panel, truth)
        _write_title(axes, panel.title, size=13)
        _add_legend(axes, counts, size=9)
    figure.suptitle(title, color=_TEXT, fontsize=15)
    _save(figure, path)


def draw_found(
    path: Path,
    frame: Frame,
    found: Mapping[str, Detections],
    iou_thresholds: Sequence[float],
    *,
    title: str = '',
) -> None:
    """Draw what some models found, missed and made up in a labelled frame, side by side.

    Args:
        path: PNG file to write, `WIDTH` pixels wide.
        frame: with labels; all that are not ignored count, whatever their difficulty.
        found: by model, from left to right.
        iou_thresholds: least IoU from above, for each class.
        title: above the picture.
    """
    truth = frame.ground_truth
    assert truth is not None, f'frame {frame.frame_id} has no labels'
    panels = [
        Panel(name, item, match_detections(item, truth, iou_thresholds))
        for name, item in found.items()
    ]
    draw_comparison(path, frame.points, panels, truth=truth, title=title)


def draw_agreement(
    target: Path | BinaryIO,
    points: FloatArray,
    groups: Mapping[str, GroundTruth | Detections],
    *,
    class_names: Sequence[str],
    title: str = '',
    extent: Extent | None = None,
) -> None:
    """Draw groups of boxes in a cloud, such as what two detectors agree on, x to the right.

    Args:
        target: PNG file to write, `WIDTH` pixels wide.
        points: (N, 3 or more) x, y, z first [m], LiDAR frame.
        groups: boxes by their style, one of `STYLES`, e.g. `agreed`.
        class_names: names that labels index.
        title: above the picture.
        extent: x_min, x_max, y_min, y_max [m]; by default everything but stray points.
    """
    extent = extent or extent_of(points, *(records.boxes for records in groups.values()))
    figure, (axes,) = _new_figure(extent, columns=1)
    _draw_ground(axes, extent)
    _draw_points(axes, points, None)
    taken: list[_Words] = []
    for name, records in groups.items():
        _draw_boxes(axes, records.boxes, STYLES[name])
        _write_classes(axes, records, class_names, taken)
    _write_title(axes, title, size=15)
    _add_legend(axes, {name: len(records) for name, records in groups.items()}, size=13)
    _save(figure, target)


def extent_of(points: FloatArray, *boxes: FloatArray) -> Extent:
    """x_min, x_max, y_min, y_max [m] of all boxes and of all points but the outermost 1 %."""
    positions = points[np.isfinite(points).all(axis=1), :2]
    marks: list[NDArray[Any]] = [np.zeros((1, 2)), *(some[:, :2] for some in boxes)]
    if len(positions):
        marks.append(np.percentile(positions, [0.5, 99.5], axis=0))
    marked = np.concatenate(marks)
    (x_min, y_min), (x_max, y_max) = marked.min(axis=0) - 3, marked.max(axis=0) + 3
    return float(x_min), float(x_max), float(y_min), float(y_max)


# --- figures ---------------------------------------------------------------------------------


def _new_figure(extent: Extent, *, columns: int) -> tuple[Figure, list[Axes]]:
    """Axes side by side, filling a figure whose height follows from the extent."""
    gap, top = (0.004, 0.06) if columns > 1 else (0.0, 0.0)
    width = (1 - gap * (columns - 1)) / columns
    aspect = (extent[3] - extent[2]) / (extent[1] - extent[0])
    inches = WIDTH / _DPI
    height = float(np.clip(inches * width * aspect / (1 - top), 0.4 * inches, inches))
    figure = Figure(figsize=(inches, height), dpi=_DPI, facecolor=_BACKGROUND)
    lefts = [column * (width + gap) for column in range(columns)]
    return figure, [figure.add_axes((left, 0.0, width, 1 - top)) for left in lefts]


def _save(figure: Figure, target: Path | BinaryIO) -> None:
    save_figure(figure, target, facecolor=figure.get_facecolor())


def _draw_ground(axes: Axes, extent: Extent) -> None:
    """The background: range rings around the sensor, and the sensor."""
    extent = _fill(axes, extent)
    axes.set_facecolor(_BACKGROUND)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect='equal')
    for spine in axes.spines.values():
        spine.set_color(_GRID)
    angles = np.linspace(0, 2 * np.pi, 181)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    radii = np.arange(20, 20 + np.abs(extent).max() * 1.5, 20)
    rings = LineCollection([radius * circle for radius in radii], colors=_GRID, linewidths=0.8)
    axes.add_collection(rings, autolim=False)
    wide = extent[1] - extent[0] >= extent[3] - extent[2]
    for radius in radii:
        place = (radius, 0) if wide else (0, radius)
        _write(axes, f'{radius:.0f} m', place, offset=(4, 3), color=_FAINT, size=8)
    axes.plot(0, 0, marker='o', markersize=5, color=_TEXT)


def _fill(axes: Axes, extent: Extent) -> Extent:
    """The extent, widened about its center to the shape of the axes."""
    low, high = np.array(extent[::2]), np.array(extent[1::2])
    shape = np.array(axes.get_window_extent().size)
    half = shape * ((high - low) / shape).max() / 2
    (x_min, y_min), (x_max, y_max) = (low + high) / 2 - half, (low + high) / 2 + half
    return float(x_min), float(x_max), float(y_min), float(y_max)


def _draw_points(axes: Axes, points: FloatArray, importance: FloatArray | None) -> None:
    """Points over the ground, the brightest last and largest."""
    values = _in_height_range(points) if importance is None else importance
    order = np.argsort(values, kind='stable')
    sizes = 1.2 if importance is None else 1.2 + 3.0 * values[order]
    axes.scatter(
        *(points[order, 0], points[order, 1]),
        c=values[order],
        s=sizes,
        cmap=_HEIGHT_COLORS if importance is None else _IMPORTANCE_COLORS,
        norm=Normalize(0, 1),
        linewidths=0,
        rasterized=True,
    )


def _in_height_range(points: FloatArray) -> FloatArray:
    low, high = _HEIGHT_RANGE
    return ((points[:, 2] - low) / (high - low)).clip(0, 1)


def _draw_boxes(axes: Axes, boxes: FloatArray, style: Style) -> None:
    """Outlines, and a tick from the middle over the front of each box."""
    corners, noses = box_corners_bev(boxes), _noses(boxes)
    filled = PolyCollection([*corners], facecolors=style.color, alpha=style.fill, linewidths=0)
    outlines = np.concatenate([corners, corners[:, :1]], axis=1)
    axes.add_collection(filled, autolim=False)
    for lines, dashes in ((outlines, style.line), (noses, 'solid')):
        collection = LineCollection(
            [*lines], colors=style.color, linewidths=style.width, linestyles=dashes
        )
        axes.add_collection(collection, autolim=False)
    if style.marker:
        x, y = boxes[:, :2].T
        axes.scatter(x, y, marker=style.marker, s=40, c=style.color, linewidths=1.5)


def _draw_panel(axes: Axes, panel: Panel, truth: GroundTruth) -> dict[str, int]:
    """The boxes of one panel; returns how many there are of each kind."""
    if panel.detections is None:
        groups = {kind: part.boxes for kind, part in _split_truth(truth).items()}
    elif panel.matches is None:
        groups = {'student': panel.detections.boxes}
    else:
        matches, boxes = panel.matches, panel.detections.boxes
        groups = {
            'ignored': boxes[matches.ignored],
            'missed': truth.boxes[matches.missed],
            'found': boxes[matches.true_positives],
            'false positive': boxes[matches.false_positives],
        }
    for kind, boxes in groups.items():
        _draw_boxes(axes, _turn_boxes(boxes), STYLES[kind])
    return {kind: len(boxes) for kind, boxes in groups.items()}


def _split_truth(truth: GroundTruth | None) -> dict[str, GroundTruth]:
    """Split the truth into boxes that count and boxes that do not."""
    if truth is None:
        return {}
    counts = truth.labels != IGNORE_LABEL
    return {'ignored': truth[~counts], 'truth': truth[counts]}


@dataclass(frozen=True)
class _Words:
    """Where words are: x of their middle, y of their foot, half of their width [points]."""

    x: float
    y: float
    half_width: float

    def meet(self, others: Sequence[_Words]) -> bool:
        """Whether others are in the same place."""
        return any(
            abs(self.x - other.x) < self.half_width + other.half_width
            and abs(self.y - other.y) < _CLASS_SIZE
            for other in others
        )


def _write_classes(
    axes: Axes,
    records: GroundTruth | Detections,
    class_names: Sequence[str],
    taken: list[_Words],
) -> None:
    """Names over boxes, below those in `taken` where they would meet; they are added to it."""
    tops = box_corners_bev(records.boxes)[..., 1].max(axis=1, initial=-np.inf)
    for box, top, label in zip(records.boxes, tops, records.labels, strict=True):
        name = class_names[label] if label >= 0 else 'ignored'
        # A letter is about 0.6 of its height wide.
        x, y = axes.transData.transform((box[0], top)) * 72 / axes.figure.dpi
        offset, half_width = 3.0, 0.3 * _CLASS_SIZE * len(name)
        while (words := _Words(x, y + offset, half_width)).meet(taken):
            offset -= _CLASS_SIZE
        taken.append(words)
        style: dict[str, Any] = {'color': _TEXT, 'size': _CLASS_SIZE, 'align': 'center'}
        _write(axes, name, (box[0], top), offset=(0, offset), **style)


def _write_title(axes: Axes, title: str, *, size: float) -> None:
    axes.annotate(
        title,
        (0, 1),
        xycoords='axes fraction',
        xytext=(12, -10),
        textcoords='offset points',
        color=_TEXT,
        fontsize=size,
        va='top',
    )


def _write(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    *,
    offset: tuple[float, float],
    color: str,
    size: float,
    align: str = 'left',
) -> None:
    """Text beside a place of the ground; nothing if the place is outside the picture."""
    axes.annotate(
        text,
        place,
        xytext=offset,
        textcoords='offset points',
        annotation_clip=True,
        color=color,
        fontsize=size,
        ha=align,
    )


def _add_legend(
    axes: Axes,
    counts: Mapping[str, int],
    *,
    size: float,
    names: Mapping[str, str] | None = None,
) -> None:
    names = names or {}
    handles = [
        Line2D(
            [],
            [],
            color=STYLES[kind].color,
            linestyle=STYLES[kind].line,
            marker=STYLES[kind].marker,
            linewidth=STYLES[kind].width,
            label=f'{names.get(kind, kind)}: {count}',
        )
        for kind, count in counts.items()
        if count or kind != 'ignored'
    ]
    if handles:
        axes.legend(
            handles=handles,
            loc='upper right',
            facecolor=_BACKGROUND,
            edgecolor=_GRID,
            labelcolor=_TEXT,
            framealpha=0.85,
            fontsize=size,
        )


def _add_color_bar(axes: Axes, *, importance: bool) -> None:
    colors = _IMPORTANCE_COLORS if importance else _HEIGHT_COLORS
    low, high = (0.0, 1.0) if importance else _HEIGHT_RANGE
    width, height = axes.get_window_extent().size
    inset = axes.inset_axes((16 / width, 30 / height, 240 / width, 10 / height))
    bar = axes.figure.colorbar(
        ScalarMappable(Normalize(low, high), colors),
        cax=inset,
        orientation='horizontal',
        ticks=[low, (low + high) / 2, high],
    )
    bar.outline.set_visible(False)  # type: ignore[operator]  # stubs think it is a method
    inset.tick_params(colors=_FAINT, labelsize=8, length=2)
    label = 'importance' if importance else 'height [m]'
    inset.set_title(label, color=_TEXT, fontsize=10, loc='left', pad=4)


# --- geometry --------------------------------------------------------------------------------


def _noses(boxes: FloatArray) -> FloatArray:
    """(N, 2, 2) from the middle of each box to a little before its front."""
    tips = np.zeros((len(boxes), 2, 2), boxes.dtype)
    tips[:, 1, 0] = boxes[:, 3] / 2 + 0.4
    return boxes[:, None, :2] + _rotate(tips, boxes[:, 6])


def _rotate(offsets: FloatArray, yaw: FloatArray) -> FloatArray:
    """(N, K, 2) offsets, turned by (N,) yaw."""
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y = offsets[..., 0], offsets[..., 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1)


def _turn_points(points: FloatArray) -> FloatArray:
    """A quarter turn to the left: x forward becomes up."""
    return np.stack([-points[:, 1], points[:, 0], points[:, 2]], axis=1)


def _turn_boxes(boxes: FloatArray) -> FloatArray:
    quarter = np.full((len(boxes), 1), np.pi / 2, boxes.dtype)
    return np.concatenate([_turn_points(boxes), boxes[:, 3:6], boxes[:, 6:7] + quarter], axis=1)
