# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From a trained network to the files of other backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
import logging
import os
from typing import TYPE_CHECKING, Any
import warnings

import numpy as np
from numpy.typing import NDArray
import torch
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from pointdistiller_core.deploy.arrays_file import ARRAYS_FILE, pack_arrays
from pointdistiller_core.deploy.backends import (
    ONNX,
    ONNX_FILE,
    OPENVINO,
    OPENVINO_FILES,
    OPENVINO_INT8,
)
from pointdistiller_core.deploy.backends.anchor_decoder import output_names
from pointdistiller_core.deploy.backends.canvas import MAX_LEVEL
from pointdistiller_core.deploy.backends.dense_backend import INPUT, INPUT_SCALE
from pointdistiller_core.deploy.export.equalization import equalize
from pointdistiller_core.deploy.export.split import Split, make_canvas, split_detector
from pointdistiller_core.errors import BackendError, ConfigError, WriteError
from pointdistiller_core.files import temporary_folder
from pointdistiller_core.models import AnyDetector

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

EXPORT_REQUIREMENT = "'pointdistiller_ros[export]'"
ONNX_OPSET = 17  # of 2022, read by ONNX Runtime 1.12 and later
# The sums of the head's convolutions, by their name in OpenVINO. With eight bits, neighboring
# logits would be equal, which costs ten points of AP.
HEAD_SUMS = r'.*_head/aten::add/Add.*'


def export_detector(
    detector: AnyDetector, target: str, calibration: Iterable[FloatArray] = ()
) -> dict[str, bytes]:
    """Make the files by which a backend can run a detector.

    Args:
        detector: on the CPU, in evaluation mode.
        target: backend, of `EXPORTERS`.
        calibration: (N, F) clouds, from which int8 learns the range of every feature map.

    Returns:
        Name and content of each file.

    Raises:
        BackendError: a package that exports is missing.
        ConfigError: no such backend, a detector that no other backend runs, or int8 without
            clouds.
    """
    if target not in EXPORTERS:
        raise ConfigError(f'{target!r} cannot be exported; choose from {list(EXPORTERS)}')
    split = split_detector(detector)
    canvases = Canvases(detector, list(calibration))
    try:
        with _no_telemetry():
            network = EXPORTERS[target](split, canvases)
    except ImportError as error:
        raise BackendError(
            f'export to {target}: {error}; run: pip install {EXPORT_REQUIREMENT}'
        ) from error
    return {**network, ARRAYS_FILE: pack_arrays(split.arrays)}


@dataclass(frozen=True)
class Canvases:
    """Inputs of a split's network for some clouds, one at a time; together they take gigabytes."""

    detector: Any  # one that can be split
    clouds: list[FloatArray]

    def __len__(self) -> int:
        return len(self.clouds)

    def __iter__(self) -> Iterator[FloatArray]:
        return (make_canvas(self.detector, points) for points in self.clouds)


def _export_onnx(split: Split, _: Canvases) -> dict[str, bytes]:
    import onnx  # noqa: F401  torch needs it and says less clearly that it is missing

    # The newer exporter needs onnxscript; this one is in every torch.
    with temporary_folder() as folder, _quiet_tracing():
        file = folder / ONNX_FILE
        torch.onnx.export(
            split.network,
            (split.example,),
            str(file),
            dynamo=False,
            opset_version=ONNX_OPSET,
            input_names=[INPUT],
            output_names=_output_names(split),
        )
        return {ONNX_FILE: file.read_bytes()}


def _export_openvino(split: Split, _: Canvases) -> dict[str, bytes]:
    return _openvino_files(_convert_openvino(split), OPENVINO)


def _export_openvino_int8(split: Split, canvases: Canvases) -> dict[str, bytes]:
    if not len(canvases):
        raise ConfigError(
            f'{OPENVINO_INT8} needs clouds to learn the range of every feature map from; give '
            '--calibration with a dataset or a bag like those that the detector will see'
        )
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    scale = equalize(split.network, canvases)
    with _quiet_nncf():
        quantized = nncf.quantize(
            _convert_openvino(split),
            nncf.Dataset(canvases, lambda canvas: canvas / scale),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(canvases),
            # a network of one stage has no sums
            ignored_scope=nncf.IgnoredScope(patterns=[HEAD_SUMS], validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # The default cuts off rare values; in these maps, those are the objects.
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                # It corrects means over nearly empty maps, at the expense of the objects.
                disable_bias_correction=True,
            ),
        )
    _take_levels(quantized)
    quantized.set_rt_info(' '.join(map(repr, (scale / MAX_LEVEL).tolist())), INPUT_SCALE)
    return _openvino_files(quantized, OPENVINO_INT8)


def _take_levels(model: Any) -> None:
    """Let a quantized network take levels of 8 bits instead of converting a float input."""
    import openvino
    from openvino import opset13 as ops

    (old,) = model.get_parameters()
    (quantizer,) = (
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == 'FakeQuantize' and _reads(node, old)
    )
    levels = ops.parameter(old.output(0).shape, openvino.Type.u8)
    levels.output(0).set_names({INPUT})
    values = ops.multiply(ops.convert(levels, 'f32'), np.float32(1 / MAX_LEVEL))
    quantizer.output(0).replace(quantizer.input_value(0))
    old.output(0).replace(values.output(0))
    model.add_parameters([levels])
    model.remove_parameter(old)
    model.validate_nodes_and_infer_types()


def _reads(node: Any, source: Any) -> bool:
    """Whether a node reads a source, or its transposition."""
    before = node.input_value(0).get_node()
    if before.get_type_name() == 'Transpose':
        before = before.input_value(0).get_node()
    return bool(before.get_instance_id() == source.get_instance_id())


def _convert_openvino(split: Split) -> Any:
    import openvino

    network, _, example = split
    with _quiet_tracing():
        model = openvino.convert_model(network, example_input=example, input=list(example.shape))
    model.inputs[0].set_names({INPUT})
    for output, name in zip(model.outputs, _output_names(split), strict=True):
        output.set_names({name})
    return model


def _output_names(split: Split) -> list[str]:
    """Of the outputs of a split's network, in their order."""
    num_maps = sum(name.startswith('anchor_xs') for name in split.arrays)
    return [name for level in range(num_maps) for name in output_names(level)]


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """OpenVINO's and NNCF's converters report to Intel unless they run in CI."""
    before = os.environ.get('CI')
    os.environ['CI'] = 'true'
    try:
        yield
    finally:
        del os.environ['CI']
        if before is not None:
            os.environ['CI'] = before


@contextmanager
def _quiet_nncf() -> Iterator[None]:
    """Silence NNCF's lines about what it leaves alone, and its bar on rich's console."""
    from nncf.common.logging import nncf_logger
    import rich

    console = rich.get_console()
    before = nncf_logger.level, console.quiet
    nncf_logger.setLevel(logging.WARNING)
    console.quiet = True
    try:
        yield
    finally:
        nncf_logger.setLevel(before[0])
        console.quiet = before[1]


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """Silence torch's advice and its warnings about the fixed batch of one."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        warnings.simplefilter('ignore', TracerWarning)
        yield


def _openvino_files(model: Any, target: str) -> dict[str, bytes]:
    import openvino

    names = OPENVINO_FILES[target]
    with temporary_folder() as folder:
        try:
            openvino.save_model(model, folder / names[0], compress_to_fp16=False)
        except RuntimeError as error:  # this is how it reports a full disk
            raise WriteError(f'OpenVINO cannot write {names[0]}: {error}') from error
        return {name: (folder / name).read_bytes() for name in names}


EXPORTERS: Mapping[str, Callable[[Split, Canvases], dict[str, bytes]]] = {
    OPENVINO_INT8: _export_openvino_int8,
    OPENVINO: _export_openvino,
    ONNX: _export_onnx,
}
