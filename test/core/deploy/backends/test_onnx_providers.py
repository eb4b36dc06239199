# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Where ONNX Runtime runs a network: on the device that was asked for, or not at all."""

from __future__ import annotations

import sys

import pytest

from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import BackendError

onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')

TENSORRT, CUDA, CPU = (f'{name}ExecutionProvider' for name in ('Tensorrt', 'CUDA', 'CPU'))
NO_TENSORRT = 'Please install TensorRT libraries'


@pytest.fixture
def gpu_build(monkeypatch):
    """As in onnxruntime-gpu, whose providers are listed whether or not they can be loaded."""
    monkeypatch.setattr(
        onnxruntime, 'get_available_providers', lambda: [TENSORRT, CUDA, 'Other', CPU]
    )


@pytest.fixture
def opened(monkeypatch):
    """What was asked of each session; one with TensorRT, which is not there, fails."""
    asked = []
    session = onnxruntime.InferenceSession

    class Session(session):
        def __init__(self, content, *, providers, **options):
            asked.append((providers, options))
            if providers[0][0] == TENSORRT:
                raise RuntimeError(NO_TENSORRT)
            super().__init__(content, providers=[CPU], **options)

        def get_providers(self):
            return [each if isinstance(each, str) else each[0] for each in asked[-1][0]]

    monkeypatch.setattr(onnxruntime, 'InferenceSession', Session)
    return asked


@pytest.mark.usefixtures('gpu_build')
@pytest.mark.filterwarnings('ignore:Specified provider')
def test_a_gpu_whose_libraries_are_missing_is_an_error(full_bundle):
    """ONNX Runtime itself opens this session on the CPU."""
    with pytest.raises(BackendError) as caught:
        Detector.load(full_bundle, backend='onnx', device='cuda')
    message = str(caught.value)
    assert f"device 'cuda': ONNX Runtime {onnxruntime.__version__} can load none of" in message
    assert f"{CUDA}: not among the loaded ['{CPU}']" in message
    assert 'CUDA and cuDNN' in message


@pytest.mark.usefixtures('gpu_build')
def test_cuda_runs_it_where_there_is_no_tensorrt(full_bundle, opened):
    Detector.load(full_bundle, backend='onnx', device='cuda:1')
    on_gpu = [(TENSORRT, {'device_id': 1}), (CUDA, {'device_id': 1})]
    assert [providers for providers, _ in opened] == [[*on_gpu, CPU], [on_gpu[1], CPU]]


@pytest.mark.usefixtures('gpu_build')
def test_nothing_is_repeated_on_the_cpu(full_bundle, opened):
    for device in ('cpu', 'cuda'):
        Detector.load(full_bundle, backend='onnx', device=device)
    assert [options['enable_fallback'] for _, options in opened] == [False] * 3


@pytest.mark.usefixtures('gpu_build')
def test_auto_is_the_cpu_where_no_provider_finds_a_gpu(full_bundle, opened):
    Detector.load(full_bundle, backend='onnx', device='auto')
    assert [providers for providers, _ in opened] == [[CPU]]


@pytest.mark.usefixtures('gpu_build')
@pytest.mark.parametrize('backend', ['onnx', 'auto'])
def test_auto_is_a_gpu_of_onnx_runtime(full_bundle, opened, monkeypatch, backend):
    monkeypatch.setattr('pointdistiller_core.deploy.backends.onnx_network.has_gpu', lambda: True)
    if backend == 'auto':
        monkeypatch.setitem(sys.modules, 'torch', None)  # as if it were not installed
    assert Detector.load(full_bundle, backend=backend, device='auto').backend == 'onnx'
    assert [providers[0][0] for providers, _ in opened] == [TENSORRT, CUDA]
