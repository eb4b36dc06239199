# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The command line in this process, a bundle and a dataset for it."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import sys

from changed_config import changed
import pytest
import torch

from pointdistiller_core.cli import main
from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.deploy.bundle import BundleInfo, save_bundle
from pointdistiller_core.formats.kitti import format_calibration, format_objects
from pointdistiller_core.models import build_detector


@pytest.fixture
def run(monkeypatch, capsys):
    """`run('evaluate', ...)` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', ['pointdistiller', *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, ' '.join(output.err.split())

    return call


@pytest.fixture
def make_bundle(tmp_path, tiny_model) -> Callable[..., Path]:
    """`make_bundle(name, seed=0, **changes)`: untrained, believes in its twenty best boxes."""

    def make(name: str, *, seed: int = 0, **changes: object) -> Path:
        torch.manual_seed(seed)
        detection = DetectionConfig(score_threshold=0.0, max_detections=20)
        config = changed(tiny_model.model_copy(update={'detection': detection}), **changes)
        save_bundle(tmp_path / name, build_detector(config), BundleInfo(model=config))
        return tmp_path / name

    return make


@pytest.fixture
def bundle(make_bundle) -> Path:
    """One of these."""
    return make_bundle('bundle')


@pytest.fixture
def dataset(tmp_path, tiny_dataset) -> Path:
    """Two frames in KITTI layout, as the splits `val` and, one of them, `one`."""
    frames, root = tiny_dataset(2), tmp_path / 'data'
    for folder in ('ImageSets', 'training/velodyne', 'training/label_2', 'training/calib'):
        (root / folder).mkdir(parents=True)
    sizes = {}
    for index, frame in enumerate(frames.frames):
        name, training = frame.frame_id, root / 'training'
        frame.points.tofile(training / 'velodyne' / f'{name}.bin')
        texts = {
            'label_2': format_objects(frames.objects(index)),
            'calib': format_calibration(frames.calibration(index)),
        }
        for folder, text in texts.items():
            (training / folder / f'{name}.txt').write_text(text, encoding='utf-8')
        sizes[name] = frames.image_size(index)
    (root / 'image_sizes.json').write_text(json.dumps(sizes), encoding='utf-8')
    (root / 'ImageSets' / 'val.txt').write_text('000000\n000001\n', encoding='utf-8')
    (root / 'ImageSets' / 'one.txt').write_text('000001\n', encoding='utf-8')
    return root
