# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Processor time of PointRCNN's operators on one sweep, on one core, and what the balls hold.

    python benchmarks/point_operators.py --cloud data/kitti/training/velodyne/000008.bin

Without a cloud, a sweep of 64 beams is simulated. With fewer points (`--points 4096`) each level
has as much fewer, and the radii stay.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from untrained import machine, make_sweeps

from pointdistiller_core.config import PointRcnnConfig
from pointdistiller_core.datasets.point_files import read_points
from pointdistiller_core.pointcloud.box_points import pool_points
from pointdistiller_core.pointcloud.point_neighbors import (
    ball_query,
    gather_rows,
    three_nearest,
)
from pointdistiller_core.pointcloud.sampled_points import sample_points
from pointdistiller_core.pointcloud.sampling import farthest_points

PUBLISHED = PointRcnnConfig().sample.num_points


def main() -> None:
    """Print a line per operator and level."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--cloud', type=Path, help='.bin, .npy or .pcd')
    parser.add_argument('--points', type=int, default=PUBLISHED, help='of the sweep')
    parser.add_argument('--rounds', type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cloud = read_points(arguments.cloud) if arguments.cloud else make_sweeps(1, seed=0)[0]
    print(machine())
    with torch.inference_mode():
        times, held = measure(torch.from_numpy(cloud), arguments.points, arguments.rounds)
    for name, milliseconds in times.items():
        print(f'{name:36} {milliseconds:7.1f} ms')
    for name, points in held.items():
        print(f'{name:36} {points:7.1f} points on average, the center included')


def measure(
    cloud: torch.Tensor, num_points: int, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median processor times [ms] by operator, and mean number of points by ball.

    Args:
        cloud: (N, 4) x, y, z [m], intensity.
        num_points: of the sweep; the published levels have as many fewer.
        rounds: measurements of each.
    """
    config = PointRcnnConfig()
    sample = config.sample.model_copy(update={'num_points': num_points})
    drawn = sample_points(
        *([cloud], sample.point_cloud_range),
        num_points=sample.num_points,
        far=sample.far,
        seed=0,
    )
    times: dict[str, float] = {}
    held: dict[str, float] = {}

    def timed(name: str, operator: Callable[..., Any], *arguments: Any) -> Any:
        taken = []
        for _ in range(rounds):
            start = process_time()
            result = operator(*arguments)
            taken.append(1e3 * (process_time() - start))
        times[name] = median(taken)
        return result

    backbone, size = config.backbone, config.refinement.pooled_points
    points = drawn.points[..., :3].contiguous()
    for level, published in enumerate(backbone.num_points):
        count = max(1, published * num_points // PUBLISHED)
        taken = timed(f'{level + 1}: farthest points', farthest_points, points, count)
        centers = gather_rows(points, taken)
        scales = backbone.radii[level], backbone.num_neighbors[level]
        balls = timed(f'{level + 1}: balls', ball_query, points, centers, *scales)
        for radius, most, neighbors in zip(*scales, balls, strict=True):
            # a ball with fewer points repeats its first one
            own = 1 + (neighbors != neighbors[..., :1]).sum(dim=2)
            held[f'{level + 1}: {radius:g} m, {most} at most'] = float(own.float().mean())
        timed(f'{level + 1}: three nearest', three_nearest, points, centers)
        points = centers
    cloud = drawn.points[0, :, :3]
    boxes = torch.cat([cloud[:100], torch.tensor([[3.9, 1.6, 1.56, 0]]).expand(100, 4)], dim=1)
    pooled = timed('100 boxes: pooling', pool_points, cloud, boxes, size)
    local = cloud[pooled.indices] - boxes[:, None, :3]
    taken = timed('100 boxes: farthest points', farthest_points, local, 128)
    timed('100 boxes: balls', ball_query, local, gather_rows(local, taken), [0.2], [16])
    return times, held


if __name__ == '__main__':
    main()
