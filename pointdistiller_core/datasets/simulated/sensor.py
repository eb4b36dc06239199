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

# Part of the light that each material returns at a right angle, its spread from object to object,
# and how glossy it is: the intensity goes with cos(incidence) ** gloss. As KITTI's sweeps show it.
REFLECTIVITY = {
    Material.PAINT: (0.28, 0.26, 1.2),
    Material.GLASS: (0.08, 0.03, 2.0),
    Material.RUBBER: (0.10, 0.03, 0.3),
    Material.PLATE: (1.30, 0.0, 0.3),
    Material.CLOTH: (0.40, 0.12, 0.2),
    Material.SKIN: (0.45, 0.05, 0.2),
    Material.METAL: (0.38, 0.15, 0.8),
    Material.WOOD: (0.35, 0.08, 0.2),
    Material.LEAVES: (0.36, 0.08, 0.2),
    Material.CONCRETE: (0.38, 0.10, 0.2),
    Material.ASPHALT: (0.29, 0.04, 0.06),
    Material.GRASS: (0.38, 0.05, 0.06),
}
# Parts of the rays at a window that go on behind it, and that come back from it; KITTI's cars
# have holes where their windows are.
THROUGH_GLASS, FROM_GLASS = 0.4, 0.1
SPECKLE = 0.25  # standard deviation of an intensity, as a part of it
WEAKEST = 0.05  # what is below is reported as 0, and so are a few echoes of any strength
UNREPORTED = 0.07


@dataclass(frozen=True)
class Returns:
    """What one turn of the sensor saw.

    Attributes:
        points: (N, 4) float32 x, y, z [m], intensity [0..1], sensor frame.
        object_ids: (N,) int64 index of the object that each point is on; -1 for all else.
        occlusions: (n,) part of each object's beams that something in front of it took, windows
            too; 1 where no beam reaches it at all.
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
    first = _cast(scene, rays)
    # By the first surfaces: what passes an object's own windows is not taken by anything else.
    met = np.where((first[0] >= 0) & (first[1] < config.max_range), owners[first[0]], -1)
    occlusions = _occlusions(objects, rays, met, config)
    faces, ranges, cosines = _look_through_glass(scene, rays, first, everything.materials, rng)
    hit = (faces >= 0) & (ranges < config.max_range) & (ranges > config.min_range)
    found = np.where(hit, owners[faces], -1)
    reflectivity, gloss = _surfaces(everything, owners, rng)
    intensity = reflectivity[faces] * cosines ** gloss[faces]
    kept = hit & ~_is_lost(reflectivity[faces] * cosines, ranges, config, rng)
    noisy = ranges + rng.normal(0, config.range_noise, len(rays))
    columns = [rays * noisy[:, None], _reported(intensity, rng)[:, None]]
    points = np.concatenate(columns, axis=1)[kept]
    return Returns(points.astype(np.float32), found[kept], occlusions)


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
    first: tuple[IntArray, NDArray[np.float64], NDArray[np.float64]],
    materials: NDArray[np.int32],
    rng: np.random.Generator,
) -> tuple[IntArray, NDArray[np.float64], NDArray[np.float64]]:
    """`first`, but a ray that meets a window goes on behind it, comes back or is lost."""
    faces, ranges, cosines = first[0].copy(), first[1].copy(), first[2].copy()
    travelling = np.arange(len(rays))
    for _ in range(2):  # into the cabin, and out of it
        there = faces[travelling]
        at_glass = travelling[(there >= 0) & (materials[there] == Material.GLASS)]
        fate = rng.random(len(at_glass))
        faces[at_glass[(fate >= THROUGH_GLASS) & (fate < 1 - FROM_GLASS)]] = -1
        travelling = at_glass[fate < THROUGH_GLASS]
        if not len(travelling):
            break
        ahead = rays[travelling]
        starts = ahead * (ranges[travelling] + 0.01)[:, None].astype(np.float32)
        faces[travelling], beyond, cosines[travelling] = _cast(scene, ahead, starts)
        ranges[travelling] += beyond + 0.01
    return faces, ranges, cosines


def _surfaces(
    mesh: Mesh, owners: IntArray, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reflectivity and gloss (F,) of each face; one draw for each object and material."""
    means, deviations, gloss = np.array([REFLECTIVITY[material] for material in Material]).T
    draws = rng.normal(0, 1, (owners.max() + 2, len(Material)))
    values: NDArray[np.float64] = (
        means[mesh.materials] + deviations[mesh.materials] * draws[owners, mesh.materials]
    )
    return np.maximum(values, 0.03), gloss[mesh.materials]


def _reported(intensity: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The number that the sensor gives: in [0, 1], in steps of 0.01."""
    speckled = intensity * (1 + SPECKLE * rng.standard_normal(len(intensity)))
    silent = (speckled < WEAKEST) | (rng.random(len(intensity)) < UNREPORTED)
    reported: NDArray[np.float64] = np.where(silent, 0.0, speckled.clip(0, 1)).round(2)
    return reported


def _is_lost(
    power: NDArray[np.float64],
    ranges: NDArray[np.float64],
    config: SensorConfig,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Returns lost at random, and weak ones the more the farther they come from.

    The power of an echo falls with the cosine of incidence and the square of the range; 0.026
    lets the rings on the road fade between 30 and 50 m, as KITTI's do.
    """
    weakness = 0.026 * (ranges / 80) ** 2 / np.maximum(power, 1e-4)
    chance = 1 - (1 - config.dropout) * np.exp(-weakness)
    lost: NDArray[np.bool_] = rng.random(len(ranges)) < chance
    return lost


def _occlusions(
    objects: Sequence[Mesh], rays: FloatArray, met: IntArray, config: SensorConfig
) -> NDArray[np.float64]:
    """Compare the rays that each object would meet alone with those that it meets in the scene."""
    seen = np.bincount(met[met >= 0], minlength=len(objects))
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
