# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""`Detector`: from points to boxes, everywhere the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import DetectionConfig
from pointdistiller_core.deploy.backends import (
    AUTO,
    BACKENDS,
    FP32,
    Backend,
    Stopwatch,
    load_backend,
)
from pointdistiller_core.deploy.bundle_format import (
    DEFAULT_BUNDLE,
    DEFAULT_TEACHER,
    BundleInfo,
    find_bundle,
    read_info,
)
from pointdistiller_core.errors import BackendError, CloudError
from pointdistiller_core.geometry.ground import Ground, GroundFollower
from pointdistiller_core.geometry.intensity import (
    IntensityJudge,
    clip_intensity,
    describe_constant,
    parse_scale,
)
from pointdistiller_core.geometry.mounting import Mounting
from pointdistiller_core.geometry.returns import find_returns
from pointdistiller_core.records import Detections, Importance, LiveImportance, Places

if TYPE_CHECKING:
    from pointdistiller_core.models import AnyDetector

__all__ = [
    'AUTO',
    'BACKENDS',
    'DEFAULT_BUNDLE',
    'DEFAULT_TEACHER',
    'REPAIRS',
    'BundleInfo',
    'Detector',
    'Ground',
    'GroundFollower',
    'IntensityJudge',
    'Mounting',
    'describe_constant',
    'facts_of',
    'parse_scale',
    'to_importance',
    'to_sensor',
]

BEYOND = 1000.0  # [m]
# Counts of corrected or refused values.
REPAIRS = {
    'intensity_outside': 'intensities clipped to the range of the training clouds',
    'boxes_refused': 'boxes refused: no object is so large, so small or so far out',
}


class Detector:
    """A trained detector, ready to run.

    One detector may be called from several threads at once. `close`, or the end of a `with`,
    frees its memory.
    """

    def __init__(self, backend: Backend, info: BundleInfo) -> None:
        self.info = info
        self._backend: Backend | None = backend

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        *,
        backend: str = AUTO,
        device: str = 'cpu',
        num_threads: int | None = None,
        precision: str = FP32,
    ) -> Detector:
        """Load a bundle, or the bundle of a run folder.

        Args:
            bundle: folder of the bundle or of the run.
            backend: `openvino-int8`, `openvino`, `onnx` or `torch`; `auto` is the first of these
                whose package is installed and whose files are in the bundle. On a GPU, `torch` is
                the first.
            device: `cpu`, `cuda`, `cuda:1`, ...; `auto` is a GPU if there is one that the backend
                can use: torch's for any backend or, without torch, ONNX Runtime's.
            num_threads: CPU threads of the network; None is the library's own choice, at most the
                cores that the process may use. For `torch` this is a setting of the whole process,
                so it also holds for other detectors, and None leaves it as it is.
            precision: of the network in `torch`: `fp32`, `bf16`, or on a GPU `fp16`. With one of
                the last two, `auto` is `torch`.

        Raises:
            BackendError: the backend's package, its files or the GPU's libraries are missing.
            CheckpointError: no bundle there, or it is damaged.
            ConfigError: no such backend, device or precision on this machine.
        """
        folder = find_bundle(bundle)
        info = read_info(folder)
        loaded = load_backend(
            folder, backend, device=device, num_threads=num_threads, precision=precision
        )
        return cls(loaded, info)

    def close(self) -> None:
        """Free the network's memory, as soon as calls of other threads have ended."""
        self._backend = None

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names that the labels of detections index."""
        return self.info.model.class_names

    @property
    def backend(self) -> str:
        """What the network runs in, e.g. `openvino-int8`."""
        return self._opened().name

    @property
    def host_engine(self) -> str | None:
        """What runs before such a network, if Numba may compile it: `numba` or `numpy`.

        That is SECOND's sparse half, and pillars of merged sweeps with their encoder. None for
        others, or if torch runs the whole network.
        """
        return getattr(self._opened(), 'host_engine', None)

    @property
    def model(self) -> AnyDetector:
        """The network itself.

        Raises:
            BackendError: it does not run in torch.
        """
        model: AnyDetector | None = getattr(self._opened(), 'model', None)
        if model is None:
            raise BackendError(f"backend {self.backend} has no torch module; load with 'torch'")
        return model

    def __call__(
        self,
        points: NDArray[np.floating[Any]],
        *,
        importance: bool | LiveImportance = False,
        detection: DetectionConfig | None = None,
        mounting: Mounting | None = None,
    ) -> Detections:
        """Detect objects in one sweep.

        Args:
            points: (N, F) x, y, z [m], intensity and what else `info.model.point_features` names,
                sensor frame; any floating type. The intensity must have the scale of the training
                clouds: what is outside of `info.intensity_range` is clipped to it, and
                `counts['intensity_outside']` says of how many points. `IntensityJudge` finds out
                about another scale.
            importance: also return where the detector looked (PointDistiller, section 3.1): by its
                `own` measure (`info.model.own_importance`), which is what True means, or by its
                `confidence` there.
            detection: thresholds and caps for this sweep; None is the bundle's. Without
                `size_bounds`, those of the bundle hold.
            mounting: of the sensor; None is where the training sensor was or, for a detector of
                levelled clouds (`info.model.levelled`), what the ground in this sweep tells.

        Returns:
            Detections in the sensor frame by descending score, with counts and with the time of
            the stages `prepare` (check, crop, group), `network`, `decode` (boxes and NMS) and
            `total`. Points that are not finite or have no return (`find_returns`) are dropped and
            counted; so are boxes that no object can be. Where hardly any point is in the range,
            `points_beyond_1_km` tells of another unit.

        Raises:
            BackendError: the detector is closed.
            CloudError: not an (N, F) array of floating type.
            ValueError: `detection` has thresholds for another number of classes.
        """
        backend, watch = self._opened(), Stopwatch()
        detection = detection or self.info.model.detection
        self.info.model.check_detection(detection)
        checked = _check(points, self.info.model.point_features)
        ground: dict[str, int] = {}
        if mounting is None and self.info.model.levelled:
            mounting = Mounting.found_in(checked, self.info.sensor_height)
            ground['no_ground'] = int(mounting is None)
        cloud = self._read(checked, mounting)
        kind: LiveImportance | None = 'own' if importance is True else importance or None
        found, places = backend(cloud.used, watch, importance=kind, detection=detection)
        counts = {**ground, **cloud.counts, **_count_in_range(cloud.used, found)}
        return replace(
            to_sensor(found, mounting),
            importance=_importance(places, cloud.valid, mounting),
            counts={**counts, 'boxes_refused': 0, **found.counts},
            latency_ms=watch.finish(),
            intensity_range=cloud.intensity_range,
        )

    def _read(self, points: NDArray[np.float32], mounting: Mounting | None) -> _Cloud:
        """The backend's input from a cloud (N, F) in the sensor frame."""
        seen = mounting.points_to_training(points) if mounting else points
        finite, returns = _finite_rows(seen), find_returns(points)
        valid = finite & returns
        used = seen if valid.all() else seen.compress(valid, axis=0)
        span = _intensity_range(used)
        num_outside = self._count_outside(used, span)
        if num_outside:
            used = clip_intensity(used, self.info.intensity_range)
        counts = {
            'points': len(points),
            'points_not_finite': len(points) - int(np.count_nonzero(finite)),
            'points_without_return': len(points) - int(np.count_nonzero(returns)),
            'intensity_outside': num_outside,
        }
        return _Cloud(used, valid, span, counts)

    def _opened(self) -> Backend:
        if self._backend is None:
            raise BackendError('the detector is closed; load the bundle again')
        return self._backend

    def _count_outside(self, points: NDArray[np.float32], span: tuple[float, float] | None) -> int:
        """Points whose intensity is not in the range of the training clouds."""
        low, high = self.info.intensity_range
        if span is None or (span[0] >= low and span[1] <= high):
            return 0
        intensity = points[:, 3]
        return int(np.count_nonzero((intensity < low) | (intensity > high)))


@dataclass(frozen=True)
class _Cloud:
    """One cloud in the training sensor's frame.

    Attributes:
        used: (n, F) float32 of the points with finite numbers and a return, intensities clipped.
        valid: (N,) which of all points these are.
        intensity_range: least and largest intensity before clipping.
        counts: numbers of points, and of points with problems.
    """

    used: NDArray[np.float32]
    valid: NDArray[np.bool_]
    intensity_range: tuple[float, float] | None
    counts: Mapping[str, int]


def _count_in_range(points: NDArray[np.float32], found: Detections) -> dict[str, int]:
    """Number of points (n, F) in range, if there is one; of far points, if hardly any are."""
    if 'points' not in found.cuts:
        return {}
    in_range = sum(found.cuts['points'])
    beyond = _count_beyond(points, BEYOND) if 100 * in_range < len(points) else 0
    return {'points_in_range': in_range, 'points_beyond_1_km': beyond}


def _count_beyond(points: NDArray[np.float32], distance: float) -> int:
    """Points (N, 4) farther away in x or y than any return of a LiDAR [m]."""
    return int(np.count_nonzero((np.abs(points[:, :2]) > distance).any(axis=1)))


def _intensity_range(points: NDArray[np.float32]) -> tuple[float, float] | None:
    """Least and largest intensity of (N, 4) points; None without points."""
    if not len(points):
        return None
    return float(points[:, 3].min()), float(points[:, 3].max())


def to_sensor(found: Detections, mounting: Mounting | None) -> Detections:
    """The same objects, seen from where the sensor is; None is where the training sensor was."""
    if mounting is None:
        return found
    boxes, orientations = mounting.boxes_to_sensor(found.boxes)
    velocities = found.velocities
    if velocities is not None:
        velocities = mounting.velocities_to_sensor(velocities)
    return replace(found, boxes=boxes, orientations=orientations, velocities=velocities)


def _importance(
    places: Places | None, valid: NDArray[np.bool_], mounting: Mounting | None
) -> Importance | None:
    """Importance in the sensor frame, if it was asked for."""
    if places is None:
        return None
    found = to_importance(places, valid)
    if mounting is None:
        return found
    return replace(found, centers=mounting.points_to_sensor(found.centers))


def to_importance(places: Places, valid: NDArray[np.bool_]) -> Importance:
    """Importance of the places of one frame (PointDistiller, section 3.1).

    Args:
        places: of one frame.
        valid: (N,) which of the input points may belong to places.
    """
    highest = places.highest or places.values.max(initial=0) or 1
    scores = (places.values / highest).astype(np.float32)
    scores_or_zero = np.append(scores, np.float32(0))  # -1, outside, is the last: a zero
    point_scores = np.zeros(len(valid), np.float32)
    point_scores[valid] = scores_or_zero[places.owners]
    return Importance(centers=places.centers, scores=scores, point_scores=point_scores)


def facts_of(info: BundleInfo) -> dict[str, Any]:
    """What is said of any bundle's model, for JSON."""
    model = info.model
    facts = {'width': model.width, 'point_cloud_range': list(model.point_cloud_range)}
    grid = getattr(model, 'grid', None)  # of detectors that have one
    return facts if grid is None else {**facts, 'voxel_size': list(grid.voxel_size)}


def _check(points: NDArray[np.floating[Any]], features: Sequence[str]) -> NDArray[np.float32]:
    """The points as a native, contiguous, writable float32 array, which torch can share."""
    size, names = f'(N, {len(features)})', ', '.join(features)
    if not isinstance(points, np.ndarray) or not np.issubdtype(points.dtype, np.floating):
        kind = getattr(points, 'dtype', type(points).__name__)
        raise CloudError(f'points must be an {size} array of floating type ({names}), not {kind}')
    if points.ndim != 2 or points.shape[1] != len(features):
        raise CloudError(f'points must be {size} {names}; got shape {points.shape}')
    with np.errstate(over='ignore'):  # a float64 beyond float32 becomes inf, and is counted
        return np.require(points, np.float32, ['C', 'W'])


def _finite_rows(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) which points (N, F) have finite values throughout."""
    finite: NDArray[np.bool_] = np.isfinite(points)
    if finite.all():  # as good as always
        return np.ones(len(points), np.bool_)
    if points.shape[1] != 4:
        finite = np.asarray(finite.all(axis=1, keepdims=True))
        return finite[:, 0]
    # Four flags at a time, as one number: thirty times faster than `all` along a short axis.
    flags: NDArray[np.bool_] = finite.view(np.uint32)[:, 0] == 0x01010101
    return flags
