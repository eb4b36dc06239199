# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Full sweeps and untrained detectors, for measurements of speed and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import DetectorConfig, SimulationConfig, find_config, load_config
from pointdistiller_core.config.simulation import SensorConfig
from pointdistiller_core.cores import processor_name, usable_cores
from pointdistiller_core.datasets.simulated import simulate_drive, simulate_scene
from pointdistiller_core.messages.point_cloud2 import cloud_layout
from pointdistiller_core.pointcloud.sweeps import SweepBuffer

MODELS = {
    'teacher': 'pointpillars',
    '4x': 'pointpillars_4x',
    '16x': 'pointpillars_16x',
    'second_4x': 'second_4x',
    'second_lite': 'second_lite',
    'second_16x': 'second_16x',
}
MERGED_MODELS = {
    'nuscenes': 'pointpillars_nuscenes',
    'nuscenes_2x': 'pointpillars_nuscenes_2x',
    'nuscenes_4x': 'pointpillars_nuscenes_4x',
}
"""Those that see several sweeps at once, which have a column with their age."""
POINT_MODELS = {
    'pointrcnn': 'pointrcnn',
    'pointrcnn_8x': 'pointrcnn_8x',
    'pointrcnn_16x': 'pointrcnn_16x',
}
"""Those that run in torch alone."""
COLUMNS = 2250  # of which about 120,000 of 144,000 rays come back
DRIVE_COLUMNS = 1085  # of 32 beams at 20 Hz, as in nuScenes
CANDIDATES = 300  # boxes above the threshold in a sweep, as of a trained detector


def make_sweeps(count: int, seed: int) -> list[NDArray[np.float32]]:
    """Full turns (N, 4) of a sensor of 64 beams, about 120,000 points each, all different."""
    config = SimulationConfig(sensor=SensorConfig(num_columns=COLUMNS))
    return [simulate_scene(config, seed=seed, index=index).points for index in range(count)]


@dataclass(frozen=True)
class Drive:
    """Sweeps of a sensor as nuScenes has it, that are merged.

    Attributes:
        sweeps: points (N, 4), time [ns] and pose (4, 4) of each.
        count: that are merged, the newest included.
    """

    sweeps: Sequence[tuple[NDArray[np.float32], int, NDArray[np.float64]]]
    count: int

    def full_buffer(self) -> SweepBuffer:
        """With the sweeps before the first one that completes a cloud."""
        buffer = SweepBuffer(self.count, 1e6, with_age=True)
        for sweep in self.sweeps[: self.count - 1]:
            buffer.add(*sweep)
        return buffer

    def merged(self) -> list[NDArray[np.float32]]:
        """The complete clouds (M, 5)."""
        buffer = self.full_buffer()
        return [buffer.add(*sweep) for sweep in self.sweeps[self.count - 1 :]]


def make_drive(num_clouds: int, count: int, seed: int) -> Drive:
    """A drive with so many clouds of `count` sweeps each, about 30,000 points per sweep."""
    overrides = (f'sensor.num_columns={DRIVE_COLUMNS}',)
    config = load_config(SimulationConfig, find_config('simulations', 'all_round'), overrides)
    frames = simulate_drive(config, num_frames=num_clouds + count - 1, seed=seed)
    return Drive([(each.points, each.stamp_ns, each.world_from_lidar) for each in frames], count)


def to_message(points: NDArray[np.float32]) -> Any:
    """The PointCloud2 that a driver would send: x, y, z, intensity, and ring and time."""
    extra = {
        'ring': np.zeros(len(points), np.uint16),
        'time': np.zeros(len(points), np.float32),
    }
    layout = cloud_layout(points, extra)
    fields = [SimpleNamespace(**field) for field in layout['fields']]
    header = SimpleNamespace(frame_id='lidar')
    return SimpleNamespace(**{**layout, 'fields': fields}, header=header)


def save_untrained(
    folder: Path,
    name: str,
    clouds: Sequence[NDArray[np.float32]],
    *,
    backends: Sequence[str],
    seed: int,
) -> None:
    """Save a bundle of random weights that finds about as many boxes as a trained one.

    Args:
        folder: of the bundle; must not exist yet.
        name: of `MODELS`, `MERGED_MODELS` or `POINT_MODELS`.
        clouds: (N, F) from which batch norm and int8 take their ranges.
        backends: what it is exported to, beside torch.
        seed: of the weights.
    """
    from pointdistiller_core.deploy.bundle import BundleInfo, load_detector_model, save_bundle

    model = _build(name, clouds, seed)
    save_bundle(folder, model, BundleInfo(model=model.config))
    export_missing(folder, load_detector_model(folder), clouds, backends)


def export_missing(
    folder: Path, model: Any, clouds: Sequence[NDArray[np.float32]], backends: Sequence[str]
) -> None:
    """Add the files of the backends that a bundle lacks."""
    from pointdistiller_core.deploy.backends import BACKENDS
    from pointdistiller_core.deploy.bundle_format import add_files, read_info
    from pointdistiller_core.deploy.export.exporters import export_detector

    for backend in backends:
        if not set(BACKENDS[backend].files) <= read_info(folder).sha256.keys():
            add_files(folder, export_detector(model, backend, clouds))


def machine() -> str:
    """The processor's name, and how many cores this process may use."""
    return f'{processor_name()}, {usable_cores()} cores'


def _build(name: str, clouds: Sequence[NDArray[np.float32]], seed: int) -> Any:
    """A network with the statistics of these clouds and about `CANDIDATES` boxes in each."""
    import torch

    from pointdistiller_core.models import build_detector

    torch.manual_seed(seed)
    config = load_config(
        DetectorConfig, find_config('models', (MODELS | MERGED_MODELS | POINT_MODELS)[name])
    )
    # a momentum of 1 makes one batch the statistics
    model = build_detector(config.model_copy(update={'norm_momentum': 1.0}))
    pillars = model.prepare([torch.from_numpy(points) for points in clouds])
    with torch.no_grad():
        model.train()(pillars)
        if name in POINT_MODELS:  # as many proposals as ever; random ones pass the threshold
            return model.eval()
        logits = model.eval()(pillars).class_logits
        num_logits = model.head.channels[0]
        maps = logits.reshape(-1, num_logits)
        wanted = max(1, CANDIDATES * len(clouds) // num_logits)
        _spread_logits(model.head.conv, maps, wanted, config.detection.score_threshold)
    return model


def _spread_logits(conv: Any, maps: Any, wanted: int, threshold: float) -> None:
    """Let `wanted` cells of every channel of the maps (cells, channels) pass the threshold.

    Most cells are empty and have the same value. If that is nearly the highest, the channel's sign
    is turned.
    """
    empty = maps.median(dim=0).values
    high, low = maps.topk(wanted, dim=0).values[-1], -(-maps).topk(wanted, dim=0).values[-1]
    turned = empty - low > high - empty
    sign, limit = 1.0 - 2.0 * turned.float(), (-low).where(turned, high)
    channels = len(empty)
    conv.weight[:channels] *= sign[:, None, None, None]
    conv.bias[:channels] *= sign
    conv.bias[:channels] += math.log(threshold / (1 - threshold)) - limit
