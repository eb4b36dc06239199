# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Reading intermediate features of a detector that knows nothing of it.

The taps of PointPillars, finest first:

* `pillars`: (P, C) features of the pillars;
* `backbone.0`, `backbone.1`, ...: (B, C, H, W) map of each stage of the backbone;
* `backbone.0.norm`, ...: the same before its last ReLU;
* `neck`: (B, C, H, W) map that the head sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from operator import mul

from torch import Tensor, nn

from pointdistiller_core.config import PointPillarsConfig
from pointdistiller_core.models import PointPillars

PILLARS = 'pillars'
NECK = 'neck'


def tap_modules(detector: PointPillars) -> dict[str, nn.Module]:
    """The module behind each tap."""
    stages = {f'backbone.{i}': stage for i, stage in enumerate(detector.backbone.stages)}
    norms = {f'{name}.norm': stage[-1][1] for name, stage in stages.items()}  # type: ignore[index]
    return {PILLARS: detector.encoder, **stages, **norms, NECK: detector.neck}


def tap_channels(config: PointPillarsConfig) -> dict[str, int]:
    """C of each tap."""
    stages = {
        f'backbone.{i}': config.scaled(channels)
        for i, channels in enumerate(config.backbone.channels)
    }
    norms = {f'{name}.norm': channels for name, channels in stages.items()}
    neck = sum(config.scaled(channels) for channels in config.neck.channels)
    return {PILLARS: config.scaled(config.encoder.channels), **stages, **norms, NECK: neck}


def tap_shapes(config: PointPillarsConfig) -> dict[str, tuple[int, int]]:
    """(H, W) of each tap that is a map."""
    strides = dict(enumerate(accumulate(config.backbone.strides, mul)))
    stages = {f'backbone.{i}{suffix}': strides[i] for i in strides for suffix in ('', '.norm')}
    all_strides = {**stages, NECK: config.head_stride}
    return {name: config.grid.strided_bev_shape(stride) for name, stride in all_strides.items()}


@contextmanager
def tap(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect the newest output of each module, under its name, while the context is open."""
    outputs: dict[str, Tensor] = {}

    with ExitStack() as stack:
        for name, module in modules.items():
            handle = module.register_forward_hook(_keep(outputs, name))
            stack.callback(handle.remove)
        yield outputs


def _keep(outputs: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(_module: nn.Module, _args: object, output: Tensor) -> None:
        # A ReLU behind a norm works in place.
        outputs[name] = output.clone() if name.endswith('.norm') else output

    return hook
