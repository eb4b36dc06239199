# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""From a trained network to the files of other backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
import warnings

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor, nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from pointdistiller_core.deploy.backends import (
    ONNX,
    ONNX_FILE,
    OPENVINO,
    OPENVINO_FILES,
    OPENVINO_INT8,
)
from pointdistiller_core.deploy.backends.array_backend import INPUT, OUTPUTS
from pointdistiller_core.deploy.backends.array_model import (
    ARRAYS_FILE,
    ModelArrays,
    pack_arrays,
)
from pointdistiller_core.errors import BackendError, ConfigError
from pointdistiller_core.models import PointPillars
from pointdistiller_core.models.layers import NORM_EPS
from pointdistiller_core.models.pillar_encoder import scatter_to_bev

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]

EXPORT_REQUIREMENT = "'pointdistiller_ros[export]'"
ONNX_OPSET = 17  # of 2022: read by ONNX Runtime 1.12 and later


# Operations of the head by their name in OpenVINO. It stays in float32: in eight bits this one
# convolution does nine tenths of the harm to the logits, with a few hundredths of the work.
HEAD = r'__module\.head\..*'


class BevNetwork(nn.Module):
    """A detector from the backbone on: what other libraries run."""

    def __init__(self, detector: PointPillars) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = detector.backbone, detector.neck, detector.head

    def forward(self, canvas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, C, H, W) to class logits, box residuals and direction logits of all anchors."""
        output = self.head(self.neck(self.backbone(canvas)))
        return output.class_logits, output.box_residuals, output.direction_logits


def export_detector(
    detector: PointPillars, target: str, calibration: Iterable[FloatArray] = ()
) -> dict[str, bytes]:
    """Files by which a backend can run a detector.

    Args:
        detector: on the CPU, in evaluation mode.
        target: backend, of `EXPORTERS`.
        calibration: (N, 4) clouds, from which int8 learns the range of every feature map.

    Returns:
        Name and content of each file.

    Raises:
        BackendError: a package that exports is missing.
        ConfigError: no such backend, or int8 without clouds.
    """
    if target not in EXPORTERS:
        raise ConfigError(f'{target!r} cannot be exported; choose from {list(EXPORTERS)}')
    canvases = [make_canvas(detector, points) for points in calibration]
    try:
        network = EXPORTERS[target](detector, canvases)
    except ImportError as error:
        raise BackendError(
            f'export to {target}: {error}; run: pip install {EXPORT_REQUIREMENT}'
        ) from error
    return {**network, ARRAYS_FILE: pack_arrays(model_arrays(detector))}


def make_canvas(detector: PointPillars, points: FloatArray) -> FloatArray:
    """(1, C, H, W) input of `BevNetwork` for one cloud (N, 4)."""
    with torch.inference_mode():
        # a bag's clouds may be read-only, which torch does not like
        pillars = detector.group([torch.from_numpy(np.require(points, np.float32, ['C', 'W']))])
        features = detector.encoder(pillars)
        shape = detector.config.grid.bev_shape
        canvas = scatter_to_bev(features, pillars.coords, batch_size=1, bev_shape=shape)
    return canvas.contiguous().numpy()


def model_arrays(detector: PointPillars) -> ModelArrays:
    """The pillar encoder with its norm folded in, and the anchors."""
    encoder, head, config = detector.encoder, detector.head, detector.config
    norm = encoder.norm
    scale = norm.weight.double() * (norm.running_var.double() + NORM_EPS).rsqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    weights = encoder.linear.weight.double().T * scale  # (10, C), in the order of `point_features`
    position, from_mean, from_center = weights[:3], weights[4:7], weights[7:]
    height, width = config.grid.strided_bev_shape(config.head_stride)
    anchors = head.anchors.view(height, width, -1, 7)
    arrays = ModelArrays(
        offset_weights=_array(torch.cat([position + from_mean + from_center, weights[3:4]])),
        center_weights=_array(position),
        mean_weights=_array(from_mean),
        shift=_array(shift),
        anchor_xs=_array(anchors[0, :, 0, 0]),
        anchor_ys=_array(anchors[:, 0, 0, 1]),
        anchor_shapes=_array(anchors[0, 0, :, 2:]),
    )
    assert np.array_equal(
        arrays.anchors_at(np.arange(arrays.num_anchors)), head.anchors.cpu().numpy()
    )
    return arrays


def _array(tensor: Tensor) -> FloatArray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def _export_onnx(detector: PointPillars, _: list[FloatArray]) -> dict[str, bytes]:
    import onnx  # noqa: F401  torch needs it and says less clearly that it is missing

    # The exporter that replaces this one needs onnxscript; this one is in every torch.
    with TemporaryDirectory() as folder, _quiet_tracing():
        file = Path(folder) / ONNX_FILE
        torch.onnx.export(
            BevNetwork(detector).eval(),
            (_example(detector),),
            str(file),
            dynamo=False,
            opset_version=ONNX_OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
        )
        return {ONNX_FILE: file.read_bytes()}


def _export_openvino(detector: PointPillars, _: list[FloatArray]) -> dict[str, bytes]:
    return _openvino_files(_convert_openvino(detector), OPENVINO)


def _export_openvino_int8(detector: PointPillars, canvases: list[FloatArray]) -> dict[str, bytes]:
    if not canvases:
        raise ConfigError(
            f'{OPENVINO_INT8} needs clouds to learn the range of every feature map from; give '
            '--calibration with a dataset or a bag like those that the detector will see'
        )
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    quantized = nncf.quantize(
        _convert_openvino(detector),
        nncf.Dataset(canvases),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(canvases),
        ignored_scope=nncf.IgnoredScope(patterns=[HEAD]),
        # The default cuts off what is rare; in these maps, that is the objects.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
    )
    return _openvino_files(quantized, OPENVINO_INT8)


def _convert_openvino(detector: PointPillars) -> Any:
    import openvino

    example = _example(detector)
    network = BevNetwork(detector).eval()
    with _quiet_tracing():
        model = openvino.convert_model(network, example_input=example, input=list(example.shape))
    model.inputs[0].set_names({INPUT})
    for output, name in zip(model.outputs, OUTPUTS, strict=True):
        output.set_names({name})
    return model


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """Without torch's advice to use other ways, and its doubts about the fixed batch of one."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        warnings.simplefilter('ignore', TracerWarning)
        yield


def _openvino_files(model: Any, target: str) -> dict[str, bytes]:
    import openvino

    names = OPENVINO_FILES[target]
    with TemporaryDirectory() as folder:
        openvino.save_model(model, Path(folder) / names[0], compress_to_fp16=False)
        return {name: (Path(folder) / name).read_bytes() for name in names}


def _example(detector: PointPillars) -> Tensor:
    config = detector.config
    return torch.zeros(1, config.scaled(config.encoder_channels), *config.grid.bev_shape)


EXPORTERS: Mapping[str, Callable[[PointPillars, list[FloatArray]], dict[str, bytes]]] = {
    OPENVINO_INT8: _export_openvino_int8,
    OPENVINO: _export_openvino,
    ONNX: _export_onnx,
}
