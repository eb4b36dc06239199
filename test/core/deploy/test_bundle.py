# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.deploy.bundle import (
    WEIGHTS_FILE,
    BundleInfo,
    find_bundle,
    load_bundle,
    load_detector_model,
    load_weights,
    read_info,
    read_verified,
    save_bundle,
    save_imported_bundle,
)
from pointdistiller_core.deploy.bundle_format import DEFAULT_BUNDLE, shipped_bundles
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CheckpointError, WriteError
from pointdistiller_core.models import build_detector


@pytest.fixture
def info(tiny_model):
    detection = DetectionConfig(score_threshold=0.25)
    return BundleInfo(
        model=tiny_model.model_copy(update={'detection': detection}),
        intensity_range=(0.0, 255.0),
        sensor_height=2.1,
        training={'epochs': 3, 'dataset': 'simulated/train'},
    )


@pytest.fixture
def model(info):
    torch.manual_seed(0)
    return build_detector(info.model)


@pytest.fixture
def bundle(tmp_path, model, info):
    save_bundle(tmp_path / 'bundle', model, info)
    return tmp_path / 'bundle'


def edit_json(bundle: Path, **values: object) -> None:
    """As if it had been saved like that."""
    file = bundle / 'bundle.json'
    edited = json.loads(file.read_text()) | values
    edited.pop('info_sha256', None)
    file.write_text(json.dumps(edited))


def test_bundle_says_all_that_it_is(bundle, info):
    values = json.loads((bundle / 'bundle.json').read_text())
    assert values['format_version'] == 2
    assert values['model']['point_features'] == ['x', 'y', 'z', 'intensity']
    assert values['intensity_range'] == [0.0, 255.0]
    assert values['sensor_height'] == 2.1
    assert values['model']['class_names'] == ['Car']
    assert values['model']['grid']['voxel_size'] == [0.8, 0.8, 4.0]
    assert values['model']['detection']['score_threshold'] == 0.25
    assert values['training'] == {'epochs': 3, 'dataset': 'simulated/train'}
    assert sorted(path.name for path in bundle.iterdir()) == ['bundle.json', 'model.safetensors']
    assert read_info(bundle).model == info.model


def test_weights_come_back_exactly(bundle, model):
    _, state = load_bundle(bundle)
    expected = model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
        assert state[name].dtype == tensor.dtype


def test_loaded_model_is_the_saved_one(bundle, model):
    loaded = load_detector_model(bundle)
    assert not loaded.training
    assert loaded.config.detection.score_threshold == 0.25
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_half_is_half_the_size_and_still_float32(tmp_path, model, info):
    save_bundle(tmp_path / 'bundle', model, info)
    save_bundle(tmp_path / 'half', model, info, half=True)
    _, state = load_bundle(tmp_path / 'half')
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == tensor.dtype
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-6)
    sizes = [(tmp_path / name / 'model.safetensors').stat().st_size for name in ('half', 'bundle')]
    assert sizes[0] < 0.75 * sizes[1]  # the header is not halved


def test_half_keeps_what_does_not_fit_into_it(tmp_path, model, info):
    norm = next(module for module in model.modules() if hasattr(module, 'running_var'))
    norm.running_var.fill_(1e6)
    save_bundle(tmp_path / 'half', model, info, half=True)
    _, state = load_bundle(tmp_path / 'half')
    assert sum(bool((tensor == 1e6).all()) for tensor in state.values()) == 1


def test_saving_leaves_the_model_alone(tmp_path, model, info):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_bundle(tmp_path / 'half', model, info, half=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.dtype == before[name].dtype
    assert info.sha256 == {}


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_neither_saved_nor_loaded(bundle, tmp_path, info, value):
    model = load_detector_model(bundle)
    model.head.conv.bias.data[3] = value
    with pytest.raises(
        CheckpointError, match=r'(?s)^not saved: .*NaN or infinite.*\(1\): head\.conv\.bias'
    ):
        save_bundle(tmp_path / 'new', model, info)
    assert not (tmp_path / 'new').exists()
    content = safetensors.torch.save(model.state_dict())
    (bundle / 'model.safetensors').write_bytes(content)
    edit_json(bundle, sha256={'model.safetensors': hashlib.sha256(content).hexdigest()})
    with pytest.raises(CheckpointError, match=r'(?s)model\.safetensors: .*NaN or infinite'):
        Detector.load(bundle, backend='torch')


def test_existing_folder_is_kept(bundle, model, info):
    with pytest.raises(WriteError, match='exists already'):
        save_bundle(bundle, model, info)
    load_bundle(bundle)


def test_full_disk_leaves_nothing(tmp_path, model, info, monkeypatch):
    def write_bytes(_path, _content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, 'write_bytes', write_bytes)
    with pytest.raises(WriteError, match='bundle: cannot be written: No space left on device'):
        save_bundle(tmp_path / 'bundle', model, info)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('name', 'said'),
    [('bundle.json', ''), ('model.safetensors', ': is missing; copy the bundle again')],
)
def test_missing_file(bundle, name, said):
    (bundle / name).unlink()
    with pytest.raises(CheckpointError, match=name + said):
        load_bundle(bundle)


@pytest.mark.parametrize('name', ['bundle.json', 'model.safetensors'])
@pytest.mark.parametrize('size', [0, 100, -1])
def test_truncated_file(bundle, name, size):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: size - 2 if size < 0 else size])
    with pytest.raises(
        CheckpointError, match=f'{name}.*truncated or altered.*copy the bundle again'
    ):
        load_bundle(bundle)


def test_altered_weights(bundle):
    file = bundle / 'model.safetensors'
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r'model.safetensors: truncated or altered'):
        load_bundle(bundle)


def test_newer_format_names_both_versions(bundle):
    edit_json(bundle, format_version=7, something_new=True)
    with pytest.raises(CheckpointError, match=r'bundle format 7.* format 2; update'):
        load_bundle(bundle)


@pytest.mark.parametrize('values', [[], {'model': {}}, {'format_version': 'one'}])
def test_json_that_is_no_bundle(bundle, values):
    (bundle / 'bundle.json').write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match='no format_version'):
        load_bundle(bundle)


def test_unknown_key_is_named(bundle):
    edit_json(bundle, sensor_hight=1.0)
    with pytest.raises(CheckpointError, match='sensor_hight: unknown key'):
        load_bundle(bundle)


def test_pickles_are_never_opened(bundle):
    # A pickle under the name of the weights, with a checksum that fits.
    import hashlib
    import pickle

    content = pickle.dumps({'weights': 1})
    (bundle / 'model.safetensors').write_bytes(content)
    edit_json(bundle, sha256={'model.safetensors': hashlib.sha256(content).hexdigest()})
    with pytest.raises(CheckpointError, match='not safetensors'):
        load_bundle(bundle)


def test_mismatch_report_names_everything():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    state = {
        '0.weight': torch.zeros(5, 4),
        '0.bias': torch.zeros(3),
        '1.weight': torch.zeros(2, 3),
        'head.bias': torch.zeros(1),
    }
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, state, where='old')
    assert str(caught.value) == (
        'old: weights of another architecture:\n'
        '  missing (1): 1.bias\n'
        '  unexpected (1): head.bias\n'
        '  of another shape (1): 0.weight (5, 4), not (3, 4)'
    )


def test_mismatch_report_stays_short():
    state = {f'layer{index:02}': torch.zeros(1) for index in range(25)}
    with pytest.raises(
        CheckpointError, match=r'unexpected \(25\): layer00, .*layer09, and 15 more'
    ):
        load_weights(nn.Identity(), state, where='old')


def test_bundle_of_another_architecture(bundle):
    values = json.loads((bundle / 'bundle.json').read_text())
    edit_json(bundle, model=values['model'] | {'width': 0.5})
    with pytest.raises(CheckpointError, match=r'another architecture:\n  of another shape'):
        load_detector_model(bundle)


def test_find_in_a_run(tmp_path, model, info):
    for name in ('checkpoints/epoch_000009', 'checkpoints/epoch_000010'):
        save_bundle(tmp_path / name, model, info)
    assert find_bundle(tmp_path) == tmp_path / 'checkpoints' / 'epoch_000010'
    save_bundle(tmp_path / 'bundle', model, info)
    assert find_bundle(tmp_path) == tmp_path / 'bundle'
    assert find_bundle(tmp_path / 'bundle') == tmp_path / 'bundle'


def test_find_nothing(tmp_path):
    with pytest.raises(CheckpointError, match='no such folder'):
        find_bundle(tmp_path / 'absent')
    with pytest.raises(CheckpointError, match='neither a bundle'):
        find_bundle(tmp_path)


def test_imported_weights(tmp_path, model, info):
    source = tmp_path / 'checkpoint.pth'
    save_imported_bundle(tmp_path / 'imported', info.model, model.state_dict(), source=source)
    assert read_info(tmp_path / 'imported').training == {'imported_from': 'checkpoint.pth'}
    with pytest.raises(CheckpointError, match=r'checkpoint.pth: weights of another architecture'):
        save_imported_bundle(tmp_path / 'other', info.model, {}, source=source)


def test_a_shipped_bundle_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_bundle(DEFAULT_BUNDLE) == shipped_bundles()[DEFAULT_BUNDLE]
    (tmp_path / DEFAULT_BUNDLE).mkdir()  # what the user has goes first
    with pytest.raises(CheckpointError, match='neither a bundle'):
        find_bundle(DEFAULT_BUNDLE)
    with pytest.raises(CheckpointError, match=rf"or one of \[.*'{DEFAULT_BUNDLE}'"):
        find_bundle('lidar_5x')


@pytest.mark.parametrize('folder', shipped_bundles().values(), ids=lambda path: path.name)
def test_shipped_bundles_are_whole_and_small(folder):
    load_detector_model(folder)
    info = read_info(folder)
    for name in info.sha256:
        read_verified(folder, name, info)
    assert {path.name for path in folder.iterdir()} == {*info.sha256, 'bundle.json', 'README.md'}
    assert not info.intensity_assumed
    most = 10e6 if info.model.width == 1 else 3e6
    assert (folder / WEIGHTS_FILE).stat().st_size <= most
