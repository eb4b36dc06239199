# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Inspect a bag: what it holds, and what a conversion would make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pointdistiller_core.config import ConversionConfig
from pointdistiller_core.errors import DatasetError, PointDistillerError
from pointdistiller_core.geometry.poses import NANOSECONDS
from pointdistiller_core.messages.bags import (
    CLOUD_TYPE,
    BagSummary,
    parse_cloud,
    read_messages,
    summarize_bag,
)
from pointdistiller_core.messages.detections import box_topics
from pointdistiller_core.messages.transforms import TF_TYPES
from pointdistiller_core.pipelines.bag_conversion.choices import Choices, survey
from pointdistiller_core.pipelines.bag_conversion.findings import Findings
from pointdistiller_core.pipelines.bag_conversion.stream import odometry_topics
from pointdistiller_core.pipelines.bag_conversion.truth import EXACT_LABELS, read_truth


@dataclass
class CloudTopic:
    """A topic with clouds.

    Attributes:
        fields: fields of its first cloud, with types.
        frame: frame of its first cloud.
        num_points: number of points of its first cloud, including those without return.
        survey: what a conversion would choose; None if it would fail.
        problem: why it would fail; empty if it would not.
    """

    fields: Sequence[str] = ()
    frame: str = ''
    num_points: int = 0
    survey: Choices | None = None
    problem: str = ''


@dataclass
class TopicTimes:
    """Recording times of all messages of a topic.

    Attributes:
        count: number of messages.
        longest_gap_s: longest time between two of them [s].
    """

    count: int = 0
    longest_gap_s: float = 0.0
    last_ns: int = field(default=0, repr=False)

    def add(self, time_ns: int) -> None:
        """Add a message."""
        if self.count:
            self.longest_gap_s = max(self.longest_gap_s, (time_ns - self.last_ns) / NANOSECONDS)
        self.count += 1
        self.last_ns = time_ns


@dataclass(frozen=True)
class BagInspection:
    """Contents of a bag.

    Attributes:
        summary: what its indexes say.
        clouds: its topics with clouds.
        times: recording times by topic, if all messages were read.
        notes: problems and notes.
    """

    summary: BagSummary
    clouds: Mapping[str, CloudTopic]
    times: Mapping[str, TopicTimes]
    notes: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Time from the first to the last message [s]."""
        return (self.summary.stop_ns - self.summary.start_ns) / NANOSECONDS

    def count_of(self, topic: str) -> int | None:
        """Number of messages of a topic; None if only reading them would tell."""
        if self.times:
            return self.times[topic].count if topic in self.times else 0
        return self.summary.topics[topic].count

    def to_dict(self) -> dict[str, Any]:
        """The inspection for JSON."""
        return {
            'start_ns': self.summary.start_ns,
            'duration_s': self.duration_s,
            'topics': {
                name: {
                    'type': found.message_type,
                    'count': self.count_of(name),
                    'latched': found.latched,
                    'readable': found.readable,
                    **(
                        {'longest_gap_s': self.times[name].longest_gap_s}
                        if name in self.times
                        else {}
                    ),
                }
                for name, found in self.summary.topics.items()
            },
            'clouds': {
                name: {
                    'fields': list(found.fields),
                    'frame': found.frame,
                    'num_points': found.num_points,
                    'choices': found.survey.model_dump(mode='json') if found.survey else None,
                    'problem': found.problem,
                }
                for name, found in self.clouds.items()
            },
            'notes': list(self.notes),
        }


def inspect_bag(
    bag: Path,
    *,
    full: bool = False,
    on_progress: Callable[[float, float], None] | None = None,
) -> BagInspection:
    """Inspect a bag: its indexes, and the first clouds of each topic.

    Args:
        bag: folder or file.
        full: whether to read every message, to find gaps and damage.
        on_progress: takes the seconds read and the seconds in all.

    Raises:
        DatasetError: the bag is missing or broken.
    """
    summary = summarize_bag(bag)
    notes = dict.fromkeys(summary.problems)
    boxes = box_topics(bag, summary)
    clouds = {
        name: _look_at(bag, summary, name, notes)
        for name, found in summary.topics.items()
        if found.message_type == CLOUD_TYPE and found.readable and name not in boxes
    }
    for name in boxes:
        notes[
            f'{name} holds boxes: `label DATASET --detections {bag}:{name}` labels by them, '
            '`labels import DATASET ... --from bag` takes them as they are'
        ] = None
    if read_truth(bag) is not None:
        notes[EXACT_LABELS] = None
    if not any(found.message_type in TF_TYPES for found in summary.topics.values()):
        notes['no TF: several sensors cannot be merged, and height is fitted'] = None
    if not odometry_topics(summary):
        notes['no nav_msgs/Odometry'] = None
    times = _read_all(bag, summary, notes, on_progress) if full else {}
    return BagInspection(summary, clouds, times, tuple(notes))


def _look_at(bag: Path, summary: BagSummary, topic: str, notes: dict[str, None]) -> CloudTopic:
    found = CloudTopic()
    try:
        message = parse_cloud(next(read_messages(bag, {topic}, on_note=notes.setdefault)))
        found.fields = [f'{item.name}:{_type_of(item)}' for item in message.message.fields]
        found.frame = message.frame_id
        found.num_points = message.message.width * message.message.height
        config = ConversionConfig(topics=(topic,))
        findings = Findings(bag, strict=False)
        found.survey = survey(bag, summary, config, read_truth(bag), findings)
        notes |= dict.fromkeys(f'{topic}: {note}' for note in findings.notes)
    except StopIteration:
        found.problem = 'it has no message'
    except PointDistillerError as error:
        found.problem = str(error)
    except Exception as error:  # a parser of arbitrary input
        found.problem = f'its first message cannot be read: {error or type(error).__name__}'
    return found


def _type_of(item: Any) -> str:
    from pointdistiller_core.messages.point_cloud2 import DATATYPES

    dtype = DATATYPES.get(item.datatype)
    return 'unknown' if dtype is None else np.dtype(dtype).name


def _read_all(
    bag: Path,
    summary: BagSummary,
    notes: dict[str, None],
    on_progress: Callable[[float, float], None] | None,
) -> dict[str, TopicTimes]:
    times = {name: TopicTimes() for name, found in summary.topics.items() if found.readable}
    total_s = (summary.stop_ns - summary.start_ns) / NANOSECONDS
    try:
        for message in read_messages(bag, set(times), on_note=notes.setdefault):
            times[message.topic].add(message.time_ns)
            if on_progress is not None:
                on_progress((message.time_ns - summary.start_ns) / NANOSECONDS, total_s)
    except DatasetError as error:  # raised after all readable messages
        notes[str(error)] = None
    return times
