# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that no request for a transition ends."""

from __future__ import annotations

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn


class ManagedNode(LifecycleNode):
    """Refuses a transition that does not exist in the present state.

    rclpy does so itself since Kilted. Before, the error leaves the executor and ends the process
    (ros2/rclpy#1209), and nothing that is public comes between.
    """

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)
        except rclpy_implementation.RCLError as error:
            self.get_logger().error(f'no transition {transition_id} now: {error}')
            return TransitionCallbackReturn.ERROR
