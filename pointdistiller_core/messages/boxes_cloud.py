# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes as a PointCloud2, a point for each: what `~/boxes` and labelled bags hold.

The fields are those of `LAYOUT`, then `TRACK` of boxes with tracks and `VELOCITIES` of boxes with
velocities, one after another without padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import CloudError
from pointdistiller_core.messages.point_cloud2 import records_from_cloud
from pointdistiller_core.records import Detections, GroundTruth

BOX_COLUMNS = ('x', 'y', 'z', 'dx', 'dy', 'dz', 'yaw')  # [m], [rad]
LAYOUT: Mapping[str, type[np.generic]] = {
    **dict.fromkeys((*BOX_COLUMNS, 'score'), np.float32),
    'label': np.int32,
}
TRUTH_TOPIC = '/ground_truth/boxes'  # of the labelled boxes of a bag
TRACK = 'track'  # int32, -1 for none
VELOCITIES = ('vx', 'vy')  # float32 [m/s], NaN if not known


def to_box_columns(
    boxes: Detections | GroundTruth,
) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """Boxes as `cloud_layout` takes them; the score of a labelled one is 1.

    Returns:
        (N, 3) centers, and the other columns (N,) by name.
    """
    scores = boxes.scores if isinstance(boxes, Detections) else np.ones(len(boxes), np.float32)
    columns = dict(zip(BOX_COLUMNS, boxes.boxes.T, strict=True))
    columns |= {'score': scores, 'label': boxes.labels}
    others = {name: columns[name].astype(LAYOUT[name]) for name in list(LAYOUT)[3:]}
    if isinstance(boxes, Detections) and boxes.tracks is not None:
        others[TRACK] = boxes.tracks.astype(np.int32)
    if boxes.velocities is not None:
        others |= zip(VELOCITIES, boxes.velocities.T.astype(np.float32), strict=True)
    return boxes.boxes[:, :3], others


def detections_from_boxes_cloud(cloud: Any) -> Detections:
    """The boxes of a message, live or out of a bag.

    Args:
        cloud: message with the attributes of sensor_msgs/PointCloud2.

    Raises:
        CloudError: `cloud` has not the fields of `LAYOUT`, or contradicts itself.
    """
    fields = {field.name for field in cloud.fields}
    moving, tracked = fields.issuperset(VELOCITIES), TRACK in fields
    more = (*((TRACK,) if tracked else ()), *(VELOCITIES if moving else ()))
    records = records_from_cloud(cloud, (*LAYOUT, *more))

    def stacked(names: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([records[name] for name in names], axis=1).astype(np.float32)

    return Detections(
        boxes=stacked(BOX_COLUMNS),
        scores=records['score'].astype(np.float32),
        labels=records['label'].astype(np.int64),
        velocities=stacked(VELOCITIES) if moving else None,
        tracks=records[TRACK].astype(np.int64) if tracked else None,
    )


def truth_from_boxes_cloud(cloud: Any) -> GroundTruth:
    """Labelled boxes of a message, live or out of a bag; the scores do not matter.

    Raises:
        CloudError: as `detections_from_boxes_cloud`, or a box is not finite.
    """
    found = detections_from_boxes_cloud(cloud)
    return checked_truth(GroundTruth(found.boxes, found.labels, found.velocities))


def checked_truth(truth: GroundTruth) -> GroundTruth:
    """The same, if all boxes are finite.

    Raises:
        CloudError: one is not.
    """
    if not np.isfinite(truth.boxes).all():
        raise CloudError('a box of the ground truth has a number that is not finite')
    return truth
