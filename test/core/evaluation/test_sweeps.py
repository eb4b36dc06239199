# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of sweeps that can be computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.sweeps import fit_road, measure_sweeps, to_json
from pointdistiller_core.records import Frame, GroundTruth

CLASSES = ('Car', 'Pedestrian')


def frame_of(points, boxes=(), labels=()) -> Frame:
    truth = GroundTruth(
        np.array(boxes, np.float32).reshape(-1, 7), np.array(labels, np.int64).reshape(-1)
    )
    return Frame(np.array(points, np.float32).reshape(-1, 4), '7', truth)


def road(slope: float = 0.0, height: float = 1.5) -> np.ndarray:
    """A road all round, 20 points in each cell of 2 m, rising ahead."""
    x, y = np.meshgrid(np.arange(-24, 24, 0.4), np.arange(-8, 8, 0.4))
    z = slope * x - height
    return np.stack([x, y, z, np.full_like(x, 0.25)], axis=-1).reshape(-1, 4)


def test_rows_of_points_by_hand():
    at = [[60, 0, 2, 0], [10, 0, -0.1, 0.5], [10, 0, -1.5, 0.5], [0, 10, 1.5, 1]]
    rows = measure_sweeps([frame_of(at)], ())
    assert rows['points'] == 4
    assert rows['beyond 50 m [%]'] == 25
    assert rows['above 1 m [%]'] == 50
    bands = {name: value for name, value in rows.items() if name.startswith('elevation')}
    assert list(bands.values()) == [0, 1, 0, 1, 1, 1]  # -8.5, -0.6, 1.9 and 8.5 degrees
    assert rows['intensity, mean'] == 0.5
    assert rows['intensity 0 [%]'] == 25


@pytest.mark.parametrize('slope', [0.0, 0.02, -0.03])
def test_the_road_is_found_below_walls_and_cars(slope):
    wall = road(slope) + np.array([0, 0, 1.2, 0])
    plane = fit_road(np.concatenate([road(slope), wall[wall[:, 1] > 2]]))
    np.testing.assert_allclose(plane, [slope, 0, -1.5], atol=1e-6)


def test_road_rows_are_means_and_deviations_over_frames():
    rows = measure_sweeps([frame_of(road(0.01, 1.4)), frame_of(road(0.03, 1.6))], ())
    assert rows['road height [m]'] == pytest.approx(-1.5)
    assert rows['road height, std [m]'] == pytest.approx(0.1)
    assert rows['slope along [deg]'] == pytest.approx(math.degrees(0.02), rel=1e-3)
    assert rows['slope along, std [deg]'] == pytest.approx(math.degrees(0.01), rel=1e-3)


def test_cells_above_the_road():
    above = [[10, y, -1.1, 0.5] for y in (0.05, 0.15, 0.25, 0.45)]  # 0.4 m above it
    rows = measure_sweeps([frame_of([*road(), *above, [12, 0, -0.9, 0.5]])], ())
    assert rows['cells 0.4 m above the road'] == 3


def column(x: float, y: float, top: float, wide: float = 0.1) -> list[list[float]]:
    """Points from 0.5 m above the road upwards, side by side."""
    places = np.arange(y, y + wide + 1e-6, 0.1)
    return [[x, y, z - 1.5, 0.5] for z in np.arange(0.5, top + 1e-6, 0.1) for y in places]


def test_slender_things_that_stand_alone_are_counted_by_height():
    box = [12, -12, -0.6, 0.8, 0.6, 1.8, 0]
    points = [
        *road(),
        *column(10, 10, 1.1),
        *column(15, 10, 1.7),
        *column(20, 10, 1.8, wide=0.9),
        *column(25, 10, 2.6),
        *column(-25, 10, 3.5),  # what is above does not count
        *column(12, -12, 1.7),  # labelled
        *column(20, -12, 1.7, wide=2.0),  # a wall, and a long one
        *column(24, -14, 1.7, wide=30.0),
        *column(3, -3, 1.7),  # too near
        *column(-30, -10, 0.8)[:6],  # too few points
    ]
    rows = measure_sweeps([frame_of(points, [box], [1])], CLASSES)
    counts = {name: value for name, value in rows.items() if name.startswith('standing alone')}
    assert list(counts.values()) == [1, 2, 2]
    bare = measure_sweeps([frame_of(column(15, 10, 1.7))], CLASSES)  # no road
    assert math.isnan(bare['standing alone, as tall as people'])


def test_rows_of_a_class_by_hand():
    heights = [-1, -0.5, 0, 0.25, 0.5]
    points = [[10, 0, z, 0.0 if z < 0 else 0.5] for z in heights] + [[30, 0, 0, 0.5]]
    boxes = [[10, 0, 0, 4, 2, 2, 0.1], [30, 0, 0, 4, 2, 2, math.pi / 2], [30, 9, 0, 4, 2, 2, -2.5]]
    frames = [frame_of(points, boxes, [0, 0, -1]), frame_of(points)]
    rows = measure_sweeps(frames, CLASSES)
    assert rows['Car: a frame'] == 1
    assert rows['Car: frames without [%]'] == 50
    assert rows['Car: intensity 0 [%]'] == pytest.approx(100 * 2 / 6)
    assert rows['Car: visible height'] == 0.75  # the other one has too few points
    assert [rows[f'Car: {name} [%]'] for name in ('along', 'oblique', 'across')] == [50, 0, 50]
    distances = [rows[f'Car: points at {name}'] for name in ('0-20 m', '20-40 m', '40+ m')]
    assert distances[:2] == [5, 1]
    assert math.isnan(distances[2])
    assert rows['Pedestrian: a frame'] == 0
    assert math.isnan(rows['Pedestrian: visible height'])


def test_no_points_at_all():
    values = to_json(measure_sweeps([frame_of([])], CLASSES))
    assert values['points'] == 0
    assert values['road height [m]'] is None
    assert (
        values['cells 0.4 m above the road'] is None or values['cells 0.4 m above the road'] == 0
    )


def test_sweeps_without_labels_have_no_rows_of_classes():
    bare = Frame(np.array([[60, 0, 2, 0]], np.float32))
    rows = measure_sweeps([bare], CLASSES)
    assert rows['beyond 50 m [%]'] == 100
    assert all(math.isnan(value) for name, value in rows.items() if ':' in name)
    car = frame_of([], [[10, 0, 0, 4, 2, 2, 0.1]], [0])
    mixed = measure_sweeps([bare, car], CLASSES)
    assert mixed['Car: a frame'] == 1
    assert mixed.keys() == rows.keys()


def test_a_frame_is_needed():
    with pytest.raises(DatasetError, match='no sweep'):
        measure_sweeps([], CLASSES)
