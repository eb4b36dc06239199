# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The first part of `demo`: what the shipped bundle finds in the simulated drive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.cli.output import print_note, print_table
from pointdistiller_core.deploy.bundle_format import DEFAULT_BUNDLE, find_bundle, read_info
from pointdistiller_core.pipelines.stages import Facts, Stage

if TYPE_CHECKING:
    from pointdistiller_core.evaluation.matching import Matches
    from pointdistiller_core.records import Detections, Frame, GroundTruth

NAME = 'shipped'
SHOWN_EXTENT = (-45.0, 45.0, -30.0, 30.0)  # of the picture [m]
# Least IoU from above of a hit: enough to say that an object is there.
COLUMNS = {
    'labels': 'there',
    'found': 'found',
    'false_alarms': 'false alarms',
    'on_others': 'of these, on road users of another class',
}
OVERLAPS = {'Car': 0.5, 'Pedestrian': 0.25, 'Cyclist': 0.25}


def shipped_stage(drive: Path, picture: Path) -> Stage:
    """Run the shipped bundle on the drive, count what it found, and draw a cloud."""
    return Stage(
        NAME,
        lambda _begun: try_shipped(DEFAULT_BUNDLE, drive, picture),
        lambda: {
            'bundle': DEFAULT_BUNDLE,
            'info': read_info(find_bundle(DEFAULT_BUNDLE)).model_dump(mode='json'),
        },
        after=('drive',),
        results=(picture,),
        title=f'{DEFAULT_BUNDLE}, which ships, on the drive',
    )


def try_shipped(bundle: Path | str, drive: Path, picture: Path) -> Facts:
    """Compare what a bundle finds in a labelled bag with the labels in its range.

    Args:
        bundle: of classes that `OVERLAPS` has.
        drive: the bag.
        picture: PNG file to write, of the cloud with the most labels.

    Returns:
        `clouds`, and by class the numbers of `labels`, `found` ones and `false_alarms`; and of
        these the number `on_others`, that overlap a road user of another class.
    """
    from pointdistiller_core.cli.detection_run import detect_all
    from pointdistiller_core.datasets import open_dataset
    from pointdistiller_core.detector import Detector
    from pointdistiller_core.evaluation.matching import match_detections

    with Detector.load(bundle) as detector:
        names, reach = detector.class_names, detector.info.model.point_cloud_range
        dataset = open_dataset(drive, class_names=names)
        title = f'{Path(bundle).name} in {detector.backend}'
        found = detect_all(detector, dataset, title=title, level=True)
    overlaps = [OVERLAPS[name] for name in names]
    truths = [_truth_in_reach(dataset[index], reach) for index in range(len(dataset))]
    matches = [
        match_detections(items, truth, overlaps)
        for items, truth in zip(found, truths, strict=True)
    ]
    fullest = int(np.argmax([(truth.labels >= 0).sum() for truth in truths]))
    frame = replace(dataset[fullest], ground_truth=truths[fullest])
    _draw(picture, frame, found[fullest], matches[fullest], names)
    return {'clouds': len(dataset), 'classes': _count(names, truths, found, matches)}


def print_shipped(facts: Facts, picture: Path) -> None:
    """A row for each class."""
    rows = [
        [name, *(str(counts[key]) for key in COLUMNS)] for name, counts in facts['classes'].items()
    ]
    least = ', '.join(f'{name} {overlap:g}' for name, overlap in OVERLAPS.items())
    print_table(
        f'{DEFAULT_BUNDLE}, as it ships, on the {facts["clouds"]} clouds of the drive: road users '
        f'in its range; IoU from above {least}',
        ['class', *COLUMNS.values()],
        rows,
        json_target=None,
    )
    print_note(f'{picture}: one of these clouds')


def _truth_in_reach(frame: Frame, reach: Sequence[float]) -> GroundTruth:
    """The labels of a frame, those beyond a range x, y, z from and to [m] ignored."""
    from pointdistiller_core.records import IGNORE_LABEL

    truth = frame.ground_truth
    assert truth is not None, f'cloud {frame.frame_id} has no labels'
    places = truth.boxes[:, :2]
    near = ((places >= reach[:2]) & (places <= reach[3:5])).all(axis=1)
    return replace(truth, labels=np.where(near, truth.labels, IGNORE_LABEL))


def _draw(
    picture: Path,
    frame: Frame,
    found: Detections,
    matches: Matches,
    names: Sequence[str],
) -> None:
    """A cloud with its labels, and what was found."""
    from pointdistiller_core.evaluation.pictures.scenes import draw_agreement

    truth = frame.ground_truth
    assert truth is not None
    groups: dict[str, GroundTruth | Detections] = {
        'ignored': truth[truth.labels < 0],
        'missed': truth[matches.missed],
        'found': found[matches.true_positives],
        'false positive': found[matches.false_positives],
    }
    title = f'{DEFAULT_BUNDLE} on cloud {frame.frame_id} of the drive'
    draw_agreement(
        picture, frame.points, groups, class_names=names, title=title, extent=SHOWN_EXTENT
    )


def _on_others(found: Detections, truth: GroundTruth) -> NDArray[np.bool_]:
    """(N,) which detections overlap a road user of another class."""
    from pointdistiller_core.geometry.iou import rotated_iou_bev

    others = (truth.labels >= 0) & (truth.labels != found.labels[:, None])
    overlapping = rotated_iou_bev(found.boxes, truth.boxes) > 0
    result: NDArray[np.bool_] = (others & overlapping).any(axis=1)
    return result


def _count(
    names: Sequence[str],
    truths: Sequence[GroundTruth],
    found: Sequence[Detections],
    matches: Sequence[Matches],
) -> dict[str, dict[str, Any]]:
    """By class: labels, found ones, and detections of what is not there."""
    labels = np.concatenate([truth.labels for truth in truths])
    detected = np.concatenate([items.labels for items in found])
    hits = np.concatenate([match.true_positives for match in matches])
    alarms = np.concatenate([match.false_positives for match in matches])
    on_others = np.concatenate(
        [
            match.false_positives & _on_others(items, truth)
            for items, truth, match in zip(found, truths, matches, strict=True)
        ]
    )
    return {
        name: {
            'labels': int((labels == label).sum()),
            'found': int((hits & (detected == label)).sum()),
            'false_alarms': int((alarms & (detected == label)).sum()),
            'on_others': int((on_others & (detected == label)).sum()),
        }
        for label, name in enumerate(names)
    }
