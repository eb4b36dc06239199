# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Every backend finds what torch finds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import gc
import json
import shutil
import subprocess
import sys
import weakref

from backend_parameters import backends
import numpy as np
import pytest
import torch

from pointdistiller_core.cores import usable_cores
from pointdistiller_core.datasets.point_files import read_points
from pointdistiller_core.deploy.backends import BACKENDS
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import BackendError, ConfigError
from pointdistiller_core.evaluation.comparison.same_boxes import compare_detections

EXACT = ('openvino', 'onnx')


@pytest.fixture
def points(tiny_dataset):
    return tiny_dataset(1)[0].points


def assert_close(found, expected):
    """The same boxes; where scores are as good as equal, in any order."""
    assert len(found) == len(expected) > 20
    for index in range(len(expected)):
        ties = np.abs(found.scores - expected.scores[index]) < 1e-5
        distances = np.abs(found.boxes - expected.boxes[index]).max(axis=1)
        assert (ties & (distances < 1e-3) & (found.labels == expected.labels[index])).any(), index


@pytest.mark.parametrize('name', backends(*EXACT))
def test_boxes_are_those_of_torch(each_bundle, points, name):
    found = Detector.load(each_bundle, backend=name)(points, importance=True)
    expected = Detector.load(each_bundle, backend='torch')(points, importance=True)
    assert_close(found, expected)
    assert found.counts == expected.counts
    assert set(found.latency_ms) == set(expected.latency_ms)
    for key in ('centers', 'scores', 'point_scores'):
        values = [getattr(each.importance, key) for each in (found, expected)]
        np.testing.assert_allclose(*values, atol=1e-5)
        assert values[0].dtype == values[1].dtype
    for array, other in ((found.boxes, expected.boxes), (found.labels, expected.labels)):
        assert array.dtype == other.dtype


@pytest.mark.parametrize('name', backends(*EXACT))
def test_confidences_of_places_are_those_of_torch(each_bundle, points, name):
    detectors = [Detector.load(each_bundle, backend=each) for each in (name, 'torch')]
    found, expected = (
        detector(points, importance='confidence').importance for detector in detectors
    )
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.point_scores, expected.point_scores, atol=1e-4)
    assert found.scores.dtype == expected.scores.dtype == np.float32
    # Scores as they are: an untrained network is sure of nothing, so the largest is not 1.
    assert 0 < found.scores.max() < 1
    nothing = detectors[0](points[:0], importance='confidence').importance
    assert nothing.scores.shape == (0,)


@pytest.mark.parametrize('name', backends(*EXACT))
def test_a_real_sweep(kitti_bundle, kitti_mini, name):
    points = read_points(kitti_mini / 'training' / 'velodyne' / '000008.bin')
    found = Detector.load(kitti_bundle, backend=name)(points)
    expected = Detector.load(kitti_bundle, backend='torch')(points)
    assert found.counts == expected.counts
    assert found.cuts == expected.cuts
    assert found.cuts['voxels'].kept > 1000
    assert_close(found, expected)


@pytest.mark.parametrize('name', backends('openvino-int8'))
def test_int8_is_chosen(each_bundle, name):
    assert Detector.load(each_bundle, device='cpu').backend == name


@pytest.mark.parametrize('name', backends('openvino-int8'))
def test_int8_is_near(each_bundle, points, name):
    found = Detector.load(each_bundle, backend=name)(points)
    expected = Detector.load(each_bundle, backend='torch')(points)
    assert found.counts == expected.counts
    assert np.abs(found.scores[:20] - expected.scores[:20]).max() < 0.05
    assert not np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize('name', backends())
def test_callers_in_several_threads(full_bundle, tiny_dataset, name):
    detector = Detector.load(full_bundle, backend=name)
    clouds = [tiny_dataset(4)[index].points for index in range(4)] * 2
    expected = [detector(points) for points in clouds]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detector, clouds))
    for first, second in zip(found, expected, strict=True):
        np.testing.assert_array_equal(first.boxes, second.boxes)
        np.testing.assert_array_equal(first.scores, second.scores)
        assert first.counts == second.counts


@pytest.mark.parametrize('name', backends())
def test_nothing_stays_of_the_cloud_before(full_bundle, points, name):
    detector, fresh = (Detector.load(full_bundle, backend=name) for _ in range(2))
    detector(points)
    assert len(detector(points[:0])) == 0
    few = points[::50]
    found, expected = detector(few), fresh(few)
    assert 0 < found.cuts['voxels'].kept < detector(points).cuts['voxels'].kept
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


def with_detection(bundle, folder, **values):
    """A copy with other thresholds."""
    copy = shutil.copytree(bundle, folder)
    text = json.loads((copy / 'bundle.json').read_text())
    text['model']['detection'] |= values
    (copy / 'bundle.json').write_text(json.dumps(text))
    return copy


@pytest.mark.parametrize('name', backends(*EXACT))
def test_cells_below_the_threshold_are_passed_over(full_bundle, points, tmp_path, name):
    everything = Detector.load(full_bundle, backend='torch')(points)
    threshold = float(everything.scores[len(everything) // 4])  # it is in, the next one is not
    bundle = with_detection(full_bundle, tmp_path / 'bundle', score_threshold=threshold - 1e-6)
    found = Detector.load(bundle, backend=name)(points)
    assert_close(found, Detector.load(bundle, backend='torch')(points))
    assert found.scores.min() == pytest.approx(threshold, abs=1e-5)


@pytest.mark.parametrize('name', backends(*EXACT))
def test_no_cell_passes_the_threshold(full_bundle, points, tmp_path, name):
    bundle = with_detection(full_bundle, tmp_path / 'bundle', score_threshold=1.0)
    assert len(Detector.load(bundle, backend='torch')(points)) == 0
    assert len(Detector.load(bundle, backend=name)(points)) == 0


@pytest.mark.parametrize('name', backends(*EXACT))
def test_few_candidates(full_bundle, points, tmp_path, name):
    caps = {'max_candidates': 64, 'nms_iou_threshold': 1.0}
    bundle = with_detection(full_bundle, tmp_path / 'bundle', **caps)
    found = Detector.load(bundle, backend=name)(points)
    assert len(found) == 64
    assert_close(found, Detector.load(bundle, backend='torch')(points))


@pytest.mark.parametrize('name', backends())
def test_closing_frees_it(full_bundle, points, name):
    with Detector.load(full_bundle, backend=name) as detector:
        assert detector.backend == name
        assert len(detector(points)) > 0
        alive = weakref.ref(detector._backend)
    gc.collect()
    assert alive() is None
    detector.close()  # twice is once
    with pytest.raises(BackendError, match='the detector is closed; load'):
        detector(points)


@pytest.mark.parametrize('name', backends())
def test_closing_while_others_call(full_bundle, points, name):
    detector = Detector.load(full_bundle, backend=name)
    expected = detector(points)

    def call(index):
        if index == 10:
            detector.close()
        try:
            return detector(points)
        except BackendError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(20)))
    assert results[10] == 'the detector is closed; load the bundle again'
    for found in results:
        if not isinstance(found, str):
            np.testing.assert_array_equal(found.boxes, expected.boxes)


REOPEN = """
import re, sys
import numpy
from pointdistiller_core.detector import Detector

def resident_mb():
    with open('/proc/self/status') as file:
        return int(re.search(r'VmRSS:\\s+(\\d+)', file.read())[1]) / 1024

def run():
    detector = Detector.load(sys.argv[1], backend=sys.argv[2], num_threads=1)
    detector(numpy.array([[9, 0, -1, 0.5]], 'f4'))
    return detector

def grown(keep, times=5):
    before = resident_mb()
    for _ in range(times):
        detector = run()
        if not keep:
            detector.close()
        held.append(detector)
    return resident_mb() - before

held = []
grown(keep=False, times=4)  # the heap fills up
print(grown(keep=False), grown(keep=True))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize('name', backends(*EXACT))
def test_closing_gives_memory_back(kitti_bundle, name):
    command = [sys.executable, '-c', REOPEN, str(kitti_bundle), name]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    closed, kept = map(float, output.split())
    assert closed < kept / 2  # megabytes: about 10 of 100


def test_closing_returns_a_gpus_memory_after_the_network_is_gone(full_bundle, monkeypatch):
    detector = Detector.load(full_bundle, backend='torch')
    weights = weakref.ref(next(detector.model.parameters()))
    weights_left = []
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: weights_left.append(weights()))
    detector._backend.device = torch.device('cuda')
    detector.close()
    assert weights_left == [None]


@pytest.mark.cuda
def test_closing_gives_a_gpus_memory_back(full_bundle, points):
    reserved = []
    for _ in range(2):  # what the first call leaves is of the libraries, not of the network
        with Detector.load(full_bundle, backend='torch', device='cuda') as detector:
            detector(points)
            opened = torch.cuda.memory_reserved()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[1] == reserved[0] < opened


@pytest.mark.parametrize('name', backends('openvino-int8', 'openvino', 'onnx'))
def test_without_torch(full_bundle, points, tmp_path, name):
    np.save(tmp_path / 'points.npy', points)
    code = (
        'import sys, numpy\n'
        'from pointdistiller_core.detector import Detector\n'
        f'found = Detector.load({str(full_bundle)!r}, backend={name!r}, num_threads=1)'
        f'(numpy.load({str(tmp_path / "points.npy")!r}), importance=True)\n'
        'sys.exit("torch" in sys.modules or len(found) == 0)'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


@pytest.mark.parametrize('name', backends('openvino-int8', 'openvino', 'onnx'))
def test_number_of_threads(full_bundle, name):
    def threads(num_threads: int | None) -> int:
        detector = Detector.load(full_bundle, backend=name, num_threads=num_threads)
        return detector._backend._network.num_threads

    assert threads(1) == 1
    assert 1 <= threads(None) <= usable_cores()


@pytest.mark.parametrize('num_threads', [0, -1])
def test_threads_that_are_none(full_bundle, num_threads):
    with pytest.raises(ConfigError, match=f'num_threads {num_threads}: use 1 or more'):
        Detector.load(full_bundle, num_threads=num_threads)


def test_unknown_backend_lists_them(full_bundle):
    with pytest.raises(
        ConfigError, match=r"backend 'tensorrt': unknown; .*'auto', 'openvino-int8"
    ):
        Detector.load(full_bundle, backend='tensorrt')


@pytest.mark.parametrize('name', backends('openvino'))
def test_openvino_runs_on_the_cpu_alone(full_bundle, name):
    with pytest.raises(ConfigError, match=r"device 'cuda': backend openvino runs on cpu"):
        Detector.load(full_bundle, backend=name, device='cuda')


@pytest.mark.parametrize('name', backends('openvino'))
def test_openvino_takes_the_cpu_where_it_may_choose(full_bundle, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert Detector.load(full_bundle, backend=name, device='auto').backend == name


@pytest.mark.parametrize('name', backends('onnx'))
def test_a_device_that_onnx_runtime_lacks(full_bundle, name):
    with pytest.raises(
        ConfigError, match=r"device 'cuda:1': ONNX Runtime has only .*onnxruntime-gpu"
    ):
        Detector.load(full_bundle, backend=name, device='cuda:1')


def test_only_torch_has_the_module(full_bundle):
    assert Detector.load(full_bundle, backend='torch').model.config.class_names == ('Car',)


@pytest.mark.parametrize('name', backends('onnx'))
def test_no_module_elsewhere(full_bundle, name):
    with pytest.raises(BackendError, match="backend onnx has no torch module; load with 'torch'"):
        _ = Detector.load(full_bundle, backend=name).model


def assert_near(found, expected):
    """Half precision moves boxes by centimetres and scores by hundredths."""
    assert found.counts == expected.counts
    assert not np.array_equal(found.scores, expected.scores)
    assert np.abs(found.scores[:20] - expected.scores[:20]).max() < 0.05
    assert [each.dtype for each in (found.boxes, found.scores)] == [np.float32, np.float32]
    agreement = compare_detections([expected], [found], min_iou=0.5)
    assert agreement.fraction > 0.9


def test_bfloat16(full_bundle, points):
    with Detector.load(full_bundle, precision='bf16') as detector:
        assert detector.backend == 'torch'  # the only one that has it
        assert {weight.dtype for weight in detector.model.parameters()} == {torch.float32}
        assert_near(detector(points), Detector.load(full_bundle, backend='torch')(points))


@pytest.mark.cuda
@pytest.mark.parametrize('precision', ['bf16', 'fp16', 'tf32'])
def test_half_precision_on_a_gpu(full_bundle, points, precision, gpu):
    detector = Detector.load(full_bundle, device=gpu, precision=precision)
    assert_near(detector(points), Detector.load(full_bundle, backend='torch')(points))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'precision': 'fp16'}, "precision 'fp16': only on a GPU, not on cpu; use bf16 or fp32"),
        ({'precision': 'tf32'}, "precision 'tf32': only on a GPU, not on cpu; use bf16 or fp32"),
        ({'precision': 'int4'}, "precision 'int4': unknown; choose from .*'fp32', 'tf32'"),
        (
            {'precision': 'bf16', 'backend': 'onnx'},
            "precision 'bf16': backend onnx has its own; use torch",
        ),
    ],
)
def test_precisions_that_are_not_there(full_bundle, options, message):
    with pytest.raises(ConfigError, match=message):
        Detector.load(full_bundle, **options)


def test_best_first():
    assert list(BACKENDS) == ['openvino-int8', 'openvino', 'onnx', 'torch']
