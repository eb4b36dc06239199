# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What of `bundle.json` may be edited by hand."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

import pytest

from pointdistiller_core.deploy.bundle import BundleInfo, load_detector_model, save_bundle
from pointdistiller_core.deploy.bundle_format import add_files, read_info
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.models import build_detector


@pytest.fixture
def bundle(tiny_model, tmp_path):
    info = BundleInfo(model=tiny_model, training={'epochs': 3, 'loss': 1.0})
    save_bundle(tmp_path / 'bundle', build_detector(tiny_model), info)
    return tmp_path / 'bundle'


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = bundle / 'bundle.json'
    values = json.loads(file.read_text())
    before = json.dumps(values)
    change(values)
    assert json.dumps(values) != before
    file.write_text(json.dumps(values))


@pytest.mark.parametrize(
    'change',
    [
        lambda info: info['model']['head']['anchors']['Car'].update(size=[4.5, 1.6, 1.56]),
        lambda info: info['model'].update(class_names=['Bus']),
        lambda info: info.update(intensity_range=[0.0, 255.0]),
        lambda info: info.update(sensor_height=1.0),
        lambda info: info['training'].update(epochs=4),
        lambda info: info['sha256'].update({'model.safetensors': '0' * 64}),
        lambda info: info.update(info_sha256='0' * 64),
        lambda info: info.update(info_sha256=0),
        lambda info: info.pop('sensor_height'),
        lambda info: info.pop('model'),
    ],
)
def test_altered_info_is_refused(bundle, change):
    edit(bundle, change)
    with pytest.raises(
        CheckpointError,
        match=r'bundle.json: altered: its info_sha256 is .* Only model.detection may be edited',
    ):
        load_detector_model(bundle)


def test_thresholds_may_be_edited(bundle):
    edit(bundle, lambda info: info['model']['detection'].update(score_threshold=0.55))
    assert load_detector_model(bundle).config.detection.score_threshold == 0.55


def test_thresholds_that_are_none_are_named(bundle):
    edit(bundle, lambda info: info['model']['detection'].update(score_treshold=0.55))
    with pytest.raises(CheckpointError, match='score_treshold: unknown key'):
        read_info(bundle)


def shortest(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def test_what_editors_change_by_themselves(bundle):
    """Order, layout, and numbers without a fraction, as of JavaScript."""
    file = bundle / 'bundle.json'
    values = json.loads(file.read_text(), parse_float=shortest)
    assert values['training'] == {'epochs': 3, 'loss': 1}
    assert isinstance(values['training']['loss'], int)
    file.write_text(json.dumps(dict(reversed(values.items()))))
    load_detector_model(bundle)


def test_bundles_of_earlier_versions_get_a_digest_by_an_export(bundle):
    edit(bundle, lambda info: info.pop('info_sha256'))
    load_detector_model(bundle)
    add_files(bundle, {'a': b'1'})
    load_detector_model(bundle)
    edit(bundle, lambda info: info.update(sensor_height=1.0))
    with pytest.raises(CheckpointError, match='altered'):
        read_info(bundle)


def test_edited_thresholds_survive_an_export(bundle):
    edit(bundle, lambda info: info['model']['detection'].update(score_threshold=0.55))
    add_files(bundle, {'a': b'1'})
    add_files(bundle, {'a': b'2'})
    assert load_detector_model(bundle).config.detection.score_threshold == 0.55
