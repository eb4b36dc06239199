# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Runs that are carried in parts: exact, rounded, damaged, and resumed."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
import tarfile

import pytest
import torch
from typer.testing import CliRunner

from pointdistiller_core.cli.app import app
from pointdistiller_core.config import ExperimentConfig, KittiConfig, TrainingConfig
from pointdistiller_core.deploy.bundle import load_bundle, read_info
from pointdistiller_core.errors import CheckpointError, TrainingStopped, WriteError
from pointdistiller_core.models import build_detector
from pointdistiller_core.training import fit as module
from pointdistiller_core.training.checkpoint import list_checkpoints
from pointdistiller_core.training.fit import fit
from pointdistiller_core.training.listeners import Listener
from pointdistiller_core.training.objective import DetectionObjective
from pointdistiller_core.training.packing import pack_files, pack_run, unpack_files, unpack_run


class Clock(Listener):
    def __init__(self, monkeypatch):
        self.now = 0
        monkeypatch.setattr(module, 'monotonic', lambda: self.now)

    def on_step(self, progress):  # noqa: ARG002
        self.now += 1


@pytest.fixture
def train(tiny_model, tiny_dataset, monkeypatch):
    frames = tiny_dataset(4)
    config = ExperimentConfig(
        model=tiny_model,
        dataset=KittiConfig(root=Path('data')),
        training=TrainingConfig(epochs=3, batch_size=2, num_workers=0, ema_decay=0.9),
    )

    def run(folder, *, stop_at=None):
        torch.manual_seed(0)
        objective = DetectionObjective(build_detector(tiny_model))
        return fit(
            objective,
            frames,
            config,
            folder,
            resume=folder.exists(),
            listener=Clock(monkeypatch),
            stop_at=stop_at,
            device='cpu',
        )

    return run


@pytest.fixture
def stopped(train, tmp_path):
    """A run in the midst of its second epoch."""
    with pytest.raises(TrainingStopped):
        train(tmp_path / 'run', stop_at=3)
    return tmp_path / 'run'


def content_of(folder):
    files = (path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def weights_of(bundle):
    return load_bundle(bundle)[1]


def test_packed_in_full_it_goes_on_exactly(tmp_path, train, stopped):
    packed = pack_run(stopped, tmp_path / 'carried', part_size=20_000)
    assert packed.left_out == ('checkpoints/epoch_000001', 'tensorboard')
    assert len(packed.parts) > 2
    assert max(part.stat().st_size for part in packed.parts) == 20_000
    assert {file.name for file in (tmp_path / 'carried').iterdir()} == {
        packed.manifest.name,
        *(part.name for part in packed.parts),
    }
    unpack_run(packed.manifest, tmp_path / 'there')
    (checkpoint,) = list_checkpoints(tmp_path / 'there')
    original, unpacked = content_of(list_checkpoints(stopped)[-1]), content_of(checkpoint)
    assert unpacked['model.safetensors'] == original['model.safetensors']
    here, there = weights_of(train(stopped)), weights_of(train(tmp_path / 'there'))
    for name, tensor in here.items():
        assert torch.equal(there[name], tensor), name


def test_rounded_it_is_smaller_and_goes_on_nearly_exactly(tmp_path, train, stopped):
    sizes, results, notes = {}, {}, []
    for optimizer, half in (('full', False), ('half', True), ('none', True)):
        packed = pack_run(stopped, tmp_path / optimizer, optimizer=optimizer, half=half)
        sizes[optimizer] = packed.size
        unpack_run(packed.manifest, tmp_path / f'{optimizer}-run')
        (checkpoint,) = list_checkpoints(tmp_path / f'{optimizer}-run')
        notes.append(read_info(checkpoint).training.get('packed'))
        results[optimizer] = weights_of(train(tmp_path / f'{optimizer}-run'))
    assert sizes['none'] < sizes['half'] < sizes['full']
    assert notes == [
        None,
        {'weights': 'float16', 'optimizer': 'half'},
        {'weights': 'float16', 'optimizer': 'none'},
    ]
    exact = results['full']
    for name, tensor in exact.items():
        if 'running' not in name:
            torch.testing.assert_close(results['half'][name], tensor, rtol=0.02, atol=2e-3)
    assert any(not torch.equal(results['none'][name], exact[name]) for name in exact)


def test_without_its_optimizer_it_says_so(tmp_path, train, stopped, caplog):
    packed = pack_run(stopped, tmp_path / 'carried', optimizer='none')
    unpack_run(packed.manifest, tmp_path / 'there')
    with caplog.at_level(logging.WARNING):
        train(tmp_path / 'there')
    assert 'without the state of the optimizer' in caplog.text


def test_of_a_complete_run_the_bundle_goes_along(tmp_path, train):
    bundle = train(tmp_path / 'run')
    packed = pack_run(tmp_path / 'run', tmp_path / 'carried', half=True)
    assert packed.left_out == ('checkpoints', 'tensorboard')
    unpack_run(packed.manifest, tmp_path / 'there')
    assert not (tmp_path / 'there/checkpoints').exists()
    assert train(tmp_path / 'there') == tmp_path / 'there/bundle'  # it knows that it is complete
    unpacked = weights_of(tmp_path / 'there')
    for name, tensor in weights_of(bundle).items():
        torch.testing.assert_close(unpacked[name], tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('damage', ['missing', 'altered', 'manifest', 'exists'])
def test_damage_is_found_before_anything_is_written(tmp_path, stopped, damage):
    packed = pack_run(stopped, tmp_path / 'carried', part_size=20_000)
    run = tmp_path / 'there'
    if damage == 'missing':
        packed.parts[1].unlink()
    elif damage == 'altered':
        content = bytearray(packed.parts[1].read_bytes())
        content[100] ^= 1
        packed.parts[1].write_bytes(content)
    elif damage == 'manifest':
        packed.manifest.write_text('{"parts": 3}')
    else:
        run.mkdir()
    with pytest.raises(WriteError if damage == 'exists' else CheckpointError):
        unpack_run(packed.manifest, run)
    assert run.exists() == (damage == 'exists')


@pytest.mark.parametrize('name', ['../outside', '/outside'])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match='refuses the entry'):
        unpack_files(pack_files({name: b'x'}, tmp_path, 'pack').manifest)


def test_what_is_no_file_is_refused(tmp_path, monkeypatch):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w') as tar:
        entry = tarfile.TarInfo('link')
        entry.type, entry.linkname = tarfile.SYMTYPE, '/etc/passwd'
        tar.addfile(entry)
    packed = pack_files({}, tmp_path, 'pack')
    (part,) = packed.parts
    part.write_bytes(archive.getvalue())
    monkeypatch.setattr('pointdistiller_core.training.packing._digest', lambda _: 'same')
    packed.manifest.write_text(f'{{"parts": {{"{part.name}": "same"}}, "sha256": "same"}}')
    with pytest.raises(CheckpointError, match='refuses the entry'):
        unpack_files(packed.manifest)


def test_what_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match='no run'):
        pack_run(tmp_path, tmp_path / 'carried')


def test_a_folder_instead_of_the_list_of_parts_is_told_which_lists_it_has(tmp_path):
    folder = tmp_path / 'carried'
    folder.mkdir()
    for lists, problem in (
        ((), 'which this one lacks'),
        (('b', 'a'), r'a\.pack\.json, b\.pack\.json'),
    ):
        for name in lists:
            (folder / f'{name}.pack.json').touch()
        with pytest.raises(
            CheckpointError, match=rf'is a folder; give a \*\.pack\.json.*{problem}'
        ):
            unpack_files(folder)


def test_verbs(tmp_path, stopped):
    def run(*words):
        return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)

    carried = tmp_path / 'carried'
    packed = run('pack', stopped, carried, '--optimizer', 'half', '--part-mib', '0.01')
    assert 'left out: checkpoints/epoch_000001, tensorboard' in packed.output
    unpacked = run('unpack', carried / 'run.pack.json', tmp_path / 'there')
    assert unpacked.exit_code == 0, unpacked.output
    copied = run('copy-bundle', tmp_path / 'there', tmp_path / 'bundle', '--half')
    assert copied.exit_code == 0, copied.output
    exact = weights_of(list_checkpoints(stopped)[-1])
    for name, tensor in weights_of(tmp_path / 'bundle').items():
        torch.testing.assert_close(tensor, exact[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(('mode', 'problem'), [('w:gz', 'no archive'), ('w', 'refuses the entry')])
def test_what_would_grow_when_it_is_unpacked_is_refused(tmp_path, mode, problem):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo('sparse')
        entry.pax_headers = {'GNU.sparse.size': str(2**40), 'GNU.sparse.numblocks': '0'}
        tar.addfile(entry)
    content = archive.getvalue()
    (tmp_path / 'pack.part-000').write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    manifest = tmp_path / 'pack.pack.json'
    manifest.write_text(json.dumps({'parts': {'pack.part-000': digest}, 'sha256': digest}))
    with pytest.raises(CheckpointError, match=problem):
        unpack_files(manifest)
