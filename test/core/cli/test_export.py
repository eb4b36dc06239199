# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The verb `export`."""

from __future__ import annotations

from dataclasses import replace
import json
import sys

from backend_parameters import backends
import pytest
import torch

from pointdistiller_core.cli import export
from pointdistiller_core.cli.export import SIMULATED, describe_refusal
from pointdistiller_core.deploy.bundle import BundleInfo, load_detector_model, save_bundle
from pointdistiller_core.deploy.export import exporters
from pointdistiller_core.detector import Detector
from pointdistiller_core.evaluation.comparison.same_boxes import Agreement
from pointdistiller_core.models import build_detector
from pointdistiller_core.pipelines import verify_export as verification
from pointdistiller_core.pipelines.evaluate import spread_indices
from pointdistiller_core.pipelines.make_bag import write_kitti_bag
from pointdistiller_core.pipelines.verify_export import LIMITS, Verification


@pytest.fixture
def sure_bundle(make_bundle, tmp_path):
    """A bundle that is sure of its boxes, so that there is something to compare."""
    model = load_detector_model(make_bundle('unsure'))
    num_logits = model.head.channels[0]
    with torch.no_grad():
        model.head.conv.bias[:num_logits] = 1.0
    save_bundle(tmp_path / 'sure', model, BundleInfo(model=model.config))
    return tmp_path / 'sure'


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    monkeypatch.setattr(export, 'SIMULATED_FRAMES', 1)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize('name', backends('openvino', 'onnx'))
def test_adds_what_agrees(run, sure_bundle, dataset, name, tmp_path):
    file = tmp_path / 'check.json'
    code, out, err = run('export', sure_bundle, '--to', name, '--check', dataset, '--json', file)
    assert code == 0, err
    assert f'{name} against torch, 2 clouds' in out
    assert f'{name} against torch, 1 clouds of simulated scenes' in out
    assert 'torch finds none of them' in out
    assert 'arrays.safetensors' in err
    values = json.loads(file.read_text())
    assert values['problems'] == []
    assert [check['clouds'] for check in values['checks']] == [f'{dataset} (val)', SIMULATED]
    for check in values['checks']:
        assert check['agreement']['num_boxes'] >= 20
        assert (check['fraction'], check['same_counts']) == (1.0, True)
        assert check['losses'][0]['class_name'] == 'Car'
    assert Detector.load(sure_bundle).backend == name


@pytest.mark.parametrize('name', backends('openvino-int8'))
@pytest.mark.parametrize('source', ['dataset', 'bag'])
def test_int8_learns_from_clouds(run, sure_bundle, dataset, name, source, tmp_path, monkeypatch):
    lenient = verification.Limits(0.1, 0.0, 1.0, 100.0)  # what an untrained network can keep
    monkeypatch.setattr(verification, 'LIMITS', {name: lenient})
    clouds = dataset
    if source == 'bag':
        clouds = tmp_path / 'clouds.mcap'
        write_kitti_bag(dataset, clouds)
    split = () if source == 'bag' else ('--split', 'val')
    options = ('--calibration', clouds, *split, '--frames', 2, '--check', dataset)
    code, out, err = run('export', sure_bundle, '--to', name, *options, '--json', '-')
    assert code == 0, err
    assert json.loads(out)['target'] == name  # nothing else is on stdout
    assert Detector.load(sure_bundle).backend == name


@pytest.mark.parametrize('name', backends('onnx'))
@pytest.mark.parametrize('option', ['--check', '--calibration'])
def test_boxes_are_compared_on_a_bag(run, sure_bundle, dataset, name, option, tmp_path):
    bag = tmp_path / 'clouds.mcap'
    write_kitti_bag(dataset, bag)
    code, out, err = run('export', sure_bundle, '--to', name, option, bag, '--json', '-')
    assert code == 0, err
    real, simulated = json.loads(out)['checks']
    assert [real['clouds'], simulated['clouds']] == [str(bag), SIMULATED]
    assert (real['num_clouds'], real['fraction'], real['losses']) == (2, 1.0, [])
    assert real['agreement']['num_boxes'] >= 20
    assert simulated['losses']
    assert 'no real cloud' not in err


class ShortSighted:
    """A detector that sees every other point."""

    def __init__(self, detector):
        self.info = detector.info
        self._detector = detector

    def __call__(self, points, **_):
        return self._detector(points[::2])


@pytest.mark.parametrize('name', backends('onnx'))
def test_real_clouds_that_disagree_are_a_reason(run, sure_bundle, dataset, name, monkeypatch):
    """Simulated scenes alone would not show it."""
    before = files_of(sure_bundle)
    honest = verification.verify_backend

    def short_sighted(reference, detector, *arguments, labels, **options):
        seen = detector if labels is not None else ShortSighted(detector)
        return honest(reference, seen, *arguments, labels=labels, **options)

    monkeypatch.setattr(verification, 'verify_backend', short_sighted)
    options = ('--calibration', dataset, '--split', 'val')
    code, _, err = run('export', sure_bundle, '--to', name, *options)
    assert code == 2
    assert f'of the boxes are in both ({dataset} (val))' in err
    assert f'({SIMULATED})' not in err
    assert files_of(sure_bundle) == before


@pytest.mark.parametrize(
    ('num_clouds', 'num_learned', 'name', 'chosen'),
    [
        (8, 0, 'bag', range(8)),
        (40, 20, 'bag, held out from calibration', range(1, 40, 2)),
        (200, 100, 'bag, held out from calibration', range(1, 200, 4)),
        (20, 20, 'bag', range(20)),
        (20, 11, 'bag', range(20)),
    ],
)
def test_int8_is_checked_on_what_it_has_not_learned_from(
    num_clouds, num_learned, name, chosen, capsys
):
    learned = spread_indices(num_clouds, num_learned) if num_learned else []
    clouds = export.held_out_clouds('bag', [None] * num_clouds, learned)
    assert (clouds.name, list(clouds.indices)) == (name, list(chosen))
    few = num_learned > 0 and num_clouds - num_learned < 10
    assert few == ('those that it has learned from are compared, too' in capsys.readouterr().err)


def test_int8_without_clouds(run, bundle):
    code, _, err = run('export', bundle, '--to', 'openvino-int8')
    assert code == 2
    assert 'give --calibration with a dataset or a bag' in err


def test_where_torch_finds_nothing_there_is_nothing_to_disagree_with():
    found = Agreement(0, 0, 3, 0, 0.0)
    nothing = Verification(LIMITS['onnx'], 8, found, (), same_counts=True)
    assert describe_refusal({'a': nothing}) == 'cannot be compared with torch'
    something = replace(nothing, agreement=replace(found, num_boxes=1))
    assert describe_refusal({'a': nothing, 'b': something}) == 'disagrees with torch'


@pytest.mark.parametrize('name', backends('onnx'))
def test_refuses_what_disagrees(run, sure_bundle, dataset, name, monkeypatch):
    before = files_of(sure_bundle)
    honest = exporters.split_detector

    def wrong(detector):
        split = honest(detector)
        split.arrays['anchor_shapes'][:, 1] *= 1.5
        return split

    monkeypatch.setattr(exporters, 'split_detector', wrong)
    code, out, err = run('export', sure_bundle, '--to', name, '--check', dataset)
    assert code == 2
    assert 'is left as it was, for onnx disagrees with torch: only 0.0% of the boxes' in err
    assert '0.00%' in out
    assert files_of(sure_bundle) == before


@pytest.mark.parametrize('name', backends('onnx'))
def test_refuses_where_nothing_can_be_compared(run, make_bundle, dataset, name):
    unsure = make_bundle('unsure')
    code, _, err = run('export', unsure, '--to', name, '--check', dataset)
    assert code == 2
    assert 'torch finds no box of score 0.3 or more in 2 clouds' in err


@pytest.mark.parametrize('name', backends('onnx'))
def test_simulated_clouds_by_default(run, sure_bundle, name):
    code, out, err = run('export', sure_bundle, '--to', name)
    assert code == 0, err
    assert 'onnx against torch, 1 clouds of simulated scenes' in out
    assert 'no real cloud is compared: give --check' in err


def verification_of(*, num_boxes, found):
    limits = verification.Limits(0.7, 0.9, 0.05, 0.5)
    agreement = Agreement(num_boxes, found, num_boxes, found, 0.0)
    return verification.Verification(limits, 3, agreement, (), same_counts=True)


@pytest.mark.parametrize(
    ('of_check', 'of_simulated', 'problems'),
    [
        ((50, 50), (50, 50), []),
        ((50, 50), (50, 40), ['only 80.0% of the boxes are in both (simulated scenes)']),
        ((50, 40), (50, 50), ['only 80.0% of the boxes are in both (data (val))']),
        ((50, 50), (0, 0), []),
        ((50, 50), (9, 0), []),  # few boxes say little
        ((50, 50), (10, 8), ['only 80.0% of the boxes are in both (simulated scenes)']),
        (None, (9, 8), ['only 88.9% of the boxes are in both (simulated scenes)']),
        (None, (0, 0), ['torch finds no box']),
        ((0, 0), (50, 50), ['torch finds no box']),
    ],
)
def test_either_is_a_reason_to_refuse(of_check, of_simulated, problems):
    pairs = {'data (val)': of_check, SIMULATED: of_simulated}
    found = export.find_problems(
        {
            name: verification_of(num_boxes=pair[0], found=pair[1])
            for name, pair in pairs.items()
            if pair
        }
    )
    assert len(found) == len(problems)
    assert all(map(str.startswith, found, problems))


@pytest.mark.parametrize('name', backends('openvino'))
def test_missing_package(run, bundle, dataset, name, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    code, _, err = run('export', bundle, '--to', name, '--check', dataset)
    assert code == 2
    assert "pip install 'pointdistiller_ros[export]'" in err


@pytest.mark.parametrize('name', backends('onnx'))
def test_evaluate_in_a_backend(run, sure_bundle, dataset, name, tmp_path):
    assert run('export', sure_bundle, '--to', name, '--check', dataset)[0] == 0
    results = {}
    for backend in (name, 'torch'):
        file = tmp_path / f'{backend}.json'
        options = ('--dataset', dataset, '--backend', backend, '--json', file)
        code, _, err = run('evaluate', sure_bundle, *options)
        assert code == 0, err
        results[backend] = json.loads(file.read_text())
    assert results[name] == results['torch']
    code, out, err = run(
        'detect', sure_bundle, dataset / 'training/velodyne/000000.bin', '--backend', name
    )
    assert code == 0, err
    assert 'Car' in out


@pytest.mark.parametrize('verb', ['evaluate', 'detect'])
def test_precision_of_torch(run, sure_bundle, dataset, verb):
    cloud = dataset / 'training/velodyne/000000.bin'
    source = [cloud] if verb == 'detect' else ['--dataset', dataset]
    code, out, err = run(verb, sure_bundle, *source, '--precision', 'bf16')
    assert code == 0, err
    assert 'Car' in out
    code, _, err = run(verb, sure_bundle, *source, '--precision', 'fp16')
    assert code == 2
    assert "precision 'fp16': only on a GPU" in err


def test_a_family_that_cannot_be_exported(run, toy, tmp_path):
    save_bundle(tmp_path / 'toy', build_detector(toy), BundleInfo(model=toy))
    code, _, err = run('export', tmp_path / 'toy', '--to', 'onnx')
    assert code == 2
    assert (
        'toy cannot be exported, only pointpillars and second can; it runs in torch as it is'
        in err
    )
