# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Submission files of nuScenes' detection task: results of any detector, in the global frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes.json_stream import JsonStream, open_json
from pointdistiller_core.formats.nuscenes.names import ATTRIBUTES, CLASS_NAMES

if TYPE_CHECKING:
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

RESULTS_FILE = 'results_nusc.json'
MAX_BOXES = 500  # of a sample
META = {
    **{'use_camera': False, 'use_lidar': True, 'use_radar': False},
    **{'use_map': False, 'use_external': False},
}
NO_POINTS_KNOWN = -1
_LENGTHS = {'translation': 3, 'size': 3, 'rotation': 4, 'velocity': 2}


@dataclass(frozen=True)
class GlobalBoxes:
    """Boxes of several samples in nuScenes' global frame, in the order of the samples.

    Attributes:
        samples: (N,) int64 index of the sample of each box.
        translation: (N, 3) center [m].
        size: (N, 3) width, length, height [m].
        rotation: (N, 4) quaternion w, x, y, z.
        velocity: (N, 2) along x and y [m/s], NaN if not known.
        labels: (N,) int64 index into the class names, -1 for no class.
        attributes: (N,) int64 index into `ATTRIBUTES`, -1 for none.
        scores: (N,); of labels they mean nothing.
        num_points: (N,) int64 of LiDAR and radar in the box; `NO_POINTS_KNOWN` if not known.
    """

    samples: IntArray
    translation: FloatArray
    size: FloatArray
    rotation: FloatArray
    velocity: FloatArray
    labels: IntArray
    attributes: IntArray
    scores: FloatArray
    num_points: IntArray

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, keep: Any) -> GlobalBoxes:
        return GlobalBoxes(**{name: column[keep] for name, column in vars(self).items()})

    @classmethod
    def empty(cls) -> GlobalBoxes:
        """No boxes."""
        shapes = {'translation': 3, 'size': 3, 'rotation': 4, 'velocity': 2}
        floats = {name: np.zeros((0, width)) for name, width in shapes.items()}
        whole = np.zeros(0, np.int64)
        return cls(
            samples=whole,
            labels=whole,
            attributes=whole,
            scores=np.zeros(0),
            num_points=whole,
            **floats,
        )

    @classmethod
    def joined(cls, parts: Iterable[GlobalBoxes]) -> GlobalBoxes:
        """Boxes one after another."""
        parts = [cls.empty(), *parts]
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in vars(parts[0])
        }
        return cls(**columns)


def read_submission(
    file: Path, samples: Sequence[str], *, exactly: bool
) -> tuple[GlobalBoxes, list[str]]:
    """Read a submission; whatever the official devkit refuses is refused.

    Args:
        file: a submission.
        samples: tokens of the samples that must be there.
        exactly: whether other samples are refused, as of a published split; they are left out
            otherwise.

    Returns:
        The boxes, and the tokens of the samples that they index: these of `exactly` in the order
        of the file, others as in `samples`.

    Raises:
        DatasetError: it is malformed, lacks samples or has others, or a box is not as it must be.
    """
    wanted = {token: number for number, token in enumerate(samples)}
    parts: dict[str, GlobalBoxes] = {}
    others: list[str] = []
    has_meta = has_results = False
    with open_json(file) as text:
        stream = JsonStream(text, file)
        for key in stream.members():
            if key != 'results':
                stream.value()
                has_meta |= key == 'meta'
                continue
            has_results = True
            for token in stream.members():
                boxes = stream.value()
                if token in parts:
                    raise DatasetError(f'{file}: sample {token} is there twice')
                if token in wanted or exactly:
                    parts[token] = _boxes_of(boxes, token, file)
                if token not in wanted:
                    others.append(token)
        stream.end()
    _check_whole(file, has_meta=has_meta, has_results=has_results)
    _check_samples(
        file, [each for each in samples if each not in parts], others if exactly else []
    )
    order = list(parts) if exactly else list(samples)
    if not any(len(part) for part in parts.values()):
        raise DatasetError(f'{file}: has no box in any of {len(order)} samples')
    numbered = [
        replace(part, samples=np.full(len(part), number))
        for number, part in enumerate(parts[token] for token in order)
    ]
    return GlobalBoxes.joined(numbered), order


def submitted_samples(file: Path) -> set[str]:
    """Tokens of the samples of a submission.

    Raises:
        DatasetError: it is malformed.
    """
    tokens: set[str] = set()
    with open_json(file) as text:
        stream = JsonStream(text, file)
        for key in stream.members():
            if key != 'results':
                stream.value()
                continue
            for token in stream.members():
                stream.value()
                tokens.add(token)
    return tokens


def _check_whole(file: Path, *, has_meta: bool, has_results: bool) -> None:
    lacking = [name for name, has in (('meta', has_meta), ('results', has_results)) if not has]
    if lacking:
        raise DatasetError(
            f'{file}: lacks {" and ".join(map(repr, lacking))}; a submission of nuScenes has both'
        )


def _check_samples(file: Path, missing: Sequence[str], others: Sequence[str]) -> None:
    """Refuse the wrong samples."""
    problems = [
        f'{what} {len(tokens)} samples{where}, e.g. {tokens[0]}'
        for what, tokens, where in (
            ('lacks', missing, ' of the split'),
            ('has', others, ' of no such split'),
        )
        if tokens
    ]
    if problems:
        raise DatasetError(
            f'{file}: {"; ".join(problems)}; it must have every sample of the split, '
            'those without a box with an empty list'
        )


def _boxes_of(boxes: Any, token: str, file: Path) -> GlobalBoxes:
    """Boxes of a sample, all with sample 0.

    Raises:
        DatasetError: they are not as they must be.
    """
    where = f'{file}: sample {token}'
    if not isinstance(boxes, list) or not all(isinstance(box, dict) for box in boxes):
        raise DatasetError(f'{where}: expected a list of boxes')
    if len(boxes) > MAX_BOXES:
        raise DatasetError(
            f'{where}: has {len(boxes)} boxes; at most {MAX_BOXES} are allowed: keep the best'
        )
    if not boxes:
        return GlobalBoxes.empty()
    try:
        names = [box['detection_name'] for box in boxes]
        attributes = [box['attribute_name'] for box in boxes]
        scores = [box['detection_score'] for box in boxes]
        strange = [box['sample_token'] for box in boxes if box['sample_token'] != token]
        columns = {name: [box[name] for box in boxes] for name in _LENGTHS}
    except KeyError as error:
        lacking = next(place for place, box in enumerate(boxes) if error.args[0] not in box)
        raise DatasetError(f'{where}: box {lacking} lacks {error}') from None
    if strange:
        raise DatasetError(
            f'{where}: the sample_token of {len(strange)} of its boxes is another, e.g. '
            f'{strange[0]!r}'
        )
    arrays = {
        name: _numbers(values, (_LENGTHS[name],), f'{where}: {name}', unknown=name == 'velocity')
        for name, values in columns.items()
    }
    return GlobalBoxes(
        samples=np.zeros(len(boxes), np.int64),
        labels=_numbers_of_names(names, CLASS_NAMES, f'{where}: detection_name'),
        attributes=_numbers_of_names(attributes, ATTRIBUTES, f'{where}: attribute_name', none=''),
        scores=_scores(scores, f'{where}: detection_score'),
        num_points=_point_counts(boxes, f'{where}: num_pts'),
        **arrays,
    )


def _numbers(
    values: list[Any], shape: tuple[int, ...], where: str, *, unknown: bool = False
) -> FloatArray:
    """Values (N, *shape) of N boxes; only what may be unknown may be NaN."""
    try:
        array = np.array(values, np.float64)
        valid = array.shape == (len(values), *shape)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        lengths = f'{shape[0]} numbers' if shape else 'a number'
        raise DatasetError(f'{where}: expected {lengths} in each box')
    bad = np.isinf(array) if unknown else ~np.isfinite(array)
    if bad.any():
        place = int(np.argwhere(bad)[0][0])
        raise DatasetError(f'{where}: box {place} has {values[place]}, which is not finite')
    return array


def _scores(values: list[Any], where: str) -> FloatArray:
    scores = _numbers(values, (), where)
    if (scores < 0).any():
        place = int(np.argmax(scores < 0))
        raise DatasetError(f'{where}: box {place} has {values[place]}; scores must be positive')
    return scores


def _point_counts(boxes: list[dict[str, Any]], where: str) -> IntArray:
    try:
        counts = [int(box.get('num_pts', NO_POINTS_KNOWN)) for box in boxes]
    except (TypeError, ValueError):
        raise DatasetError(f'{where}: expected an integer, if any, in each box') from None
    return np.array(counts, np.int64)


def _numbers_of_names(
    names: Sequence[Any], known: Sequence[str], where: str, *, none: str | None = None
) -> IntArray:
    """Places (N,) of names; -1 for `none`."""
    numbers: dict[Any, int] = {name: place for place, name in enumerate(known)}
    if none is not None:
        numbers[none] = -1
    try:
        return np.array([numbers[name] for name in names], np.int64)
    except (KeyError, TypeError):
        name = next(name for name in names if not isinstance(name, str) or name not in numbers)
        choices = f'{", ".join(known)}{"" if none is None else ", or empty"}'
        raise DatasetError(f'{where}: {name!r} is unknown; one of {choices}') from None


def format_submission(
    boxes: GlobalBoxes, samples: Sequence[str], class_names: Sequence[str] = CLASS_NAMES
) -> bytes:
    """A submission that the devkit reads, the boxes of each sample by descending score.

    Args:
        boxes: of all samples.
        samples: tokens that they index; each is there, even without boxes.
        class_names: that their labels index.
    """
    results: dict[str, list[Mapping[str, Any]]] = {token: [] for token in samples}
    order = np.lexsort((-boxes.scores, boxes.samples))
    columns = {name: column[order].tolist() for name, column in vars(boxes).items()}
    for place in range(len(boxes)):
        token = samples[columns['samples'][place]]
        attribute = columns['attributes'][place]
        results[token].append(
            {
                'sample_token': token,
                **{name: columns[name][place] for name in _LENGTHS},
                'detection_name': class_names[columns['labels'][place]],
                'detection_score': columns['scores'][place],
                'attribute_name': '' if attribute < 0 else ATTRIBUTES[attribute],
            }
        )
    assert max(map(len, results.values()), default=0) <= MAX_BOXES
    return (json.dumps({'meta': META, 'results': results}) + '\n').encode()
