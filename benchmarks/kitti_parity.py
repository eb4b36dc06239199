# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Compare the KITTI metric with the official program's numbers, case by case.

The folder holds `label_2.tar.xz`, `val.txt`, one archive of result files per detector, and
`*_expected.json`: {case: {metric: {class: {ap11 or ap40: [easy, moderate, hard]}}}} in percent.
Example: `python benchmarks/kitti_parity.py --data ../shared/data/kitti_eval --json parity.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import tarfile
import tempfile
import time
from typing import Any

from pointdistiller_core.evaluation.kitti.metric import evaluate_kitti, read_results_folder
from pointdistiller_core.files import write_text

ARCHIVES = {
    'pointgnn': 'pointgnn_results',
    'seed1': 'perturbed_seed1',
    'seed2': 'perturbed_seed2',
    'seed1_first200': 'perturbed_seed1',
}
TOLERANCE = 1e-3  # percent points; the expected numbers have four decimals


def main() -> int:
    """Print one row per case and, last, the largest difference of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder of archives and numbers')
    parser.add_argument('--json', type=Path, help='where to write the rows')
    arguments = parser.parse_args()
    expected: dict[str, Any] = {}
    for path in sorted(arguments.data.glob('*_expected.json')):
        expected |= json.loads(path.read_text(encoding='utf-8'))
    with tempfile.TemporaryDirectory() as folder:
        unpack(arguments.data, Path(folder))
        rows = [compare(case, Path(folder), expected[case]) for case in sorted(expected)]
    if arguments.json:
        write_text(arguments.json, json.dumps(rows, indent=2) + '\n')
    largest = max(row['largest_difference'] for row in rows)
    print(f'largest difference: {largest:.6f} percent points')
    return int(largest > TOLERANCE)


def unpack(data: Path, target: Path) -> None:
    """Unpack the archives, and the list of the first 200 frames."""
    for name in ('label_2', *set(ARCHIVES.values())):
        (target / name).mkdir()
        with tarfile.open(data / f'{name}.tar.xz') as archive:
            for member in archive:
                if content := archive.extractfile(member) if member.isfile() else None:
                    (target / name / Path(member.name).name).write_bytes(content.read())
    frames = (data / 'val.txt').read_text(encoding='utf-8').split()
    (target / 'seed1_first200.txt').write_text('\n'.join(frames[:200]), encoding='utf-8')


def compare(case: str, folder: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Evaluate a case, reading its files included."""
    split = folder / f'{case}.txt'
    start = time.perf_counter()
    truth, detections = read_results_folder(
        folder / 'label_2', folder / ARCHIVES[case], split if split.exists() else None
    )
    result = evaluate_kitti(truth, detections).to_dict()
    row = {
        'case': case,
        'frames': len(truth),
        'detections': sum(map(len, detections)),
        'seconds': round(time.perf_counter() - start, 2),
        'largest_difference': largest_difference(result, expected),
    }
    print('  '.join(f'{key} {value}' for key, value in row.items()))
    return row


def largest_difference(result: dict[str, Any], expected: dict[str, Any]) -> float:
    """Largest difference of all numbers [percent points]; infinite if the classes differ."""
    if {metric: set(classes) for metric, classes in result.items()} != {
        metric: set(classes) for metric, classes in expected.items()
    }:
        return float('inf')
    return max(
        abs(value - reference)
        for metric, classes in expected.items()
        for name, precisions in classes.items()
        for key, references in precisions.items()
        for value, reference in zip(result[metric][name][key], references, strict=True)
    )


if __name__ == '__main__':
    raise SystemExit(main())
