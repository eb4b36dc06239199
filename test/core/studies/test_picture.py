# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from matplotlib.image import imread
import pytest

from pointdistiller_core.studies import picture as study_picture
from pointdistiller_core.studies.picture import draw_bars, draw_settings
from pointdistiller_core.studies.table import Arm, summarize

ARMS = [Arm('plain', 'labels alone'), Arm('a', 'N = 4', 'plain'), Arm('b', 'N = 8', 'plain')]
RUNS = {
    'plain': {0: {'BEV mAP': 10, '3D mAP': 5}, 1: {'BEV mAP': 20, '3D mAP': 7}},
    'a': {0: {'BEV mAP': 30, '3D mAP': 8}, 1: {'BEV mAP': 34, '3D mAP': 9}},
}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn into."""
    drawn = []

    def remember(*arguments):
        drawn.append(new_figure(*arguments))
        return drawn[-1]

    new_figure = study_picture._new_figure
    monkeypatch.setattr(study_picture, '_new_figure', remember)
    return drawn


def lines_of(axes):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_a_bar_for_each_arm_and_a_dot_for_each_seed(tmp_path, figures):
    file = tmp_path / 'new' / 'bars.png'
    draw_bars(file, summarize(ARMS, RUNS), RUNS, title='a study')
    assert imread(file).shape[1] > 1000
    bev, three = figures[0].axes
    assert [axes.get_title() for axes in (bev, three)] == ['BEV mAP', '3D mAP']
    assert [bar.get_width() for bar in bev.patches] == [15, 32]
    assert lines_of(three)[0] == ([5, 7], [0, 0])
    assert lines_of(three)[1] == ([8, 9], [1, 1])
    assert lines_of(three)[2][0] == [6, 6]  # what the taught arm is compared with
    assert [text.get_text().strip() for text in bev.texts] == ['no run yet']
    labels = [label.get_text() for label in bev.get_yticklabels()]
    assert labels == ['labels alone', 'N = 4', 'N = 8']


def test_curves_over_settings(tmp_path, figures):
    runs = RUNS | {'b': {1: {'BEV mAP': 40, '3D mAP': 3}}}
    settings = {'num_samples': {'b': 8.0, 'a': 4.0, 'c': 16.0}, 'num_neighbors': {'a': 2.0}}
    rows = summarize([*ARMS, Arm('c', 'N = 16', 'plain')], runs)
    draw_settings(tmp_path / 'curves.svg', rows, runs, settings=settings)
    assert len(figures[0].axes) == 4
    bev, _, three, _ = figures[0].axes
    baseline, means, *dots = lines_of(bev)
    assert baseline[1] == [15, 15]
    assert means == ([4, 8], [32, 40])
    assert dots == [([4, 4], [30, 34]), ([8], [40])]
    assert three.get_xlabel() == 'num_samples'
    assert [label.get_text() for label in three.get_xticklabels()] == ['4', '8', '16']


def test_before_the_first_run(tmp_path):
    rows = summarize(ARMS, {})
    draw_bars(tmp_path / 'bars.svg', rows, {})
    draw_settings(tmp_path / 'curves.svg', rows, {}, settings={'num_samples': {'a': 4.0}})
    assert (tmp_path / 'curves.svg').read_text(encoding='utf-8').startswith('<?xml')
