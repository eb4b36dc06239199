# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Libraries that can run a bundle, best first; each is imported only when it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
import logging
from pathlib import Path
from typing import Protocol, cast

from pointdistiller_core.config import AnchorDetectorConfig
from pointdistiller_core.deploy.arrays_file import ARRAYS_FILE, unpack_arrays
from pointdistiller_core.deploy.backends.anchor_decoder import AnchorDecoder
from pointdistiller_core.deploy.backends.backend import Backend, Stopwatch
from pointdistiller_core.deploy.backends.dense_backend import DenseBackend, Network
from pointdistiller_core.deploy.bundle_format import (
    WEIGHTS_FILE,
    read_info,
    read_verified,
    shipped_bundles,
)
from pointdistiller_core.deploy.hosts import HOSTS
from pointdistiller_core.errors import BackendError, ConfigError

__all__ = [
    'AUTO',
    'BACKENDS',
    'FP32',
    'Backend',
    'BackendKind',
    'Stopwatch',
    'load_backend',
]

logger = logging.getLogger(__name__)

AUTO = 'auto'
FP32 = 'fp32'
TORCH, ONNX, OPENVINO, OPENVINO_INT8 = 'torch', 'onnx', 'openvino', 'openvino-int8'


class Load(Protocol):
    """Makes a backend from an intact bundle that has its files."""

    def __call__(self, folder: Path, *, device: str, num_threads: int | None) -> Backend:
        """Load the backend; raises as `Detector.load`."""
        ...


@dataclass(frozen=True)
class BackendKind:
    """What a backend needs.

    Attributes:
        package: import name of its library.
        requirement: the name for `pip install`.
        files: files that a bundle must have.
        load: makes the backend.
    """

    package: str
    requirement: str
    files: tuple[str, ...]
    load: Load


def load_backend(
    folder: Path,
    name: str = AUTO,
    *,
    device: str = 'cpu',
    num_threads: int | None = None,
    precision: str = FP32,
) -> Backend:
    """A backend for a bundle.

    Args:
        folder: the bundle.
        name: a key of `BACKENDS`, or `auto`: the best one whose package and files are there.
        device: `cpu`, `cuda`, `cuda:1`, ...; `auto` is a GPU if there is one that the backend can
            use: torch's for any backend or, without torch, ONNX Runtime's.
        num_threads: CPU threads of the network; None is the library's choice.
        precision: of `torch`, which `auto` then takes: `fp32`, `bf16` or `fp16`.

    Raises:
        BackendError: the package, the files or the GPU's libraries are missing; says how to get
            them.
        ConfigError: no such backend, device, number of threads or precision.
        CheckpointError: the bundle is damaged, or of another architecture than it says.
    """
    if num_threads is not None and num_threads < 1:
        raise ConfigError(f'num_threads {num_threads}: use 1 or more, or None')
    if name == AUTO and precision != FP32:
        name = TORCH
    if name != AUTO and name not in BACKENDS:
        raise ConfigError(f'backend {name!r}: unknown; choose from {[AUTO, *BACKENDS]}')
    device = _best_device(folder, name) if device == 'auto' else str(device)  # torch's own, too
    if name == AUTO:
        name = _choose(folder, device)
    load = _loader(name, precision)
    if problem := _problem(folder, name):
        raise BackendError(problem)
    try:
        return load(folder, device=device, num_threads=num_threads)
    except ImportError as error:
        raise BackendError(
            f'backend {name}: its package cannot be imported: {error}; '
            f'run: pip install --force-reinstall {BACKENDS[name].requirement}'
        ) from error


def _loader(name: str, precision: str) -> Load:
    if precision == FP32:
        return BACKENDS[name].load
    if name != TORCH:
        raise ConfigError(f'precision {precision!r}: backend {name} has its own; use torch')
    return partial(_load_torch, precision=precision)


def _choose(folder: Path, device: str) -> str:
    """The best backend that can run the bundle here."""
    order: Sequence[str] = list(BACKENDS) if device == 'cpu' else (TORCH, ONNX)
    problems = []
    for name in order:
        problem = _problem(folder, name)
        if problem is None:
            return name
        logger.info('%s', problem)
        problems.append(problem)
    raise BackendError('no backend can run this bundle here:\n  ' + '\n  '.join(problems))


def _how_to_export(folder: Path, name: str) -> str:
    """The commands that add what a backend needs; a shipped bundle stays as it is."""
    for shipped, place in shipped_bundles().items():
        if place.resolve() == folder.resolve():
            own = f'my_{shipped}'
            return (
                f'pointdistiller copy-bundle {shipped} {own}, then pointdistiller export {own} '
                f'--to {name}, and use {own}'
            )
    return f'pointdistiller export {folder} --to {name}'


def _problem(folder: Path, name: str) -> str | None:
    """What a backend lacks, and how to get it."""
    kind, info = BACKENDS[name], read_info(folder)
    if name != TORCH and info.model.name not in HOSTS:
        return (
            f'backend {name}: it has {" and ".join(sorted(HOSTS))} alone; {info.model.name} runs '
            'in torch, so use the backend torch, or auto'
        )
    if missing := [file for file in kind.files if file not in info.sha256]:
        remedy = (
            'copy the whole bundle' if name == TORCH else f'run: {_how_to_export(folder, name)}'
        )
        return f'backend {name}: {folder} has no {", ".join(missing)}; {remedy}'
    if find_spec(kind.package) is None:
        return (
            f'backend {name}: the package {kind.package} is not installed; '
            f'run: pip install {kind.requirement}'
        )
    return None


def _best_device(folder: Path, name: str) -> str:
    """A GPU if there is one that the backend can use."""
    if name == AUTO:
        name = ONNX if find_spec('torch') is None else TORCH
    if name not in {TORCH, ONNX} or _problem(folder, name):
        return 'cpu'
    return _ask_torch() if name == TORCH else _ask_onnx_runtime()


def _ask_torch() -> str:
    from pointdistiller_core.deploy.device import find_device

    return str(find_device('auto'))


def _ask_onnx_runtime() -> str:
    try:
        from pointdistiller_core.deploy.backends.onnx_network import has_gpu
    except ImportError:  # reported when it is loaded, if it is
        return 'cpu'
    return 'cuda' if has_gpu() else 'cpu'


def _load_torch(
    folder: Path, *, device: str, num_threads: int | None, precision: str = FP32
) -> Backend:
    from pointdistiller_core.deploy.backends.torch_backend import load_torch

    return load_torch(folder, device=device, num_threads=num_threads, precision=precision)


def _load_onnx(folder: Path, *, device: str, num_threads: int | None) -> Backend:
    from pointdistiller_core.deploy.backends.onnx_network import OnnxNetwork

    content = read_verified(folder, ONNX_FILE, read_info(folder))
    network = OnnxNetwork(content, device=device, num_threads=num_threads)
    return dense_backend(ONNX, folder, network)


def _load_openvino(name: str, folder: Path, *, device: str, num_threads: int | None) -> Backend:
    if device != 'cpu':
        raise ConfigError(f'device {device!r}: backend {name} runs on cpu; use torch for a GPU')
    from pointdistiller_core.deploy.backends.openvino_network import OpenVinoNetwork

    info = read_info(folder)
    graph, weights = (read_verified(folder, file, info) for file in OPENVINO_FILES[name])
    return dense_backend(name, folder, OpenVinoNetwork(graph, weights, num_threads=num_threads))


def dense_backend(name: str, folder: Path, network: Network) -> DenseBackend:
    """A network of a bundle, with its host and decoder."""
    info = read_info(folder)
    config, host = cast(AnchorDetectorConfig, info.model), HOSTS[info.model.name]
    shapes = host.shapes(config) | AnchorDecoder.shapes(config)
    content = read_verified(folder, ARRAYS_FILE, info)
    arrays = unpack_arrays(content, shapes, where=str(folder / ARRAYS_FILE))
    return DenseBackend(
        name, host(config, arrays, network.num_threads), network, AnchorDecoder(config, arrays)
    )


ONNX_FILE = 'network.onnx'
OPENVINO_FILES = {
    OPENVINO: ('openvino.xml', 'openvino.bin'),
    OPENVINO_INT8: ('openvino_int8.xml', 'openvino_int8.bin'),
}
# The order of preference on a CPU.
BACKENDS: Mapping[str, BackendKind] = {
    **{
        name: BackendKind(
            'openvino',
            'openvino',
            (*OPENVINO_FILES[name], ARRAYS_FILE),
            partial(_load_openvino, name),
        )
        for name in (OPENVINO_INT8, OPENVINO)
    },
    ONNX: BackendKind('onnxruntime', 'onnxruntime', (ONNX_FILE, ARRAYS_FILE), _load_onnx),
    TORCH: BackendKind('torch', 'torch>=2.6', (WEIGHTS_FILE,), _load_torch),
}
