# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The nuScenes metric of a submission file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.evaluation.nuscenes.metric import NuScenesResult, evaluate_nuscenes
from pointdistiller_core.formats.nuscenes.annotations import sample_truth
from pointdistiller_core.formats.nuscenes.index import NuScenesIndex, open_index
from pointdistiller_core.formats.nuscenes.names import CLASS_NAMES
from pointdistiller_core.formats.nuscenes.submission import read_submission
from pointdistiller_core.formats.nuscenes.versions import find_version


def evaluate_submission(
    predictions: Path, root: Path, split: str, *, cache: Path | None = None
) -> tuple[NuScenesResult, int]:
    """Evaluate a submission as the official program does.

    Args:
        predictions: the submission.
        root: of the dataset, or the folder of one version of its tables.
        split: name of a published split, or of one in `splits.json`.
        cache: folder for the index of large tables; None is `.cache` in the root.

    Returns:
        The numbers, and how many samples there are.

    Raises:
        DatasetError: the tables or the submission are malformed, or do not fit together.
    """
    folder = find_version(root, split)
    index = open_index(folder, cache or folder.parent / '.cache')
    return evaluate_on(predictions, index, split)


def evaluate_on(predictions: Path, index: NuScenesIndex, split: str) -> tuple[NuScenesResult, int]:
    """As `evaluate_submission`, with the index of the tables."""
    samples = index.samples(split)
    if not len(index.boxes):
        raise DatasetError(f'{index.folder}: has no labels; there is nothing to evaluate on')
    # The devkit goes through the samples of a published split as they are in the submission, and
    # else as they are in their table; detections of equal scores see the difference.
    samples = samples[np.argsort(index.sample_places[samples])]
    exactly = all(index.is_official(name) for name in split.split('+'))
    numbers = {index.token(sample): sample for sample in samples.tolist()}
    found, order = read_submission(predictions, list(numbers), exactly=exactly)
    truth = sample_truth(index, [numbers[token] for token in order], CLASS_NAMES)
    return evaluate_nuscenes(truth, found), len(order)
