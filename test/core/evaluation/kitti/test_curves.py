# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from matplotlib.image import imread
import numpy as np
import pytest

from pointdistiller_core.evaluation.kitti import curves
from pointdistiller_core.evaluation.kitti.curves import draw_curves
from pointdistiller_core.evaluation.kitti.matching import Curve
from pointdistiller_core.evaluation.kitti.metric import METRICS, KittiResult

OVERLAPS = {'Car': 0.7, 'Pedestrian': 0.5}
CURVE = Curve(np.array([0.9, 0.5, 0.1]), np.array([0.1, 0.5, 0.8]), np.array([0.7, 0.9, 0.4]))
NO_HITS = Curve(np.zeros(0), np.zeros(0), np.zeros(0))
CAR = {'Car': {'easy': CURVE, 'moderate': CURVE, 'hard': NO_HITS}}
RESULT = KittiResult(dict.fromkeys(METRICS, CAR), {}, min_overlaps=OVERLAPS)


@pytest.fixture
def panels(monkeypatch):
    """The axes that are drawn into."""
    drawn = []

    def remember(*arguments):
        figure, grid = new_figure(*arguments)
        drawn.extend(axes for row in grid for axes in row)
        return figure, grid

    new_figure = curves._new_figure
    monkeypatch.setattr(curves, '_new_figure', remember)
    return drawn


def test_a_panel_for_each_metric_and_class(tmp_path, panels):
    draw_curves(tmp_path / 'new' / 'curves.png', RESULT, title='a detector')
    assert imread(tmp_path / 'new' / 'curves.png').shape[1] > 1000
    assert len(panels) == 8
    titles = [axes.get_title() for axes in panels]
    assert titles == ['Car, overlap > 0.7', 'Pedestrian, overlap > 0.5', *[''] * 6]
    names = [text.get_text() for axes in panels for text in axes.texts]
    for name in ('2D box', "bird's eye view", '3D box', 'orientation'):
        assert name in names
    assert names.count('not evaluated') == 4


def test_curves_show_the_best_at_each_recall_or_a_higher_one(tmp_path, panels):
    draw_curves(tmp_path / 'curves.png', RESULT)
    line = panels[0].lines[0]
    assert line.get_xdata().tolist() == [0, 10, 50, 80]
    assert line.get_ydata().tolist() == [90, 90, 90, 40]
    labels = [text.get_text() for text in panels[0].get_legend().get_texts()]
    assert labels == ['easy 3.25', 'moderate 3.25', 'hard 0.00']  # (90 + 40) / 40
    assert len({(line.get_color(), line.get_linestyle()) for line in panels[0].lines[::2]}) == 3


def test_one_metric_as_svg(tmp_path, panels):
    draw_curves(tmp_path / 'curves.svg', KittiResult({'aos': {}}, {}, min_overlaps={'Car': 0.5}))
    assert (tmp_path / 'curves.svg').read_text(encoding='utf-8').startswith('<?xml')
    assert [text.get_text() for text in panels[0].texts] == ['not evaluated', 'orientation']
