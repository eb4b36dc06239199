# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What each ingredient of the simulator gives on real frames: one network, trained without each.

    python benchmarks/simulator_ingredients.py kitti_mini --split train -o bench_output/ingredients

An arm is a dataset simulated as `any_sensor`, but for one ingredient, and a small PointPillars
trained on it. A seed is that of the frames and of the training. Labels outside the network's range
do not count. Finished runs are not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
import json
from pathlib import Path
import shutil
from statistics import fmean
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
import yaml

from pointdistiller_core.datasets import FrameDataset, open_dataset
from pointdistiller_core.detector import Detector
from pointdistiller_core.evaluation.lidar import LidarMetric
from pointdistiller_core.files import write_text
from pointdistiller_core.pipelines.evaluate import detect
from pointdistiller_core.records import IGNORE_LABEL, Frame

MODEL: dict[str, Any] = {
    'name': 'pointpillars',
    'width': 0.5,
    'grid': {
        'point_cloud_range': [0.0, -20.48, -3.0, 40.96, 20.48, 1.0],
        'voxel_size': [0.32, 0.32, 4.0],
    },
    'loss': {'direction': 0.5},
    'detection': {'voting_iou': 0.5},
    'norm_momentum': 0.1,
}
AUGMENTATION = {
    'flip_probability': 0.5,
    'flip_x_probability': 0.5,  # what is behind the sensor comes before it, too
    'rotation': [-0.785, 0.785],
    'scaling': [0.97, 1.03],
    'shuffle_points': True,
}
SCORE_THRESHOLD = 0.1
NUM_FRAMES, NUM_EPOCHS = 400, 8
AS_RECORDED = 'streets'  # as many road users as in recordings


class Arm(NamedTuple):
    """One way to make training frames.

    Attributes:
        title: for people.
        removed: paths of the simulation's configuration that get their defaults.
        as_recorded: takes the scenes of `AS_RECORDED`.
        levelled: trained and run on levelled clouds.
    """

    title: str
    removed: Sequence[str] = ()
    as_recorded: bool = False
    levelled: bool = True


ARMS: Mapping[str, Arm] = {
    'all': Arm('all (`any_sensor`)'),
    'plain': Arm('open ground instead of streets', removed=['scene']),
    'as_recorded': Arm('as many road users as recorded', as_recorded=True),
    'surfaces': Arm('perfect surfaces', removed=['surfaces']),
    'exact': Arm('labels not shrunk', removed=['labels.shrink']),
    'one_sensor': Arm(
        'one sensor at one height', removed=['variation.sensors', 'variation.mounting']
    ),
    'no_variation': Arm('one sensor, and nothing varies', removed=['variation']),
    'not_levelled': Arm('clouds not levelled', levelled=False),
}


def main() -> int:
    """Make what is missing, print a row for each arm and write all numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('dataset', type=Path, help='real frames, as the camera sees them')
    parser.add_argument('--split', default='train')
    parser.add_argument('--seeds', default='0,1')
    parser.add_argument('--arms', default=','.join(ARMS))
    parser.add_argument('-o', '--output', type=Path, default=Path('bench_output/ingredients'))
    arguments = parser.parse_args()
    results: dict[str, dict[str, dict[str, float]]] = {}
    for seed in map(int, arguments.seeds.split(',')):
        for name in arguments.arms.split(','):
            bundle = train(arguments.output, name, ARMS[name], seed)
            scores = evaluate(bundle, arguments.dataset, arguments.split)
            results.setdefault(name, {})[str(seed)] = scores
            print(
                f'{name}, seed {seed}:', *(f'{k} {v:.1f}' for k, v in scores.items()), flush=True
            )
    print_table(results)
    write_text(arguments.output / 'ingredients.json', json.dumps(results, indent=1) + '\n')
    return 0


def train(output: Path, name: str, arm: Arm, seed: int) -> Path:
    """The bundle of an arm, trained unless it is there."""
    run = output / f'{name}-seed{seed}'
    if (run / 'metrics.json').exists():
        return run / 'bundle'
    data = output / f'data-{name if arm.levelled else "all"}-seed{seed}'
    if not (data / 'ImageSets' / 'val.txt').exists():
        shutil.rmtree(data, ignore_errors=True)
        config = output / f'{name}.simulation.yaml'
        write_text(config, yaml.safe_dump(simulation(arm), sort_keys=False))
        counts = ('--train', NUM_FRAMES, '--val', 1)
        call('simulate', data, '--config', config, *counts, '--seed', 1000 + seed, '--workers', 1)
    experiment = {
        'model': {**MODEL, 'levelled': arm.levelled},
        'dataset': {
            'root': str(data.absolute()),
            'split': 'train',
            'camera_view': False,
            'cache_frames': True,
        },
        'augmentation': AUGMENTATION,
        'training': {
            'precision': 'bf16-mixed',
            'epochs': NUM_EPOCHS,
            'batch_size': 4,
            'learning_rate': 0.003,
            'num_workers': 0,
            'seed': seed,
        },
    }
    config = output / f'{name}-seed{seed}.yaml'
    write_text(config, yaml.safe_dump(experiment, sort_keys=False))
    call('train', config, '-o', run, *(['--resume'] if (run / 'checkpoints').exists() else []))
    return run / 'bundle'


def simulation(arm: Arm) -> dict[str, Any]:
    """The configuration of an arm's frames."""
    folder = Path(__file__).parents[1] / 'config' / 'simulations'
    config: dict[str, Any] = yaml.safe_load((folder / 'any_sensor.yaml').read_text())
    if arm.as_recorded:
        config['scene'] = yaml.safe_load((folder / f'{AS_RECORDED}.yaml').read_text())['scene']
    for path in arm.removed:
        *parents, last = path.split('.')
        part = config
        for parent in parents:
            part = part[parent]
        del part[last]
    return config


def call(*arguments: object) -> None:
    """Run a verb of the command line."""
    command = [sys.executable, '-m', 'pointdistiller_core', *map(str, arguments)]
    print('$ pointdistiller', *command[3:], flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def evaluate(bundle: Path, dataset: Path, split: str) -> dict[str, float]:
    """AP|R40 [%] on real frames, and of cars recall and precision [%] at the best F1."""
    detector = Detector.load(bundle, backend='torch', num_threads=1)
    low, high = np.split(np.float32(MODEL['grid']['point_cloud_range']), 2)
    frames = InRange(
        open_dataset(dataset, split=split, class_names=detector.class_names, camera_view=True),
        low,
        high,
    )
    indices = range(len(frames))
    thresholds = {'score_threshold': SCORE_THRESHOLD, 'score_thresholds': ()}
    model = detector.info.model
    found = detect(
        detector, frames, indices, detection=model.detection.model_copy(update=thresholds)
    )
    near = dict.fromkeys(detector.class_names, (0.25, 0.25))
    strict = LidarMetric({**near, 'Car': (0.5, 0.7)}).evaluate(frames, indices, found)
    loose = LidarMetric(near).evaluate(frames, indices, found)
    recall, precision = best_f1(loose.details['precision']['Car']['BEV'])
    return {
        'Car BEV 0.5': strict.by_class['Car']['BEV AP'],
        'Car 3D 0.7': strict.by_class['Car']['3D AP'],
        'Car recall': recall,
        'Car precision': precision,
        'Pedestrian BEV 0.25': strict.by_class['Pedestrian']['BEV AP'],
        'Cyclist BEV 0.25': strict.by_class['Cyclist']['BEV AP'],
    }


class InRange:
    """Frames whose labels outside a range are ignored."""

    def __init__(
        self, frames: FrameDataset, low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> None:
        """See the class; `low` and `high` are x, y and z [m]."""
        self._frames, self._low, self._high = frames, low[:2], high[:2]
        self.class_names, self.frame_ids = frames.class_names, frames.frame_ids
        self.annotations = frames.annotations

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        frame = self._frames[index]
        truth = frame.ground_truth
        assert truth is not None
        centers = truth.boxes[:, :2]
        inside = ((centers >= self._low) & (centers < self._high)).all(axis=1)
        labels = np.where(inside, truth.labels, IGNORE_LABEL)
        return replace(frame, ground_truth=replace(truth, labels=labels))


def best_f1(curve: Sequence[float]) -> tuple[float, float]:
    """Recall and precision [%] of the point of a curve of precisions with the best F1."""
    points = [(100 * (index + 1) / len(curve), 100 * value) for index, value in enumerate(curve)]
    return max(points, key=lambda point: point[0] * point[1] / sum(point))


def print_table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Mean over the seeds, with half of the difference between the lowest and the highest."""
    names = list(next(iter(next(iter(results.values())).values())))
    print('|', ' | '.join(['', *names]), '|')
    print('|', ' | '.join(['---'] + ['---:'] * len(names)), '|')
    for arm, by_seed in results.items():
        cells = []
        for name in names:
            values = [scores[name] for scores in by_seed.values()]
            spread = (max(values) - min(values)) / 2
            cells.append(f'{fmean(values):.1f} +- {spread:.1f}')
        print('|', ' | '.join([ARMS[arm].title, *cells]), '|')


if __name__ == '__main__':
    sys.exit(main())
