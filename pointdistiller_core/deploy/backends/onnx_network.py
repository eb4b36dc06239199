# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The network in ONNX Runtime, on a CPU or a GPU."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from pointdistiller_core.cores import usable_cores
from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.backends.dense_backend import INPUT, outputs_of, pick_cells
from pointdistiller_core.deploy.backends.onnx_graph import check_onnx
from pointdistiller_core.errors import BackendError, CheckpointError, ConfigError

if TYPE_CHECKING:
    from pointdistiller_core.deploy.backends.anchor_decoder import Picked, Selection
    from pointdistiller_core.deploy.backends.backend import FloatArray, IntArray
    from pointdistiller_core.deploy.hosts.host import Shape

logger = logging.getLogger(__name__)

GPU_PROVIDERS = ('TensorrtExecutionProvider', 'CUDAExecutionProvider')  # best first
CPU_PROVIDER = 'CPUExecutionProvider'
ERROR_SEVERITY = 3
REFUSALS = (
    onnxruntime_pybind11_state.Fail,
    onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime_pybind11_state.InvalidProtobuf,
    onnxruntime_pybind11_state.NotImplemented,
    onnxruntime_pybind11_state.RuntimeException,
)
# Errors of a provider: missing libraries and drivers, no such GPU.
NOT_LOADED = (RuntimeError, onnxruntime_pybind11_state.EPFail)


class OnnxNetwork:
    """A session, used in turn, so that memory is needed for one frame, not one per caller."""

    def __init__(self, content: bytes, *, device: str, num_threads: int | None) -> None:
        """Open the content of an .onnx file.

        Args:
            content: of the file.
            device: `cpu`, `cuda`, `cuda:1`, ...
            num_threads: of the network; None is as many as there are usable cores.

        Raises:
            BackendError: a GPU is asked for, and none of its providers can be loaded.
            CheckpointError: ONNX Runtime cannot read it.
            ConfigError: this build of ONNX Runtime has no such device.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = ERROR_SEVERITY
        # idle threads would spin and take the cores from other programs
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        self.num_threads: int = options.intra_op_num_threads
        try:
            check_onnx(content)
            self._session = _open_session(content, options, device)
        except (*REFUSALS, CheckpointError) as error:
            raise CheckpointError(
                f'ONNX Runtime {onnxruntime.__version__} cannot read its network in the bundle; '
                f'export the bundle again: {error}'
            ) from error
        self._lock = Lock()
        self._outputs = outputs_of(self.shapes)
        self._canvas = Canvas(self.shapes[INPUT])

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the input and of each output."""
        ports = (*self._session.get_inputs(), *self._session.get_outputs())
        return {port.name: tuple(port.shape) for port in ports}

    def __call__(self, features: FloatArray, cells: IntArray, select: Selection) -> list[Picked]:
        """Raw outputs of some cells of one frame; see `Network`."""
        with self._lock:
            self._canvas.fill(features, cells)
            outputs = self._session.run(self._outputs, {INPUT: self._canvas.array})
        return pick_cells(outputs, select)


def has_gpu() -> bool:
    """Whether ONNX Runtime can use a GPU here; providers are listed even without one."""
    try:
        onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), 'cuda', 0)
    except RuntimeError as error:
        logger.info('ONNX Runtime has no GPU here: %s', error)
        return False
    return True


def find_providers(device: str) -> list[str]:
    """The providers of a GPU, the best first.

    Raises:
        ConfigError: there is none in this build of ONNX Runtime.
    """
    available = onnxruntime.get_available_providers()
    found = [name for name in GPU_PROVIDERS if name in available]
    if device.partition(':')[0] != 'cuda' or not found:
        raise ConfigError(
            f'device {device!r}: ONNX Runtime has only {available} here; use cpu, or for cuda '
            'run: pip install onnxruntime-gpu'
        )
    return found


def _open_session(
    content: bytes, options: onnxruntime.SessionOptions, device: str
) -> onnxruntime.InferenceSession:
    """A session on a device and on no other.

    ONNX Runtime would go on without a provider whose libraries are missing, even on the CPU. It
    also ships the TensorRT provider without TensorRT, so CUDA is tried after it.
    """
    # a later failure is not repeated on the CPU
    strict = {'sess_options': options, 'enable_fallback': False}
    if device == 'cpu':
        return onnxruntime.InferenceSession(content, providers=[CPU_PROVIDER], **strict)
    names = find_providers(device)
    index = int(device.partition(':')[2] or 0)
    reasons = []
    for start, name in enumerate(names):
        providers = [(each, {'device_id': index}) for each in names[start:]]
        try:
            session = onnxruntime.InferenceSession(
                content, providers=[*providers, CPU_PROVIDER], **strict
            )
        except NOT_LOADED as error:
            reasons.append(f'{name}: {error}')
        else:
            loaded = session.get_providers()
            if any(each in loaded for each in names):
                return session
            reasons.append(f'{name}: not among the loaded {loaded}')
        logger.info('%s', reasons[-1])
    raise BackendError(
        f'device {device!r}: ONNX Runtime {onnxruntime.__version__} can load none of '
        f'{", ".join(names)}; use cpu, or install the CUDA and cuDNN that this version asks for: '
        + '; '.join(reasons)
    )
