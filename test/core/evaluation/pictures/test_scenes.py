# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.image import imread
import numpy as np
import pytest

from pointdistiller_core.evaluation.matching import match_detections
from pointdistiller_core.evaluation.pictures import scenes as pictures
from pointdistiller_core.evaluation.pictures.scenes import (
    Panel,
    draw_comparison,
    draw_found,
    draw_scene,
    extent_of,
)
from pointdistiller_core.records import Detections, Frame, GroundTruth

BOXES = np.array([[10, 2, -1, 4, 2, 1.5, 0.3], [25, -5, -1, 4, 2, 1.5, -3.0]], np.float32)
TRUTH = GroundTruth(BOXES, np.array([0, -1]))
DETECTIONS = Detections(
    BOXES + np.float32(0.1), np.array([0.9, 0.3], np.float32), np.array([0, 0])
)
NO_POINTS = np.zeros((0, 4), np.float32)


@pytest.fixture
def points() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform((0, -20, -2, 0), (50, 20, 2, 1), (500, 4)).astype(np.float32)


def pixels_of(path: Path) -> np.ndarray:
    """(H, W, 3) bytes of a PNG."""
    return np.round(imread(path)[..., :3] * 255).astype(np.uint8)


KINDS = ('found', 'false positive')


def has_color(image: np.ndarray, style: str) -> bool:
    return count_color(image, style) > 0


def count_color(image: np.ndarray, style: str) -> int:
    color = pictures.STYLES[style].color
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(image.astype(int) - wanted).max(axis=-1) < 12).sum())


def test_scene_is_written_at_its_width_with_every_box(tmp_path, points):
    path = tmp_path / 'new' / 'scene.png'
    draw_scene(
        path,
        points,
        importance=np.linspace(0, 1, 500, dtype=np.float32),
        truth=TRUTH,
        teacher=DETECTIONS,
        student=DETECTIONS[np.array([0])],
        title='a frame',
        class_names=('Car',),
    )
    image = pixels_of(path)
    assert image.shape[1] == pictures.WIDTH
    assert all(has_color(image, kind) for kind in ('truth', 'teacher', 'student'))


def test_points_have_the_color_of_their_importance(tmp_path):
    # 20 pixels a meter: the points lie in the middle of pixels, away from the range rings.
    points = np.array([[30.025, 5.025, 0, 0], [50.025, -5.025, 0, 0]], np.float32)
    importance = np.array([0, 1], np.float32)
    path = tmp_path / 'scene.png'
    draw_scene(path, points, importance=importance, extent=(0, 80, -20, 20))
    image = pixels_of(path)
    drawn = np.array([image[299, 600], image[500, 1000]]) / 255
    expected = colormaps['inferno']([0.3, 1.0])[:, :3]  # the darkest colors are not used
    np.testing.assert_allclose(drawn, expected, atol=0.01)


def test_height_follows_from_the_extent(tmp_path):
    draw_scene(tmp_path / 'scene.png', NO_POINTS, extent=(0, 80, -20, 20))
    assert pixels_of(tmp_path / 'scene.png').shape == (800, 1600, 3)


def test_nothing_at_all_is_a_picture(tmp_path):
    draw_scene(
        tmp_path / 'scene.png',
        NO_POINTS,
        importance=np.zeros(0, np.float32),
        truth=GroundTruth.empty(),
        teacher=Detections.empty(),
        student=Detections.empty(),
        class_names=('Car',),
    )
    assert pixels_of(tmp_path / 'scene.png').shape[1] == 1600


def test_scene_into_given_axes(points):
    axes = Figure().add_subplot()
    draw_scene(axes, points, truth=TRUTH, class_names=('Car',))
    texts = [text.get_text() for text in axes.texts]
    assert 'Car' in texts
    assert 'ignored' in texts
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        'ignored: 1',
        'truth: 1',
    ]


def test_legend_calls_the_boxes_what_the_caller_calls_them(points):
    axes = Figure().add_subplot()
    draw_scene(axes, points, student=Detections.empty(), student_name='detections')
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['detections: 0']


def test_comparison_marks_found_missed_and_made_up(tmp_path, points):
    truth = GroundTruth(BOXES, np.array([0, 0]))
    detections = Detections(
        np.array([BOXES[0], BOXES[0] + [0, 10, 0, 0, 0, 0, 0]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array([0, 0]),
    )
    matches = match_detections(detections, truth, [0.5])
    path = tmp_path / 'comparison.png'
    panels = [Panel('truth'), Panel('student', detections, matches), Panel('plain', detections)]
    draw_comparison(path, points, panels, truth=truth, title='frame 8')
    image = pixels_of(path)
    assert image.shape[1] == pictures.WIDTH
    thirds = np.array_split(image, 3, axis=1)
    marked = [
        {kind for kind in ('found', 'false positive', 'missed') if has_color(part, kind)}
        for part in thirds
    ]
    assert marked == [set(), {'found', 'false positive', 'missed'}, {'found'}]


def test_found_of_two_models(tmp_path, points):
    frame = Frame(points, '8', GroundTruth(BOXES[:1], np.array([0])))
    wrong = BOXES[:1] + np.array([[0, 9, 0, 0, 0, 0, 0]], np.float32)
    models = {
        name: Detections(boxes, np.ones(1, np.float32), np.array([0]))
        for name, boxes in (('right', BOXES[:1]), ('wrong', wrong))
    }
    draw_found(tmp_path / 'found.png', frame, models, [0.5], title='frame 8')
    halves = np.array_split(pixels_of(tmp_path / 'found.png'), 2, axis=1)
    found, made_up = ([count_color(half, kind) for half in halves] for kind in KINDS)
    assert found[0] > found[1] > 0  # the legend has both colors, too
    assert made_up[1] > made_up[0] > 0


@pytest.mark.parametrize('num_panels', [1, 4])
def test_comparison_of_nothing(tmp_path, num_panels):
    empty = Detections.empty()
    matches = match_detections(empty, GroundTruth.empty(), [0.5])
    panels = [Panel('student', empty, matches)] * num_panels
    path = tmp_path / 'comparison.png'
    draw_comparison(path, NO_POINTS, panels, truth=GroundTruth.empty())
    assert pixels_of(path).shape[1] == 1600


def test_points_beyond_the_picture_and_not_finite_are_left_out(tmp_path, points):
    odd = np.concatenate([points, np.full((1, 4), np.nan, np.float32)])
    draw_scene(tmp_path / 'scene.png', odd)
    assert np.isfinite(extent_of(odd)).all()


def test_extent_holds_boxes_and_sensor_but_no_stray_point():
    cloud = np.zeros((1000, 4), np.float32)
    cloud[0, :2] = 500
    x_min, x_max, y_min, y_max = extent_of(cloud, BOXES)
    assert (x_min, x_max, y_min, y_max) == (-3, 28, -8, 5)


def test_arguments_stay_as_they_are(tmp_path, points):
    before = points.copy(), BOXES.copy()
    draw_scene(tmp_path / 'scene.png', points, truth=TRUTH, student=DETECTIONS)
    draw_comparison(tmp_path / 'two.png', points, [Panel('truth')], truth=TRUTH)
    assert np.array_equal(points, before[0])
    assert np.array_equal(BOXES, before[1])


def test_names_of_boxes_in_one_place_are_below_one_another(points):
    figure = Figure(figsize=(16, 9), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    boxes = np.repeat(BOXES[:1], 3, axis=0) + np.float32([[0], [0.1], [10]])
    found = Detections(boxes, np.ones(3, np.float32), np.array([0, 1, 0]))
    draw_scene(axes, points, student=found, class_names=('Pedestrian', 'Cyclist'))
    figure.canvas.draw()
    names = [text for text in axes.texts if text.get_text() in ('Pedestrian', 'Cyclist')]
    first, second, _ = (text.get_window_extent() for text in names)
    assert first.y0 - second.y0 > 0.7 * first.height
    assert names[2].xyann == names[0].xyann
