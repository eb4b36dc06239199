# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What `demo` says of the shipped bundle."""

from __future__ import annotations

from matplotlib.image import imread
import numpy as np
import pytest

from pointdistiller_core.cli import demo_shipped
from pointdistiller_core.cli.demo_shipped import print_shipped, shipped_stage, try_shipped
from pointdistiller_core.deploy.bundle_format import BundleInfo
from pointdistiller_core.messages.bags import CloudBagWriter
from pointdistiller_core.messages.boxes_cloud import TRUTH_TOPIC, to_box_columns
from pointdistiller_core.pipelines.stages import Stage, run_stages
from pointdistiller_core.records import Detections

CAR, PERSON = (4.0, 1.6, 1.5, 0.0), (0.8, 0.6, 1.7, 0.0)
# x, y and size of what is there: a car, a pedestrian, and one beyond the range.
THERE = [(10, 5, CAR, 0), (8, -4, PERSON, 1), (400, 0, PERSON, 1)]


def boxes(*rows):
    values = [(x, y, -0.8, *size) for x, y, size, _ in rows]
    labels = np.array([label for *_, label in rows], np.int64)
    return Detections(
        np.array(values, np.float32).reshape(-1, 7), np.ones(len(rows), np.float32), labels
    )


class Stub:
    """Finds the car, takes the pedestrian for a cyclist, too, and sees a car where none is."""

    backend, class_names = 'stub', ('Car', 'Pedestrian', 'Cyclist')

    def __init__(self, tiny_model):
        self.info = BundleInfo(model=tiny_model)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, points, **_):  # noqa: ARG002
        return boxes(*THERE[:2], (8, -4, PERSON, 2), (20, 0, CAR, 0))


@pytest.fixture
def drive(tmp_path):
    """Three clouds with labels."""
    with CloudBagWriter(tmp_path / 'drive') as writer:
        writer.name_classes(TRUTH_TOPIC, Stub.class_names)
        for stamp in (1, 2, 3):
            writer.write(TRUTH_TOPIC, stamp, 'lidar', *to_box_columns(boxes(*THERE)))
            writer.write('/points', stamp, 'lidar', np.full((50, 4), 0.5, np.float32))
    return tmp_path / 'drive'


def test_hits_and_false_alarms_are_counted(drive, tmp_path, monkeypatch, tiny_model, capsys):
    stub = Stub(tiny_model)
    monkeypatch.setattr('pointdistiller_core.detector.Detector.load', lambda _: stub)
    picture = tmp_path / 'pictures' / 'shipped.png'
    facts = try_shipped('any', drive, picture)
    assert facts['clouds'] == 3
    assert facts['classes'] == {
        'Car': {'labels': 3, 'found': 3, 'false_alarms': 3, 'on_others': 0},
        'Pedestrian': {'labels': 3, 'found': 3, 'false_alarms': 0, 'on_others': 0},
        'Cyclist': {'labels': 0, 'found': 0, 'false_alarms': 3, 'on_others': 3},
    }
    assert imread(picture).std() > 0.02
    print_shipped(facts, picture)
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if 'Cyclist ' in line and '│' in line]
    assert [cell.strip() for cell in row.strip('│').split('│')] == ['Cyclist', '0', '0', '3', '3']


def test_stage_is_repeated_when_the_bundle_changes(tmp_path, monkeypatch):
    calls = []

    def draw(bundle, _, picture):
        calls.append(bundle)
        picture.touch()
        return {}

    monkeypatch.setattr(demo_shipped, 'try_shipped', draw)
    stage = shipped_stage(tmp_path / 'drive', tmp_path / 'picture.png')
    drive = Stage('drive', lambda _begun: {}, dict, after=())
    for expected in (1, 1):
        list(run_stages(tmp_path, [drive, stage]))
        assert len(calls) == expected
    other = demo_shipped.read_info(demo_shipped.find_bundle(demo_shipped.DEFAULT_BUNDLE))
    changed = other.model_copy(update={'sha256': {}})
    monkeypatch.setattr(demo_shipped, 'read_info', lambda _: changed)
    list(run_stages(tmp_path, [drive, stage]))
    assert len(calls) == 2
