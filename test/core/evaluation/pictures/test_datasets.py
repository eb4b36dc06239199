# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
import numpy as np
import pytest

from pointdistiller_core.evaluation.pictures.datasets import _LEVEL_COLORS, draw_objects


@pytest.fixture
def figure(monkeypatch, tmp_path) -> list[Figure]:
    """Holds the figure that was saved last."""
    saved: list[Figure] = []
    monkeypatch.chdir(tmp_path)  # where the empty file stays
    monkeypatch.setattr(Figure, 'savefig', lambda self, *_, **__: saved.append(self))
    return saved


def draw(path: Path, names, difficulties=None, distances=None, num_points=None) -> None:
    count = len(names)
    draw_objects(
        path,
        np.array(names, np.str_),
        difficulties=np.array(difficulties or [0] * count, np.int64),
        distances=np.array(distances or [10.0] * count, np.float32),
        num_points=np.array(num_points or [9] * count, np.int64),
        title='a dataset',
    )


def heights(patch) -> list[float]:
    return patch.get_data().values.tolist()


def test_a_picture_is_written(tmp_path):
    path = tmp_path / 'new' / 'picture.png'
    draw(path, ['Car', 'Van'], [0, -1], [5.0, 60.0], [0, 3000])
    image = imread(path)[..., :3]
    for level in (0, 3):
        assert (np.abs(image - to_rgb(_LEVEL_COLORS[level])).max(axis=-1) < 0.01).any()
    draw(tmp_path / 'picture.svg', ['Car'])
    assert (tmp_path / 'picture.svg').read_text(encoding='utf-8').startswith('<?xml')


def test_bars_are_the_difficulties_of_each_class(figure, tmp_path):
    draw(tmp_path / 'x.png', ['Car', 'Van', 'Car', 'Car', 'Van'], [0, 2, -1, 0, 1])
    axes = figure[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['Car', 'Van']
    widths = [[bar.get_width() for bar in level] for level in axes.containers]
    assert widths == [[2, 0], [0, 1], [0, 1], [1, 0]]
    starts = [[bar.get_x() for bar in level] for level in axes.containers]
    assert starts == [[0, 0], [2, 0], [2, 1], [2, 2]]
    assert [text.get_text() for text in axes.texts] == ['3', '2']


def test_histograms_by_hand(figure, tmp_path):
    draw(
        tmp_path / 'x.png',
        ['Car'] * 5,
        distances=[0, 4.9, 5, 12, 60],
        num_points=[0, 1, 2, 3, 1000],
    )
    _, distance, points, scatter = figure[0].axes
    assert heights(distance.patches[0])[:4] == [2, 1, 1, 0]
    assert sum(heights(distance.patches[0])) == 5
    assert heights(points.patches[0]) == [1, 1, 2, *[0] * 6, 0, 1]  # 0, 1, 2 to 3, ..., 512 on
    assert scatter.collections[0].get_offsets().data.tolist()[1] == [np.float32(4.9), 1]


def test_rare_classes_are_drawn_as_one(figure, tmp_path):
    names = [name for count, name in enumerate('abcdefg', 1) for _ in range(count)]
    draw(tmp_path / 'x.png', names)
    bars, distance, *_ = figure[0].axes
    assert len(bars.get_yticklabels()) == 7
    legend = [text.get_text() for text in distance.get_legend().get_texts()]
    assert legend == ['g', 'f', 'e', 'd', 'others']
    assert max(heights(distance.patches[-1])) == 1 + 2 + 3


def test_no_objects_at_all(tmp_path):
    draw(tmp_path / 'picture.png', [])
    assert imread(tmp_path / 'picture.png').shape[1] > 1000
