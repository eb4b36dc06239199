# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles made to harm: one clear error, before they cost time or memory."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
import json
import os
from pathlib import Path
import struct
from typing import Any

import pytest
import torch

from pointdistiller_core.deploy import bundle as module
from pointdistiller_core.deploy.bundle import BundleInfo, load_bundle, save_bundle
from pointdistiller_core.deploy.bundle_format import INFO_FILE, WEIGHTS_FILE
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.models import build_detector

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def bundle(tmp_path, tiny_model) -> Path:
    torch.manual_seed(0)
    save_bundle(tmp_path / 'bundle', build_detector(tiny_model), BundleInfo(model=tiny_model))
    return tmp_path / 'bundle'


def edit_info(bundle: Path, edit: Edit) -> None:
    """As if it had been saved like that."""
    values = json.loads((bundle / INFO_FILE).read_bytes())
    values.pop('info_sha256', None)
    edit(values)
    (bundle / INFO_FILE).write_text(json.dumps(values), encoding='utf-8')


def replace_weights(bundle: Path, content: bytes) -> None:
    (bundle / WEIGHTS_FILE).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_info(bundle, lambda values: values['sha256'].update({WEIGHTS_FILE: digest}))


def of_another_type(content: bytes, name: str, dtype: str, bytes_each: float) -> bytes:
    """safetensors in which one tensor says to be of another type."""
    length = int.from_bytes(content[:8], 'little')
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop('__metadata__', None)
    parts, position = [], 0
    for key, entry in header.items():
        start, end = entry['data_offsets']
        part = data[start:end]
        if key == name:
            entry['dtype'], part = dtype, bytes(int(len(part) / 4 * bytes_each))
        entry['data_offsets'] = [position, position + len(part)]
        position += len(part)
        parts.append(part)
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + b''.join(parts)


def put(path: str, value: object) -> Edit:
    def edit(values: dict[str, Any]) -> None:
        *parents, last = path.split('.')
        for name in parents:
            values = values[name]
        values[last] = value

    return edit


HUGE = 10**30
LESS, MORE = 'less than or equal to', 'greater than or equal to'


@pytest.mark.parametrize(
    ('path', 'value', 'problem'),
    [
        ('model.width', 1e308, LESS),
        ('model.width', 0.0, 'greater than 0'),
        ('model.point_features', ['x', 'y'], 'detectors read'),
        ('model.sweeps', 1000, 'sweeps'),
        ('model', [], 'a valid dictionary'),
        ('model.encoder.channels', HUGE, LESS),
        ('model.backbone.channels', [10**6, 10**6], LESS),
        ('model.backbone.layers', [10**9, 1], LESS),
        ('model.backbone.layers', [-1, 1], MORE),
        ('model.backbone.layers', [], 'at least 1 item'),
        ('model.neck.strides', [10**12, 2], LESS),
        ('model.grid.point_cloud_range', [0, -1e308, -3, 1e308, 1e308, 1], MORE),
        ('model.grid.point_cloud_range', [0, -12800, -3, 25600, 12800, 1], 'the BEV map has'),
        ('model.grid.point_cloud_range', [0, -12.8, -3, float('inf'), 12.8, 1], 'finite number'),
        ('model.grid.voxel_size', [1e-320, 0.8, 4], MORE),
        ('model.grid.voxel_size', [0.8, 0.8, 2], 'one cell along z, the grid has 2'),
        ('model.voxels.max_points', 10**6, LESS),
        ('model.voxels.max_voxels', HUGE, LESS),
        ('model.head.anchors.Car.size', [1e308, 1, 1], LESS),
        ('model.head.anchors.Car.bottom', -1e308, MORE),
        ('model.head.anchors.Car.yaws', [0.0] * 100_000, 'at most 64 items'),
        ('model.head.anchors.Car.yaws', [], 'at least 1 item'),
        ('model.head.direction_offset', 1e300, LESS),
        ('model.class_names', ['Car'] * 100_000, 'at most 1000 items'),
        ('model.class_names', ['Car', 'Car'], 'a name twice'),
        ('model.class_names', [], 'at least 1 item'),
        ('model.detection.max_candidates', HUGE, LESS),
        ('sensor_height', 1e308, LESS),
        ('format_version', True, 'not a bundle'),
        ('format_version', -1, 'not a bundle'),
    ],
)
def test_values_beyond_any_detector(bundle, path, value, problem):
    edit_info(bundle, put(path, value))
    with pytest.raises(CheckpointError, match=problem):
        Detector.load(bundle, backend='torch')


def test_no_network_is_made_for_weights_that_are_not_there(bundle, monkeypatch):
    edit_info(bundle, put('model.width', 64.0))
    monkeypatch.setattr(module, 'build_detector', None)  # would be an error
    with pytest.raises(CheckpointError, match=r'\d+ numbers for a network of \d{8}'):
        Detector.load(bundle, backend='torch')


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('[' * 100_000, 'nested too deeply'),
        ('{"training": ' + '[' * 100_000, 'nested too deeply'),
        ('{"format_version": 1, "format_version": 2}', "keys twice: .*'format_version'"),
        ('{"format_version": 1' + '0' * 5000 + '}', 'not valid JSON'),
        (' ' * 2**24 + '{}', '16777218 bytes are too many'),
    ],
)
def test_json_that_never_ends_or_says_two_things(bundle, text, problem):
    (bundle / INFO_FILE).write_text(text, encoding='utf-8')
    with pytest.raises(CheckpointError, match=rf'bundle\.json: .*{problem}'):
        Detector.load(bundle)


@pytest.mark.parametrize(
    ('dtype', 'bytes_each'),
    [('Q7', 4), ('F4', 0.5), ('I32', 4), ('BOOL', 1), ('C64', 8), ('U16', 2)],
)
def test_weights_of_another_type(bundle, dtype, bytes_each):
    content = (bundle / WEIGHTS_FILE).read_bytes()
    content = of_another_type(content, 'head.conv.weight', dtype, bytes_each)
    replace_weights(bundle, content)
    with pytest.raises(
        CheckpointError, match=r'not safetensors|of another type \(1\): head\.conv'
    ):
        Detector.load(bundle, backend='torch')


def test_weights_of_other_real_numbers_are_read(bundle):
    content = (bundle / WEIGHTS_FILE).read_bytes()
    for dtype, bytes_each in (('F64', 8), ('BF16', 2)):
        replace_weights(bundle, of_another_type(content, 'head.conv.weight', dtype, bytes_each))
        assert load_bundle(bundle)[1]['head.conv.weight'].dtype == torch.float32


def test_negative_variances_are_no_weights(bundle):
    info, state = load_bundle(bundle)
    model = build_detector(info.model)
    model.load_state_dict({**state, 'encoder.norm.running_var': torch.full((8,), -1.0)})
    with pytest.raises(
        CheckpointError, match=r'negative variances.*\n.*encoder\.norm\.running_var'
    ):
        save_bundle(bundle.with_name('new'), model, info)


def test_a_pipe_in_place_of_weights_is_not_waited_for(bundle):
    (bundle / WEIGHTS_FILE).unlink()
    os.mkfifo(bundle / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match=r'model\.safetensors: not a file'):
        Detector.load(bundle, backend='torch')
