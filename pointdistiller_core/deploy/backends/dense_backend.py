# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Backends whose convolutions run in an inference library, and everything else in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pointdistiller_core.deploy.backends.anchor_decoder import (
    AnchorDecoder,
    Picked,
    Selection,
    output_names,
)
from pointdistiller_core.deploy.backends.backend import Stopwatch
from pointdistiller_core.deploy.hosts.host import Host, Prepared, Shape
from pointdistiller_core.errors import CheckpointError
from pointdistiller_core.records import Detections, LiveImportance, Places

if TYPE_CHECKING:
    from pointdistiller_core.config import DetectionConfig
    from pointdistiller_core.deploy.backends.backend import FloatArray, IntArray

INPUT = 'canvas'
# Name under which an int8 network holds the value of one level of its input.
INPUT_SCALE = 'pointdistiller_input_scale'


class Network(Protocol):
    """The network behind the host's map, in some library; several threads may call it at once."""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of the input and of each output."""
        ...

    @property
    def num_threads(self) -> int:
        """CPU threads that it runs on; the host before it takes as many."""
        ...

    def __call__(self, features: FloatArray, cells: IntArray, select: Selection) -> list[Picked]:
        """Raw outputs of the promising cells of one frame; see `BevNetwork`.

        Args:
            features: (R, C) float32 of the cells that are not zero.
            cells: (R,) `row * columns + column` of each.
            select: finds the cells of a map to read.

        Returns:
            Those of each map of the head, which the next call does not change.
        """
        ...


class DenseBackend:
    """A host, a dense network in some library, and the decoding of its outputs."""

    def __init__(self, name: str, host: Host, network: Network, decoder: AnchorDecoder) -> None:
        """Join the parts.

        Raises:
            CheckpointError: the network is of another architecture than the configuration.
        """
        self.name = name
        self._host = host
        self._network = network
        self._decoder = decoder
        channels, rows, columns = host.map_shape
        expected = {INPUT: (1, rows, columns, channels), **decoder.output_shapes}
        if network.shapes != expected:
            raise CheckpointError(
                f'the network for {name} is of another architecture, or of another version of '
                f'pointdistiller: {network.shapes}, not {expected}; run: '
                f'pointdistiller export BUNDLE --to {name}'
            )

    @property
    def host_engine(self) -> str | None:
        """See `Host.engine`."""
        return self._host.engine

    def __call__(
        self,
        points: FloatArray,
        watch: Stopwatch,
        *,
        importance: LiveImportance | None,
        detection: DetectionConfig,
    ) -> tuple[Detections, Places | None]:
        """Detect objects; see `Backend`."""
        prepared = self._host.prepare(points)
        watch.lap('prepare')
        # an intensity of 1e38 may become infinite; boxes that are not finite are dropped
        with np.errstate(over='ignore', invalid='ignore'):
            select = self._decoder.select(detection, keeps_best=importance == 'confidence')
            found = self._detect(prepared, watch, select, detection)
        places = None if importance is None else self._host.places(prepared)
        if places is not None and importance == 'confidence':
            places = self._decoder.with_confidences(places, select.best)
        return replace(found, cuts=prepared.cuts), places

    def _detect(
        self,
        prepared: Prepared,
        watch: Stopwatch,
        select: Selection,
        detection: DetectionConfig,
    ) -> Detections:
        if not len(prepared):  # nothing seen, so whatever a network finds is no object
            return Detections.empty()
        features, cells = self._host.encode(prepared)
        picked = self._network(features, cells, select)
        watch.lap('network')
        found = self._decoder(picked, detection)
        watch.lap('decode')
        return found


def pick_cells(outputs: Sequence[FloatArray], select: Selection) -> list[Picked]:
    """What `Network` returns, from its outputs.

    Args:
        outputs: of each map the class logits and the others, as `BevNetwork` gives them.
        select: see `Network`.
    """
    picked = []
    for (logits,), (others,) in zip(outputs[::2], outputs[1::2], strict=True):
        cells, own = select(logits)
        picked.append(Picked(cells, own, others.reshape(-1, others.shape[-1])[cells]))
    return picked


def outputs_of(shapes: Mapping[str, Shape]) -> list[str]:
    """Names of the outputs among a network's, in the order of `pick_cells`."""
    count = (len(shapes) - 1) // 2
    return [name for level in range(count) for name in output_names(level)]
