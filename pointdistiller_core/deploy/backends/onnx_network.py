# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The network in ONNX Runtime, on a CPU or a GPU."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from pointdistiller_core.deploy.backends.array_backend import INPUT, OUTPUTS, pick_cells
from pointdistiller_core.deploy.backends.backend import usable_cores
from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from pointdistiller_core.deploy.backends.array_backend import Select, Shape
    from pointdistiller_core.deploy.backends.backend import FloatArray, IntArray

GPU_PROVIDERS = ('TensorrtExecutionProvider', 'CUDAExecutionProvider')  # the first one present
CPU_PROVIDER = 'CPUExecutionProvider'
ERROR_SEVERITY = 3
REFUSALS = (
    onnxruntime_pybind11_state.Fail,
    onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime_pybind11_state.InvalidProtobuf,
    onnxruntime_pybind11_state.NotImplemented,
)


class OnnxNetwork:
    """A session, taken in turn: memory for one frame, not one per caller."""

    def __init__(self, content: bytes, *, device: str, num_threads: int | None) -> None:
        """Open the content of an .onnx file.

        Args:
            content: of the file.
            device: `cpu`, `cuda`, `cuda:1`, ...
            num_threads: of the network; None is as many as there are usable cores.

        Raises:
            CheckpointError: ONNX Runtime cannot read it.
            ConfigError: ONNX Runtime has no such device here.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = ERROR_SEVERITY
        # idle threads would spin and take the cores from other programs
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        self.num_threads: int = options.intra_op_num_threads
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=find_providers(device)
            )
        except REFUSALS as error:
            raise CheckpointError(
                f'ONNX Runtime {onnxruntime.__version__} cannot read its network in the bundle; '
                f'export the bundle again: {error}'
            ) from error
        self._lock = Lock()
        self._canvas = Canvas(self.shapes[INPUT])

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the input and of each output."""
        ports = (*self._session.get_inputs(), *self._session.get_outputs())
        return {port.name: tuple(port.shape) for port in ports}

    def __call__(
        self, features: FloatArray, cells: IntArray, select: Select
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Raw outputs of some cells of one frame; see `Network`."""
        with self._lock:
            self._canvas.fill(features, cells)
            logits, others = self._session.run(list(OUTPUTS), {INPUT: self._canvas.array})
        return pick_cells(logits[0], others[0], select)


def find_providers(device: str) -> list[str | tuple[str, dict[str, int]]]:
    """The providers of a device, the best first.

    Raises:
        ConfigError: there is none in this build of ONNX Runtime.
    """
    if device == 'cpu':
        return [CPU_PROVIDER]
    kind, _, index = device.partition(':')
    available = onnxruntime.get_available_providers()
    found = [name for name in GPU_PROVIDERS if name in available]
    if kind != 'cuda' or not found:
        raise ConfigError(
            f'device {device!r}: ONNX Runtime has only {available} here; use cpu, or for cuda '
            'run: pip install onnxruntime-gpu'
        )
    return [*((name, {'device_id': int(index or 0)}) for name in found), CPU_PROVIDER]
