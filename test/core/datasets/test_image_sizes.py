# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Sizes of images of every common format."""

from __future__ import annotations

import numpy as np
from PIL import Image
import pytest

from pointdistiller_core.datasets.image_sizes import (
    SUFFIXES,
    measure_image,
    size_from_principal_point,
)
from pointdistiller_core.formats.kitti import Calibration


@pytest.mark.parametrize('suffix', [*SUFFIXES, '.JPG', '.PNG'])
def test_sizes_of_images(tmp_path, suffix):
    Image.new('L', (64, 48)).save(tmp_path / f'000001{suffix}')
    assert measure_image(tmp_path, '000001') == (64, 48)
    assert measure_image(tmp_path, '000002') is None
    assert measure_image(tmp_path / 'nowhere', '000001') is None


def test_only_the_beginning_is_read(tmp_path):
    path = tmp_path / '000001.jpg'
    Image.new('RGB', (800, 600)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    assert measure_image(tmp_path, '000001') == (800, 600)


@pytest.mark.parametrize(
    ('center', 'size'),
    [((609.56, 172.85), (1219, 346)), ((0, 0), None), ((-5, 100), None), ((1e300, 100), None)],
)
def test_sizes_from_principal_points(center, size):
    camera = np.array([[700.0, 0, center[0], 0], [0, 700, center[1], 0], [0, 0, 1, 0]])
    assert size_from_principal_point(Calibration(np.eye(4), camera)) == size
