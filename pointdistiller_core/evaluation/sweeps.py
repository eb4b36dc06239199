# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers that describe sweeps and their labels, so that two datasets can be compared.

What a detector learns from one sensor, street or simulation carries over to another if these
numbers agree. They need only points and boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.free_standing import count_free_standing
from pointdistiller_core.geometry.boxes import points_in_boxes
from pointdistiller_core.records import Frame, GroundTruth

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

Rows: TypeAlias = dict[str, float]  # name -> number; NaN if there is nothing to measure

ELEVATIONS = (-90, -10, -5, -2, 0, 3, 90)  # [deg] where each band begins, and the last one ends
DISTANCES = (0, 20, 40, math.inf)  # [m] from the sensor, from above
HEADINGS = {'along': (0, 30), 'oblique': (30, 60), 'across': (60, 90)}  # [deg] to the x axis
FAR, HIGH = 50.0, 1.0  # [m] from the sensor; above it
SLICE, CELL = (0.35, 0.45), 0.2  # [m] above the road; edge of a cell
FEWEST_POINTS = 5  # in a box whose visible height is measured
ROAD = (4.0, 25.0, 4.0)  # [m] nearest and farthest distance, and half width of the way ahead
ROAD_CELL, ROAD_POINTS = 2.0, 5  # [m] edge; fewest points of a cell that is used
ROAD_TOLERANCES = (0.5, 0.3, 0.2, 0.15, 0.15)  # [m] of the successive fits


@dataclass(frozen=True)
class _Sweep:
    """One frame, measured.

    Attributes:
        rows: of the sweep.
        labels: (G,) int64 of its boxes.
        boxes: (G, 7).
        num_points: (G,) int64 in each box.
        num_silent: (G,) int64 of these, with intensity 0.
        visible: (G,) extent of the points along z, as a part of the box's height.
    """

    rows: Rows
    labels: NDArray[np.int64]
    boxes: FloatArray
    num_points: NDArray[np.int64]
    num_silent: NDArray[np.int64]
    visible: FloatArray


def measure_sweeps(frames: Iterable[Frame], class_names: Sequence[str]) -> Rows:
    """Measure the sweeps of a dataset and their labels.

    Args:
        frames: their labels, if any, are indices into `class_names`.
        class_names: classes of the objects to measure.

    Returns:
        A number for each row, see docs/reference/simulation.md; NaN if there is nothing to
        measure.

    Raises:
        DatasetError: there is no frame.
    """
    sweeps, labelled = [], []
    for frame in frames:
        sweeps.append(measured := _measure_sweep(frame))
        if frame.ground_truth is not None:
            labelled.append(measured)
    if not sweeps:
        raise DatasetError('there is no sweep to measure')
    columns = {name: np.array([sweep.rows[name] for sweep in sweeps]) for name in sweeps[0].rows}
    rows = {name: _mean(values) for name, values in columns.items()}
    for name in ('road height [m]', 'slope along [deg]'):
        known = columns[name][np.isfinite(columns[name])]
        rows[name.replace(' [', ', std [')] = float(known.std()) if len(known) else math.nan
    for label, class_name in enumerate(class_names):
        rows |= {
            f'{class_name}: {name}': value for name, value in _class_rows(labelled, label).items()
        }
    return rows


def _measure_sweep(frame: Frame) -> _Sweep:
    truth = frame.ground_truth or GroundTruth.empty()
    points = frame.points.astype(np.float64)
    inside = points_in_boxes(points, truth.boxes.astype(np.float64))
    silent = points[:, 3] == 0
    return _Sweep(
        _sweep_rows(points, truth.boxes.astype(np.float64)),
        truth.labels,
        truth.boxes.astype(np.float64),
        inside.sum(axis=0),
        (inside & silent[:, None]).sum(axis=0),
        _visible_heights(points[:, 2], inside) / truth.boxes[:, 5],
    )


def _sweep_rows(points: FloatArray, boxes: FloatArray) -> Rows:
    """Rows of one sweep (N, 4) with its labels (G, 7)."""
    x, y, z, intensity = points.T
    ranges = np.sqrt(x * x + y * y + z * z)
    elevations = np.degrees(np.arcsin(z / np.maximum(ranges, 1e-9)))
    bands = np.histogram(elevations, ELEVATIONS)[0]
    road = fit_road(points)
    above = z - (road[0] * x + road[1] * y + road[2])
    return {
        'points': float(len(points)),
        f'beyond {FAR:g} m [%]': _percent(ranges > FAR),
        f'above {HIGH:g} m [%]': _percent(z > HIGH),
        **{
            f'elevation {low}..{high} deg': float(count)
            for (low, high), count in zip(pairwise(ELEVATIONS), bands, strict=True)
        },
        'cells 0.4 m above the road': _occupied_cells(points[:, :2], above),
        **{
            f'standing alone, {kind}': count
            for kind, count in count_free_standing(points, above, boxes).items()
        },
        'intensity, mean': _mean(intensity),
        'intensity 0 [%]': _percent(intensity == 0),
        'road height [m]': float(road[2]),
        'slope along [deg]': math.degrees(math.atan(road[0])),
        'slope across [deg]': math.degrees(math.atan(road[1])),
    }


def _occupied_cells(places: FloatArray, above: FloatArray) -> float:
    """Number of cells, from above, with a point at the height of a slice; places (N, 2) [m]."""
    if not np.isfinite(above).all():
        return math.nan
    chosen = places[(above > SLICE[0]) & (above < SLICE[1])]
    return float(len(np.unique(np.floor(chosen / CELL).astype(np.int64), axis=0)))


def fit_road(points: NDArray[np.floating]) -> FloatArray:
    """The plane of the road ahead of and behind the sensor.

    The low points of cells of 2 m, within 4 m of the x axis and 4 to 25 m away, are fitted by
    least squares, repeatedly, each time without outliers.

    Args:
        points: (N, 3 or more) x, y, z first [m], sensor frame.

    Returns:
        (3,) rise along x, rise along y [m/m], z below the sensor [m]; NaN if nothing is there.
    """
    low = _low_points(points)
    if not len(low):
        return np.full(3, math.nan)
    design = np.concatenate([low[:, :2], np.ones((len(low), 1))], axis=1)
    plane: FloatArray = np.array([0.0, 0.0, np.median(low[:, 2])])
    for tolerance in ROAD_TOLERANCES:
        near = np.abs(design @ plane - low[:, 2]) < tolerance
        if near.sum() < 3:
            break
        plane = np.linalg.lstsq(design[near], low[near, 2], rcond=None)[0]
    return plane


def _low_points(points: NDArray[np.floating]) -> FloatArray:
    """(n, 3) the point at a fifth of the heights of each cell of the way ahead and behind."""
    nearest, farthest, half_width = ROAD
    distances = np.hypot(points[:, 0], points[:, 1])
    on_way = (distances > nearest) & (distances < farthest) & (np.abs(points[:, 1]) < half_width)
    way = points[on_way, :3].astype(np.float64)
    cells = np.floor(way[:, :2] / ROAD_CELL).astype(np.int64)
    order = np.lexsort((way[:, 2], cells[:, 1], cells[:, 0]))
    _, starts, counts = np.unique(cells[order], axis=0, return_index=True, return_counts=True)
    chosen = (starts + counts // 5)[counts >= ROAD_POINTS]
    low: FloatArray = way[order][chosen]
    return low


def _visible_heights(z: FloatArray, inside: BoolArray) -> FloatArray:
    """(G,) extent along z [m] of the points in each box; NaN if they are too few."""
    heights: FloatArray = np.array(
        [np.ptp(z[column]) if column.sum() >= FEWEST_POINTS else math.nan for column in inside.T]
    )
    return heights


def _class_rows(sweeps: Sequence[_Sweep], label: int) -> Rows:
    """Rows of one class."""
    of_class = [sweep.labels == label for sweep in sweeps]
    counts = np.array([chosen.sum() for chosen in of_class])

    def gather(name: str) -> FloatArray:
        columns = [
            getattr(sweep, name)[chosen] for sweep, chosen in zip(sweeps, of_class, strict=True)
        ]
        if not columns:
            return np.zeros((0, 7) if name == 'boxes' else 0)
        joined: FloatArray = np.concatenate(columns).astype(np.float64)
        return joined

    boxes, num_points = gather('boxes'), gather('num_points')
    visible = gather('visible')
    total = num_points.sum()
    return {
        'a frame': _mean(counts),
        'frames without [%]': _percent(counts == 0),
        'intensity 0 [%]': 100 * gather('num_silent').sum() / total if total else math.nan,
        'visible height': _mean(visible[np.isfinite(visible)]),
        **_heading_rows(boxes[:, 6]),
        **_points_by_distance(boxes, num_points),
    }


def _heading_rows(yaw: FloatArray) -> Rows:
    """Parts [%] of the headings (G,) [rad] along, oblique to and across the x axis."""
    angles = np.degrees(np.arccos(np.minimum(np.abs(np.cos(yaw)), 1)))
    return {
        f'{name} [%]': _percent((angles >= low) & ((angles < high) | (high == 90)))
        for name, (low, high) in HEADINGS.items()
    }


def _points_by_distance(boxes: FloatArray, num_points: FloatArray) -> Rows:
    """Median number of points in a box (G, 7), by its distance."""
    distances = np.hypot(boxes[:, 0], boxes[:, 1])
    rows = {}
    for low, high in pairwise(DISTANCES):
        chosen = num_points[(distances >= low) & (distances < high)]
        name = f'{low:g}+ m' if math.isinf(high) else f'{low:g}-{high:g} m'
        rows[f'points at {name}'] = float(np.median(chosen)) if len(chosen) else math.nan
    return rows


def to_json(rows: Mapping[str, float]) -> dict[str, float | None]:
    """Rows with four decimals, None for NaN."""
    return {name: None if math.isnan(value) else round(value, 4) for name, value in rows.items()}


def _mean(values: NDArray[np.generic]) -> float:
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else math.nan


def _percent(chosen: BoolArray) -> float:
    return 100 * float(chosen.mean()) if len(chosen) else math.nan
