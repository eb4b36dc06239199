# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled boxes that a comparison hears of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from pointdistiller_core.evaluation.comparison.pairs import relabel_truth
from pointdistiller_core.messages.boxes_cloud import truth_from_boxes_cloud
from pointdistiller_core.records import GroundTruth
from pointdistiller_ros.cloud_input import quality_of
from pointdistiller_ros.comparison_conversions import truth_from_detection_array
from pointdistiller_ros.comparison_parameters import ComparisonParameters
from pointdistiller_ros.conversions import Detection3DArray, stamp_ns
from pointdistiller_ros.messages import subscribe
from pointdistiller_ros.quality import create_subscription

QUEUE_DEPTH = 100


def subscribe_to_truth(
    node: Node,
    settings: ComparisonParameters,
    add: Callable[[int, GroundTruth, str], None],
    *,
    classes: Sequence[str],
    common: Sequence[str],
    on_error: Callable[[Exception], None],
) -> None:
    """Receive the labels on `ground_truth`, where the parameters name a kind of message.

    Args:
        node: that subscribes.
        settings: of the node.
        add: called with stamp [ns], labels and frame.
        classes: names that the labels of boxes index where the parameters give none.
        common: names that those of `add` index.
        on_error: told what is wrong with a message.

    Raises:
        ConfigError: a parameter asks for a quality of service that does not exist.
    """
    given = [name for name in settings.ground_truth_classes if name] or classes

    def receive(message: Any) -> None:
        if isinstance(message, PointCloud2):
            truth = relabel_truth(truth_from_boxes_cloud(message), given, common)
        else:
            truth = truth_from_detection_array(message, common)
        add(stamp_ns(message.header.stamp), truth, message.header.frame_id)

    kinds = {'boxes': PointCloud2, 'detections': Detection3DArray}
    if kind := kinds.get(settings.ground_truth_type):
        quality = quality_of(settings.reliability, QUEUE_DEPTH)
        subscribe(
            node,
            kind,
            'ground_truth',
            receive,
            quality,
            on_error=on_error,
            create=create_subscription,
        )
