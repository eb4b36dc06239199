# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Networks that no export has written are refused before their library computes anything."""

from __future__ import annotations

import hashlib
import json

from backend_parameters import installed
import numpy as np
import pytest
from safetensors.numpy import load, save

from pointdistiller_core.deploy.arrays_file import ARRAYS_FILE
from pointdistiller_core.deploy.backends import ONNX_FILE, OPENVINO_FILES
from pointdistiller_core.deploy.backends.onnx_graph import check_onnx
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import CheckpointError

OPENVINO, INT8 = 'openvino', 'openvino-int8'


def replace(bundle, name: str, content: bytes) -> None:
    """As if it had been exported like that."""
    (bundle / name).write_bytes(content)
    values = json.loads((bundle / 'bundle.json').read_bytes())
    values.pop('info_sha256', None)
    values['sha256'][name] = hashlib.sha256(content).hexdigest()
    (bundle / 'bundle.json').write_text(json.dumps(values), encoding='utf-8')


def refusal(bundle, backend: str) -> str:
    with pytest.raises(CheckpointError) as refused:
        Detector.load(bundle, backend=backend)
    return str(refused.value)


def elsewhere(onnx, model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key='location', value='/etc/passwd')


def layer(kind: str, **attributes):
    def add(onnx, model):
        model.graph.node.append(onnx.helper.make_node(kind, ['canvas'], ['x'], **attributes))

    return add


def body(onnx, model):
    graph = onnx.helper.make_graph([], 'body', [], [])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute('body', graph))


def not_a_number(onnx, model):
    tensor = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    tensor.flat[0] = np.nan
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(tensor, model.graph.initializer[0].name)
    )


def functions(onnx, model):  # noqa: ARG001
    model.functions.add(name='f')


def huge(onnx, model):  # noqa: ARG001
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[1:]:
        dimension.dim_value = 10**6


def symbolic(onnx, model):  # noqa: ARG001
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = 'n'


@pytest.mark.parametrize(
    ('edit', 'problem'),
    [
        (elsewhere, 'in another file'),
        (layer('ConstantOfShape'), "layers of ['ConstantOfShape']"),
        (layer('Relu', domain='own'), "layers of ['own']"),
        (layer('Conv', pads=[10**9, 0, 0, 0]), 'a layer of [1000000000, 0, 0, 0]'),
        (body, 'has networks in it'),
        (functions, 'functions of its own'),
        (not_a_number, 'NaN or infinite values'),
        (huge, ''),
        (symbolic, ''),
    ],
)
def test_onnx_networks(bundle, edit, problem):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    model = onnx.load_from_string((bundle / ONNX_FILE).read_bytes())
    edit(onnx, model)
    replace(bundle, ONNX_FILE, model.SerializeToString())
    assert problem in refusal(bundle, 'onnx')


@pytest.mark.parametrize(
    'content', [b'\x00\x01\x02' * 9, b'\x3a\xff\xff\xff\x7f', b'\xff' * 99, b'\x3a', b'\x38\x01']
)
def test_what_is_no_onnx_file(content):
    with pytest.raises(CheckpointError, match='not an ONNX network'):
        check_onnx(content)


def test_any_cut_or_flipped_onnx_file_is_an_error_or_a_network(full_bundle):
    pytest.importorskip('onnxruntime')
    content = (full_bundle / ONNX_FILE).read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 100).tolist():
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        for damaged in (content[:position], bytes(flipped)):
            try:
                check_onnx(damaged)
            except CheckpointError:
                continue


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('type="ReLU"', 'type="Loop"'),
        ('type="ReLU"', 'type="Sqrt"'),
        ('</net>', ''),
        ('shape="1,', 'shape="1000000000000,'),
        ('element_type="f32"', 'element_type="q7"'),
        ('shape="1,', 'shape="?,'),
    ],
)
def test_openvino_networks(bundle, old, new):
    pytest.importorskip('openvino')
    file = OPENVINO_FILES[OPENVINO][0]
    text = (bundle / file).read_text(encoding='utf-8')
    assert old in text
    replace(bundle, file, text.replace(old, new).encode())
    assert refusal(bundle, OPENVINO)


@pytest.mark.parametrize('scale', ['x', '1 2', '', 'nan', '-1', '0'])
def test_the_scale_of_an_openvino_network(bundle, scale):
    pytest.importorskip('openvino')
    file = OPENVINO_FILES[INT8][0]
    text = (bundle / file).read_text(encoding='utf-8')
    start = text.index('value="', text.index('pointdistiller_input_scale')) + len('value="')
    end = text.index('"', start)
    if scale in {'nan', '-1', '0'}:  # as many as there are
        scale = ' '.join([scale] * len(text[start:end].split()))
    replace(bundle, file, (text[:start] + scale + text[end:]).encode())
    assert 'scale' in refusal(bundle, INT8)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_arrays_that_are_no_numbers(bundle, value):
    arrays = {k: v.copy() for k, v in load((bundle / ARRAYS_FILE).read_bytes()).items()}
    arrays['shift'][0] = value
    replace(bundle, ARRAYS_FILE, save(arrays))
    backend = next(filter(installed, ('onnx', OPENVINO)))
    assert "['shift'] are NaN, infinite or not float32" in refusal(bundle, backend)


def test_arrays_of_another_type(bundle):
    arrays = {k: v.copy() for k, v in load((bundle / ARRAYS_FILE).read_bytes()).items()}
    arrays['shift'] = arrays['shift'].astype(np.float64)
    replace(bundle, ARRAYS_FILE, save(arrays))
    backend = next(filter(installed, ('onnx', OPENVINO)))
    assert "['shift'] are NaN, infinite or not float32" in refusal(bundle, backend)
