# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Which backend runs a bundle, and what is said where none can."""

from __future__ import annotations

import json
import sys

from backend_parameters import backends, installed
import pytest

from pointdistiller_core.deploy import backends as backends_module
from pointdistiller_core.deploy.arrays_file import ARRAYS_FILE
from pointdistiller_core.deploy.backends import BACKENDS
from pointdistiller_core.deploy.hosts import HOSTS
from pointdistiller_core.detector import Detector
from pointdistiller_core.errors import BackendError, CheckpointError, ConfigError

LIBRARIES = ('openvino-int8', 'openvino', 'onnx')


@pytest.fixture
def uninstall(monkeypatch):
    """`uninstall('openvino', ...)`: as if these packages were not there."""

    def block(*packages: str) -> None:
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return block


def edit_json(bundle, **values):
    """As if it had been saved like that."""
    file = bundle / 'bundle.json'
    edited = json.loads(file.read_text()) | values
    edited.pop('info_sha256', None)
    file.write_text(json.dumps(edited))


def forget(bundle, *files):
    """As if these had never been exported."""
    digests = json.loads((bundle / 'bundle.json').read_text())['sha256']
    edit_json(bundle, sha256={k: v for k, v in digests.items() if k not in files})


@pytest.mark.skipif(not all(map(installed, LIBRARIES)), reason='not all backends are installed')
def test_auto_takes_the_best_that_is_there(bundle, uninstall):
    assert Detector.load(bundle).backend == 'openvino-int8'
    forget(bundle, 'openvino_int8.bin')
    assert Detector.load(bundle).backend == 'openvino'
    uninstall('openvino')
    assert Detector.load(bundle).backend == 'onnx'
    uninstall('openvino', 'onnxruntime')
    assert Detector.load(bundle).backend == 'torch'


def test_auto_without_any_says_all(bundle, uninstall):
    forget(bundle, 'model.safetensors', 'openvino_int8.xml', ARRAYS_FILE)
    uninstall('openvino', 'onnxruntime')
    with pytest.raises(BackendError, match='no backend can run this bundle here') as caught:
        Detector.load(bundle)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(':')[0] for line in lines] == [f'  backend {name}' for name in BACKENDS]
    assert 'export' in lines[0]
    assert 'copy the whole bundle' in lines[-1]


def test_a_shipped_bundle_is_copied_before_an_export(bundle, monkeypatch):
    forget(bundle, *BACKENDS['onnx'].files)
    with pytest.raises(BackendError, match=f'run: pointdistiller export {bundle} --to onnx$'):
        Detector.load(bundle, backend='onnx')
    monkeypatch.setattr(backends_module, 'shipped_bundles', lambda: {'small': bundle})
    remedy = 'run: pointdistiller copy-bundle small my_small, then pointdistiller export my_small '
    with pytest.raises(BackendError, match=f'{remedy}--to onnx, and use my_small$'):
        Detector.load(bundle, backend='onnx')


@pytest.mark.parametrize('name', backends(*LIBRARIES))
def test_missing_package_says_how_to_install_it(full_bundle, uninstall, name):
    package = BACKENDS[name].package
    uninstall(package)
    with pytest.raises(
        BackendError, match=f'{package} is not installed; run: pip install {package}'
    ):
        Detector.load(full_bundle, backend=name)


@pytest.mark.parametrize('name', backends('onnx'))
def test_broken_package(full_bundle, uninstall, name):
    uninstall('onnxruntime.capi')
    sys.modules.pop('pointdistiller_core.deploy.backends.onnx_network', None)
    with pytest.raises(BackendError, match=r'cannot be imported: .*--force-reinstall onnxruntime'):
        Detector.load(full_bundle, backend=name)


@pytest.mark.parametrize('name', LIBRARIES)
def test_files_that_were_never_exported(bundle, name):
    first = BACKENDS[name].files[0]
    forget(bundle, first)
    with pytest.raises(
        BackendError, match=f'has no {first}.*; run: pointdistiller export .* {name}'
    ):
        Detector.load(bundle, backend=name)


@pytest.mark.parametrize('name', backends())
@pytest.mark.parametrize('damage', ['missing', 'empty', 'truncated', 'altered'])
def test_damaged_files(bundle, name, damage):
    for file in BACKENDS[name].files:
        path = bundle / file
        content = path.read_bytes()
        if damage == 'missing':
            path.unlink()
        else:
            middle = len(content) // 2
            altered = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            path.write_bytes({'empty': b'', 'truncated': content[:-1]}.get(damage, altered))
        with pytest.raises(CheckpointError, match=f'{file}: (is missing|truncated or altered)'):
            Detector.load(bundle, backend=name)
        path.write_bytes(content)
    Detector.load(bundle, backend=name)


@pytest.mark.parametrize('name', backends())
def test_newer_format(bundle, name):
    edit_json(bundle, format_version=7)
    with pytest.raises(CheckpointError, match=r'bundle format 7.* update pointdistiller'):
        Detector.load(bundle, backend=name)


@pytest.mark.parametrize('name', backends())
@pytest.mark.parametrize('changes', [{'width': 0.5}, {'class_names': ['Car', 'Pedestrian']}])
def test_another_architecture(bundle, name, changes):
    edit_json(bundle, model=json.loads((bundle / 'bundle.json').read_text())['model'] | changes)
    with pytest.raises(CheckpointError, match='of another architecture'):
        Detector.load(bundle, backend=name)


@pytest.mark.parametrize('name', backends(*LIBRARIES))
def test_network_of_another_architecture(bundle, name):
    """The arrays fit, the network does not: more classes, as many anchors."""
    model = json.loads((bundle / 'bundle.json').read_text())['model']
    anchors = model['head']['anchors']
    anchors['Car'] |= {'yaws': anchors['Car']['yaws'][:1]}
    edit_json(bundle, model=model | {'class_names': ['Car', 'Pedestrian'], 'head': model['head']})
    anchors['Pedestrian'] |= {'yaws': anchors['Pedestrian']['yaws'][:1]}
    edit_json(bundle, model=model | {'class_names': ['Car', 'Pedestrian'], 'head': model['head']})
    with pytest.raises(
        CheckpointError,
        match=f'network for {name} is of another .*pointdistiller export .* --to {name}',
    ):
        Detector.load(bundle, backend=name)


@pytest.mark.parametrize('name', backends(*LIBRARIES))
def test_files_that_the_library_cannot_read(bundle, name):
    import hashlib

    digests = json.loads((bundle / 'bundle.json').read_text())['sha256']
    first = BACKENDS[name].files[0]
    (bundle / first).write_bytes(b'<net/>')
    edit_json(bundle, sha256=digests | {first: hashlib.sha256(b'<net/>').hexdigest()})
    with pytest.raises(CheckpointError, match='cannot read its network in the bundle; export'):
        Detector.load(bundle, backend=name)


def test_unknown_device(full_bundle):
    with pytest.raises(ConfigError, match='device'):
        Detector.load(full_bundle, device='toaster')


@pytest.mark.parametrize('name', backends('openvino-int8', 'openvino', 'onnx'))
def test_a_family_without_a_host_runs_in_torch(full_bundle, monkeypatch, name):
    monkeypatch.setitem(HOSTS, 'other', HOSTS['pointpillars'])
    monkeypatch.delitem(HOSTS, 'pointpillars')
    assert Detector.load(full_bundle).backend == 'torch'  # though the files of others are there
    with pytest.raises(BackendError, match=f'backend {name}: .*pointpillars runs in torch'):
        Detector.load(full_bundle, backend=name)
