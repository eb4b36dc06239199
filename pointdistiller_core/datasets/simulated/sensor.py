# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A LiDAR: rays, returns, and their relation to objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.config import SensorConfig
from pointdistiller_core.config.simulation import RoofConfig, SurfacesConfig
from pointdistiller_core.datasets.simulated.blooming import find_halo
from pointdistiller_core.datasets.simulated.casting import (
    Hits,
    Target,
    cast_alone,
    look_through_glass,
    look_through_leaves,
)
from pointdistiller_core.datasets.simulated.meshes import Material, Mesh
from pointdistiller_core.datasets.simulated.rays import Motion, Rays, draw_rays
from pointdistiller_core.datasets.simulated.surfaces import (
    darken,
    depth_into,
    draw_response,
    find_holes,
)

if TYPE_CHECKING:
    Array = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]

SPECKLE = 0.25  # standard deviation of an intensity, as a part of it
WEAKEST = 0.05  # lower ones are reported as 0, and so are a few echoes of any strength
UNREPORTED = 0.07
# A wall of this reflectivity is silent half of the time at the silent range. Towards grazing beams
# the power falls with this exponent of the cosine; from echo to echo it has this spread.
WALL, GRAZING, SILENCE_SPREAD = 0.37, 0.4, 0.55
MIRRORED = 0.2  # part of the echoes of lacquer without an intensity, beside the weak ones
# Intensities fall to 0 at so many silent ranges, but not below this part of them.
FADING, FAINTEST = 2.2, 0.3
APART = 0.3  # behind a reflector, from where its halo outshines what a ray meets [m]
SPRAY_NEAR, SPRAY_FAR, SPRAY_INTENSITY = 1.5, 8.0, 0.06  # [m]; the mean


@dataclass(frozen=True)
class Returns:
    """The returns of one turn of the sensor.

    Attributes:
        points: (N, 4) float32 x, y, z [m], intensity [0..1], sensor frame.
        object_ids: (N,) int64 index of the object that each point is on; -1 for all else.
        occlusions: (n,) part of each object's beams blocked by something in front of it, windows
            included; 1 if no beam reaches it.
    """

    points: FloatArray
    object_ids: IntArray
    occlusions: Array


@dataclass(frozen=True)
class Effects:
    """Effects that may change from turn to turn; none by default.

    Attributes:
        surfaces: effects of surfaces beside returning beams.
        lacquered: which objects have mirroring spots, as cars have; empty for none.
        elevation_offsets: (beams,) errors of the elevations [rad], or None.
        motion: of the sensor, or None.
    """

    surfaces: SurfacesConfig = field(default_factory=SurfacesConfig)
    lacquered: tuple[bool, ...] = ()
    elevation_offsets: Array | None = None
    motion: Motion | None = None


NO_EFFECTS = Effects()


@dataclass(frozen=True)
class _Echoes:
    """The echo of each ray.

    Attributes:
        kept: (R,) whether anything does.
        ranges: (R,) without noise [m].
        intensity: (R,) before the sensor reports it.
        silent: (R,) echoes without an intensity, beside those too weak for one.
        objects: (R,) index of the object, -1 for none.
    """

    kept: BoolArray
    ranges: Array
    intensity: Array
    silent: BoolArray
    objects: IntArray


def scan(
    static: Mesh,
    objects: Sequence[Mesh],
    config: SensorConfig,
    rng: np.random.Generator,
    effects: Effects = NO_EFFECTS,
) -> Returns:
    """One turn of the sensor, which stands at the origin.

    Args:
        static: everything that is no object, sensor frame.
        objects: meshes of the objects, sensor frame.
        config: of the sensor.
        rng: source of noise and loss.
        effects: beside them.
    """
    rays = draw_rays(config, effects.elevation_offsets)
    directions, starts = rays.moving(effects.motion)
    target = Target.of(static, objects)
    first = look_through_leaves(target, directions, starts, rng)
    # By the first surfaces, because beams through an object's own windows are not blocked by
    # anything else.
    in_reach = (first.faces >= 0) & (first.ranges < config.max_range)
    met = np.where(in_reach, target.owners[first.faces], -1)
    occlusions = _occlusions(objects, rays, met, config)
    hits = look_through_glass(target, directions, starts, first, rng)
    echoes = _echo(hits, target, directions, config=config, surfaces=effects.surfaces, rng=rng)
    if effects.surfaces.blooming[1]:
        echoes = _bloom(echoes, target.reflecting(hits.faces), rays.directions, effects, rng)
    echoes = _lose_more(echoes, rays, objects, config=config, effects=effects, rng=rng)
    noisy = echoes.ranges + rng.normal(0, config.range_noise, len(directions))
    columns = [rays.directions * noisy[:, None], _reported(echoes, rays, config, rng)[:, None]]
    points = np.concatenate(columns, axis=1)[echoes.kept]
    return Returns(points.astype(np.float32), echoes.objects[echoes.kept], occlusions)


def _echo(
    hits: Hits,
    target: Target,
    directions: FloatArray,
    *,
    config: SensorConfig,
    surfaces: SurfacesConfig,
    rng: np.random.Generator,
) -> _Echoes:
    """The echoes from where rays end."""
    faces, materials = hits.faces, target.mesh.materials
    ranges = hits.ranges + depth_into(faces, materials, directions, rng)
    hit = (faces >= 0) & (ranges < config.max_range) & (ranges > config.min_range)
    reflectivity, gloss = draw_response(target.mesh, target.owners, rng)
    if surfaces.dark:
        reflectivity = darken(reflectivity, materials, target.owners, surfaces.dark, rng)
    power = reflectivity[faces] * hits.cosines
    kept = hit & ~_is_lost(power, ranges, config, rng)
    silent: BoolArray = np.zeros(len(faces), np.bool_)
    intensity = reflectivity[faces] * hits.cosines ** gloss[faces]
    if config.silent_range is not None:
        intensity *= np.maximum(1 - ranges / (FADING * config.silent_range), FAINTEST)
        lit = reflectivity[faces] * hits.cosines**GRAZING
        silent = _is_silent(lit, ranges, config.silent_range, rng)
    if len(lacquer := np.flatnonzero(target.is_of(faces, Material.LACQUER))):
        silent[lacquer] |= rng.random(len(lacquer)) < MIRRORED
    return _Echoes(
        kept,
        ranges,
        intensity=intensity,
        silent=silent,
        objects=np.where(hit, target.owners[faces], -1),
    )


def _bloom(
    echoes: _Echoes,
    reflecting: BoolArray,
    directions: FloatArray,
    effects: Effects,
    rng: np.random.Generator,
) -> _Echoes:
    """`echoes`, and those of reflectors in rays beside them that meet nothing nearer."""
    width = np.radians(rng.uniform(*effects.surfaces.blooming))
    bright = np.flatnonzero(echoes.kept & reflecting)
    if not (width and len(bright)):
        return echoes
    halo = find_halo(directions, bright, echoes.ranges, width=width, rng=rng)
    ranges, intensity = echoes.ranges.copy(), echoes.intensity.copy()
    kept, silent, objects = echoes.kept.copy(), echoes.silent.copy(), echoes.objects.copy()
    farther = ranges[halo.rays] > ranges[halo.sources] + APART
    taken = ~kept[halo.rays] | farther
    rays, sources = halo.rays[taken], halo.sources[taken]
    ranges[rays], kept[rays], objects[rays] = ranges[sources], True, -1
    intensity[rays], silent[rays] = intensity[sources] * halo.strengths[taken], False
    return _Echoes(kept, ranges, intensity=intensity, silent=silent, objects=objects)


def _lose_more(
    echoes: _Echoes,
    rays: Rays,
    objects: Sequence[Mesh],
    *,
    config: SensorConfig,
    effects: Effects,
    rng: np.random.Generator,
) -> _Echoes:
    """`echoes` without those lost to the vehicle's roof, mirrors or rain, and with spray."""
    surfaces, lost = effects.surfaces, np.zeros(len(echoes.kept), np.bool_)
    if effects.lacquered:
        lost |= find_holes(
            rays.directions,
            echoes.ranges,
            echoes.objects,
            objects,
            lacquered=effects.lacquered,
            config=surfaces,
            rng=rng,
        )
    if surfaces.rain[1]:
        lost |= rng.random(len(lost)) < rng.uniform(*surfaces.rain)
    if config.roof is not None:
        lost |= _on_own_roof(rays.directions, config.roof)
    echoes = replace(echoes, kept=echoes.kept & ~lost)
    return _add_spray(echoes, surfaces.spray, rng) if surfaces.spray[1] else echoes


def _on_own_roof(directions: FloatArray, roof: RoofConfig) -> BoolArray:
    """(R,) which rays hit the vehicle's own roof."""
    x, y, z = directions.T.astype(np.float64)
    reach = roof.below / np.maximum(-z, 1e-9)
    on_roof: BoolArray = (
        (x * reach < roof.ahead)
        & (x * reach > -roof.behind)
        & (np.abs(y) * reach < roof.half_width)
    )
    return on_roof


def _add_spray(echoes: _Echoes, parts: tuple[float, float], rng: np.random.Generator) -> _Echoes:
    """`echoes`, some of which come from drops near the sensor."""
    drops = np.flatnonzero(rng.random(len(echoes.kept)) < rng.uniform(*parts))
    ranges, intensity = echoes.ranges.copy(), echoes.intensity.copy()
    kept, objects = echoes.kept.copy(), echoes.objects.copy()
    near = rng.uniform(SPRAY_NEAR, SPRAY_FAR, len(drops))
    before = drops[near < ranges[drops]]
    ranges[before] = near[near < ranges[drops]]
    intensity[before] = rng.exponential(SPRAY_INTENSITY, len(before))
    kept[before], objects[before] = True, -1
    return replace(echoes, kept=kept, ranges=ranges, intensity=intensity, objects=objects)


def _is_silent(
    lit: Array, ranges: Array, silent_range: float, rng: np.random.Generator
) -> BoolArray:
    """(R,) which echoes are too weak for an intensity, though strong enough for a range."""
    spread = np.exp(SILENCE_SPREAD * rng.standard_normal(len(ranges), dtype=np.float32))
    silent: BoolArray = lit * spread < WALL * (ranges / silent_range) ** 2
    return silent


def _reported(
    echoes: _Echoes, rays: Rays, config: SensorConfig, rng: np.random.Generator
) -> Array:
    """The intensity that the sensor reports: in [0, 1], in steps of 0.01."""
    intensity = echoes.intensity
    if config.ring_gain:
        gains = 1 + config.ring_gain * rng.standard_normal(len(intensity) // rays.num_columns)
        intensity = intensity * np.repeat(np.maximum(gains, 0.2), rays.num_columns)
    speckled = intensity * (1 + SPECKLE * rng.standard_normal(len(intensity)))
    silent = (speckled < WEAKEST) | (rng.random(len(intensity)) < UNREPORTED) | echoes.silent
    reported: Array = np.where(silent, 0.0, speckled.clip(0, 1)).round(2)
    return reported


def _is_lost(
    power: Array, ranges: Array, config: SensorConfig, rng: np.random.Generator
) -> BoolArray:
    """Returns lost at random; weak and distant ones more often.

    The power of an echo falls with the cosine of incidence and the square of the range; 0.026
    lets the rings on the road fade between 30 and 50 m, as KITTI's do.
    """
    weakness = 0.026 * (ranges / config.weak_range) ** 2 / np.maximum(power, 1e-4)
    chance = 1 - (1 - config.dropout) * np.exp(-weakness)
    lost: BoolArray = rng.random(len(ranges)) < chance
    return lost


def _occlusions(objects: Sequence[Mesh], rays: Rays, met: IntArray, config: SensorConfig) -> Array:
    """Compare the rays that would hit each object alone with those that hit it in the scene."""
    seen = np.bincount(met[met >= 0], minlength=len(objects))
    result = np.ones(len(objects))
    for index, mesh in enumerate(objects):
        hits = cast_alone(mesh, rays.directions[rays.towards(mesh)])
        alone = int(((hits.faces >= 0) & (hits.ranges < config.max_range)).sum())
        if alone:
            result[index] = max(0.0, 1 - seen[index] / alone)
    return result
