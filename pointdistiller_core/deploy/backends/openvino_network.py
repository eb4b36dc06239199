# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The network in OpenVINO, on a CPU."""

from __future__ import annotations

from functools import cache
import math
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import openvino

from pointdistiller_core.config import MAX_MAP_VALUES
from pointdistiller_core.deploy.backends.canvas import Canvas
from pointdistiller_core.deploy.backends.dense_backend import (
    INPUT,
    INPUT_SCALE,
    outputs_of,
    pick_cells,
)
from pointdistiller_core.errors import CheckpointError

if TYPE_CHECKING:
    from pointdistiller_core.deploy.backends.anchor_decoder import Picked, Selection
    from pointdistiller_core.deploy.backends.backend import FloatArray, IntArray
    from pointdistiller_core.deploy.hosts.host import Shape

# Layers of an export; none makes large outputs from small inputs, and none reads files.
LAYERS = frozenset(
    {
        *('Add', 'Concat', 'Constant', 'Convert', 'Convolution', 'ConvolutionBackpropData'),
        *('FakeQuantize', 'GroupConvolution', 'Interpolate', 'Multiply', 'Parameter', 'Relu'),
        *('Reshape', 'Result', 'Split', 'StridedSlice', 'Subtract', 'Transpose', 'Unsqueeze'),
    }
)
FLOATS = (openvino.Type.f32, openvino.Type.f16)
SETTINGS = {
    'PERFORMANCE_HINT': 'LATENCY',
    'NUM_STREAMS': '1',
    # a pinned thread waits for its core while another program is on it and the next core is idle
    'ENABLE_CPU_PINNING': 'NO',
    # on some processors the default is bfloat16, which the export did not check
    'INFERENCE_PRECISION_HINT': 'f32',
}


class OpenVinoNetwork:
    """A compiled network, whose one request is used in turn: memory for a single frame."""

    def __init__(self, graph: bytes, weights: bytes, *, num_threads: int | None) -> None:
        """Compile the content of an .xml and a .bin file.

        Args:
            graph: the .xml.
            weights: the .bin.
            num_threads: of the network; None is OpenVINO's choice among the usable cores.

        Raises:
            CheckpointError: OpenVINO cannot read these.
        """
        settings = dict(SETTINGS)
        if num_threads is not None:
            settings['INFERENCE_NUM_THREADS'] = str(num_threads)
        core = _core()
        try:
            model = core.read_model(graph, weights)
            _check_layers(model)
            self._compiled = core.compile_model(model, 'CPU', settings)
        except (RuntimeError, ValueError, TypeError, MemoryError, CheckpointError) as error:
            raise CheckpointError(
                f'OpenVINO {openvino.__version__} cannot read its network in the bundle; export '
                f'the bundle again with this version: {error}'
            ) from error
        if INPUT not in self.shapes:
            raise CheckpointError(
                f'the network for OpenVINO has {sorted(self.shapes)}, no {INPUT}'
            )
        self._outputs = outputs_of(self.shapes)
        self._request = self._compiled.create_infer_request()
        self._lock = Lock()
        self._canvas = Canvas(self.shapes[INPUT], _input_scale(model))
        self._request.set_input_tensor(openvino.Tensor(self._canvas.array, shared_memory=True))

    @property
    def num_threads(self) -> int:
        """Threads that the network runs on."""
        return int(self._compiled.get_property('INFERENCE_NUM_THREADS'))

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the input and of each output."""
        ports = (*self._compiled.inputs, *self._compiled.outputs)
        return {port.get_any_name(): tuple(port.shape) for port in ports}

    def __call__(self, features: FloatArray, cells: IntArray, select: Selection) -> list[Picked]:
        """Raw outputs of some cells of one frame; see `Network`."""
        with self._lock:
            self._canvas.fill(features, cells)
            self._request.infer()
            outputs = [self._request.get_tensor(name).data for name in self._outputs]
            return pick_cells(outputs, select)


@cache
def _core() -> openvino.Core:
    """The one core of the process, which is kept until the process ends.

    A CPU plugin gives the thread that makes it a stack for signal handlers, and OpenVINO takes it
    back from the thread that drops the plugin. If that is another thread, the first one handles
    its next signal in freed memory. So our plugin is never dropped.
    """
    return openvino.Core()


def _input_scale(model: openvino.Model) -> FloatArray | None:
    """(C,) value of one level of an 8-bit input, for each channel; None if it is float32."""
    if not model.has_rt_info(INPUT_SCALE):
        return None
    text = model.get_rt_info(INPUT_SCALE).astype(str)
    try:
        return np.array(text.split(), np.float32)
    except ValueError as error:
        raise CheckpointError(f'{INPUT_SCALE} of the network is {text!r:.80}') from error


def _check_layers(model: openvino.Model) -> None:
    """Check that a network has only an export's layers, before compiling, which computes already.

    Raises:
        CheckpointError: other layers, larger maps than a detector has, or weights that are not
            finite.
    """
    for layer in model.get_ops():
        kind = layer.get_type_name()
        if kind not in LAYERS:
            raise CheckpointError(f'a layer of {kind}, as no export has')
        for output in layer.outputs():
            shape = output.get_partial_shape()
            if shape.is_dynamic or math.prod(output.get_shape()) > MAX_MAP_VALUES:
                raise CheckpointError(f'a map of {shape}, as no export has')
        real = kind == 'Constant' and layer.get_element_type() in FLOATS
        if real and not np.isfinite(layer.data).all():
            raise CheckpointError(f'NaN or infinite values in {layer.get_friendly_name()!r}')
