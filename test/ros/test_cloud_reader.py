# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What a node says of the intensity of its first clouds, and what it makes of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')

from std_msgs.msg import Header

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.errors import CloudError
from pointdistiller_core.messages.cloud_reader import CloudReader
from pointdistiller_ros.conversions import to_cloud
from pointdistiller_ros.parameters import InputParameters


class Log:
    """Remembers what was said, and how."""

    def __init__(self):
        self.said = []

    def info(self, text):
        self.said.append(('info', text))

    def warning(self, text):
        self.said.append(('warning', text))


def make_reader(*ranges, **parameters):
    log, names = Log(), ('teacher', 'student')
    infos = {
        name: BundleInfo(
            model=PointPillarsConfig(), intensity_range=limits, intensity_assumed=False
        )
        for name, limits in zip(names, ranges or [(0, 1)], strict=False)
    }
    return CloudReader(InputParameters(**parameters), infos, log), log


def make_points(scale=1.0, num_points=500):
    rng = np.random.default_rng(0)
    columns = [rng.uniform(1, 9, (num_points, 3)), rng.uniform(0, scale, (num_points, 1))]
    return np.concatenate(columns, axis=1).astype(np.float32)


def make_cloud(scale=1.0, dtype=np.float32):
    """Of driver's numbers from 0 to `scale`."""
    points = make_points(scale)
    intensity = {'intensity': points[:, 3].astype(dtype)}
    return to_cloud(points[:, :3], Header(frame_id='lidar'), intensity)


def test_says_once_what_is_likely_and_changes_nothing():
    reader, log = make_reader()
    for _ in range(20):
        points = reader.read(make_cloud(255))
        np.testing.assert_array_equal(points, make_points(255))
    assert log.said == [
        (
            'warning',
            'intensity reaches 253, the teacher was trained on 0 to 1: likely scale 1/255 '
            '(parameter intensity_auto, or intensity_scale 0.00392157; of pointdistiller run: '
            '--intensity-scale auto)',
        )
    ]
    assert reader.problem == log.said[0][1]
    assert reader.scale is None


def test_auto_scales_from_the_first_cloud_on():
    reader, log = make_reader(intensity_auto=True)
    for _ in range(20):
        points = reader.read(make_cloud(255))
        np.testing.assert_allclose(points[:, 3], make_points(255)[:, 3] / 255, rtol=1e-6)
    assert [kind for kind, _ in log.said] == ['info']
    assert 'scaled by 1/255 (0.00392157)' in log.said[0][1]
    assert reader.problem == ''
    assert reader.scale == pytest.approx(1 / 255)


def test_auto_stays_after_ten_clouds():
    reader, _ = make_reader(intensity_auto=True)
    for _ in range(10):
        reader.read(make_cloud(255))
    assert reader.read(make_cloud(1))[:, 3].max() < 0.01
    reader, _ = make_reader(intensity_auto=True)
    for _ in range(10):
        reader.read(make_cloud(1))
    assert reader.read(make_cloud(255))[:, 3].max() > 200


@pytest.mark.parametrize('auto', [False, True])
def test_eight_bits_in_a_field_of_sixteen(auto):
    """As Ouster's reflectivity: divided by the largest number of its type it nearly vanishes."""
    reader, log = make_reader(intensity_auto=auto)
    points = reader.read(make_cloud(255, np.uint16))
    ((_, text),) = log.said
    assert 'intensity reaches 0.00386 at most' in text or 'intensity reaches 0.0038' in text
    assert '1/255' in text
    assert '0.00392157' in text  # the factor on the driver's own numbers
    assert points[:, 3].max() == pytest.approx(1 if auto else 1 / 257, rel=0.01)


def test_a_given_scale_is_judged_too():
    reader, log = make_reader(intensity_scale=0.1)
    assert reader.read(make_cloud(255))[:, 3].max() == pytest.approx(25.5, rel=0.01)
    assert (
        'likely scale 1/255 (parameter intensity_auto, or intensity_scale 0.00392157;'
        in log.said[0][1]
    )
    reader, log = make_reader(intensity_scale=1 / 255)
    reader.read(make_cloud(255))
    assert log.said == []


def test_constant_intensity_is_said_where_nobody_asked_for_it():
    reader, log = make_reader()
    reader.read(make_cloud(0))
    assert 'intensity is 0 throughout' in log.said[0][1]
    reader, log = make_reader(missing_intensity='zero')
    bare = to_cloud(make_points()[:, :3], Header())
    assert reader.read(bare)[:, 3].max() == 0
    assert log.said == []
    assert reader.problem == ''


def test_each_detector_has_its_own_range():
    reader, log = make_reader((0, 1), (0, 255), intensity_auto=True)
    points = reader.read(make_cloud(255))
    assert points[:, 3].max() == pytest.approx(1, rel=0.01)  # the teacher's
    (_, first), (kind, second) = log.said
    assert 'the teacher was trained on 0 to 1: scaled by 1/255' in first
    assert kind == 'warning'
    assert 'the student was trained on 0 to 255' in second
    assert reader.problem == second


def test_a_broken_cloud_is_not_judged():
    reader, log = make_reader(missing_intensity='error')
    with pytest.raises(CloudError):
        reader.read(to_cloud(make_points()[:, :3], Header()))
    assert log.said == []
    reader.read(to_cloud(make_points()[:0], Header()))
    assert log.said == []


def test_a_plain_cloud_is_not_copied():
    reader, _ = make_reader()
    cloud = to_cloud(make_points(), Header())
    for _ in range(12):
        assert np.shares_memory(reader.read(cloud), np.frombuffer(cloud.data, np.uint8))
