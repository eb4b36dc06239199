# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A spinning LiDAR: rays, returns, and what they know of each object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.datasets.simulated.meshes import Material, Mesh, merge

if TYPE_CHECKING:
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

# Part of the light that each material returns at a right angle, as KITTI's sweeps show it, and
# its spread from object to object.
REFLECTIVITY = {
    Material.PAINT: (0.35, 0.20),
    Material.GLASS: (0.08, 0.03),
    Material.RUBBER: (0.10, 0.03),
    Material.PLATE: (0.99, 0.0),
    Material.CLOTH: (0.35, 0.15),
    Material.SKIN: (0.45, 0.05),
    Material.METAL: (0.45, 0.15),
    Material.WOOD: (0.35, 0.08),
    Material.LEAVES: (0.38, 0.12),
    Material.CONCRETE: (0.40, 0.12),
    Material.ASPHALT: (0.32, 0.05),
    Material.GRASS: (0.42, 0.08),
}
THROUGH_GLASS = 0.7  # part of the rays that a window lets pass


@dataclass(frozen=True)
class Returns:
    """What one turn of the sensor saw.

    Attributes:
        points: (N, 4) float32 x, y, z [m], intensity [0..1], sensor frame.
        object_ids: (N,) int64 index of the object that each point is on; -1 for all else.
        occlusions: (n,) part of each object's beams that something in front of it took;
            1 where no beam reaches it at all.
    """

    points: FloatArray
    object_ids: IntArray
    occlusions: NDArray[np.float64]


def beam_elevations(config: SensorConfig) -> NDArray[np.float64]:
    """Elevation of each beam [rad], block after block."""
    blocks = [np.linspace(first, last, count) for first, last, count in config.beams]
    elevations: NDArray[np.float64] = np.radians(np.concatenate(blocks))
    return elevations


def ray_directions(config: SensorConfig) -> FloatArray:
    """(beams * num_columns, 3) unit vectors, beam after beam, sensor frame."""
    elevation = beam_elevations(config)[:, None]
    azimuth = np.linspace(np.pi, -np.pi, config.num_columns, endpoint=False)
    directions = np.stack(
        np.broadcast_arrays(
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ),
        axis=-1,
    )
    return directions.reshape(-1, 3).astype(np.float32)


def scan(
    static: Mesh, objects: Sequence[Mesh], config: SensorConfig, rng: np.random.Generator
) -> Returns:
    """One turn of the sensor, which stands at the origin.

    Args:
        static: everything that is no object, sensor frame.
        objects: meshes of the objects, sensor frame.
        config: of the sensor.
        rng: source of noise and loss.
    """
    rays = ray_directions(config)
    everything = merge([static, *objects])
    owners = np.repeat(
        np.arange(-1, len(objects)), [len(mesh.faces) for mesh in (static, *objects)]
    )
    scene = _build(everything)
    faces, ranges, cosines = _look_through_glass(scene, rays, everything.materials, rng)
    hit = (faces >= 0) & (ranges < config.max_range) & (ranges > config.min_range)
    found = np.where(hit, owners[faces], -1)
    occlusions = _occlusions(objects, rays, found, config)

    reflectivity = _reflectivity(everything, owners, rng)[faces]
    intensity = reflectivity * (0.7 + 0.3 * cosines) + rng.normal(0, 0.03, len(rays))
    kept = hit & ~_is_lost(intensity, ranges, config, rng)
    noisy = ranges + rng.normal(0, config.range_noise, len(rays))
    points = np.concatenate([rays * noisy[:, None], intensity.clip(0, 1)[:, None]], axis=1)
    return Returns(points[kept].astype(np.float32), found[kept], occlusions)


def _build(mesh: Mesh) -> EmbreeScene:
    scene = EmbreeScene()
    TriangleMesh(scene, mesh.vertices[mesh.faces])
    return scene


def _cast(
    scene: EmbreeScene, rays: FloatArray, starts: FloatArray | None = None
) -> tuple[IntArray, NDArray[np.float64], NDArray[np.float64]]:
    """Face, distance from the start [m], and cosine of incidence of each ray; face -1 for none."""
    starts = np.zeros_like(rays) if starts is None else starts
    hits = scene.run(starts, rays, output=1)
    faces = np.where(hits['geomID'] >= 0, hits['primID'], -1).astype(np.int64)
    normals = np.asarray(hits['Ng'], np.float64)
    lengths = np.linalg.norm(normals, axis=1)
    cosines = np.abs((normals * rays).sum(axis=1)) / np.where(lengths > 0, lengths, 1)
    return faces, hits['tfar'].astype(np.float64), cosines


def _look_through_glass(
    scene: EmbreeScene,
    rays: FloatArray,
    materials: NDArray[np.int32],
    rng: np.random.Generator,
) -> tuple[IntArray, NDArray[np.float64], NDArray[np.float64]]:
    """`_cast`, where most rays that meet a window go on to what is behind it."""
    faces, ranges, cosines = _cast(scene, rays)
    passes = rng.random(len(rays)) < THROUGH_GLASS
    for _ in range(2):  # into the cabin, and out of it
        through = np.flatnonzero((faces >= 0) & (materials[faces] == Material.GLASS) & passes)
        if not len(through):
            break
        starts = rays[through] * (ranges[through] + 0.01)[:, None].astype(np.float32)
        faces[through], beyond, cosines[through] = _cast(scene, rays[through], starts)
        ranges[through] += beyond + 0.01
    return faces, ranges, cosines


def _reflectivity(mesh: Mesh, owners: IntArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """(F,) of each face; one draw for each object and material."""
    means, deviations = (
        np.array([REFLECTIVITY[material][k] for material in Material]) for k in (0, 1)
    )
    draws = rng.normal(0, 1, (owners.max() + 2, len(Material)))
    values: NDArray[np.float64] = (
        means[mesh.materials] + deviations[mesh.materials] * draws[owners, mesh.materials]
    )
    return np.clip(values, 0.03, 1.0)


def _is_lost(
    intensity: NDArray[np.float64],
    ranges: NDArray[np.float64],
    config: SensorConfig,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Returns lost at random, and weak ones the more the farther they come from."""
    weakness = (ranges / config.max_range) ** 2 / np.maximum(intensity, 0.02)
    chance = config.dropout + (1 - config.dropout) * (1 - np.exp(-0.6 * weakness))
    lost: NDArray[np.bool_] = rng.random(len(ranges)) < chance
    return lost


def _occlusions(
    objects: Sequence[Mesh], rays: FloatArray, found: IntArray, config: SensorConfig
) -> NDArray[np.float64]:
    """Compare what each object would return alone with what it returns in the scene."""
    seen = np.bincount(found[found >= 0], minlength=len(objects))
    columns = np.arange(len(rays)).reshape(-1, config.num_columns)
    result = np.ones(len(objects))
    for index, mesh in enumerate(objects):
        window = _columns_towards(mesh, columns)
        faces, ranges, _ = _cast(_build(mesh), rays[window])
        alone = int(((faces >= 0) & (ranges < config.max_range)).sum())
        if alone:
            result[index] = max(0.0, 1 - seen[index] / alone)
    return result


def _columns_towards(mesh: Mesh, columns: IntArray) -> IntArray:
    """Rays of the columns whose azimuth the mesh covers."""
    azimuth = np.arctan2(mesh.vertices[:, 1], mesh.vertices[:, 0])
    middle = np.arctan2(*mesh.vertices[:, :2].mean(axis=0)[::-1])
    reach = np.abs((azimuth - middle + np.pi) % (2 * np.pi) - np.pi).max()
    of_column = np.linspace(np.pi, -np.pi, columns.shape[1], endpoint=False)
    apart = np.abs((of_column - middle + np.pi) % (2 * np.pi) - np.pi)
    window: IntArray = columns[:, apart <= reach + 0.01].ravel()
    return window
