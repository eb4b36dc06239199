# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that no request for a transition can end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from pointdistiller_core.errors import describe

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ManagedNode(LifecycleNode):
    """Made of four steps; a failure of the first two is undone, logged and kept.

    Refuses a transition that does not exist in the current state. rclpy does so itself since
    Kilted. Before, the error leaves the executor and ends the process (ros2/rclpy#1209), and no
    public function can prevent it.

    Attributes:
        state: unconfigured, inactive, active or finalized.
        problem: why the last transition failed; empty if it did not.
    """

    def __init__(self, name: str, **node_options: Any) -> None:
        self.state, self.problem = 'unconfigured', ''
        self._start_error: Exception | None = None
        self._starting = False
        super().__init__(name, **node_options)

    def configure(self) -> None:
        """Get what the node needs; may raise."""
        raise NotImplementedError

    def activate(self) -> None:
        """Begin to work; may raise."""
        raise NotImplementedError

    def deactivate(self) -> None:
        """Stop working, also if `activate` failed or was never called."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Free what `configure` got, also if it failed or was never called."""
        raise NotImplementedError

    def start(self) -> None:
        """Configure and activate, as a manager would.

        Raises:
            Exception: what `configure` or `activate` raised.
        """
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != SUCCESS:
                assert self._start_error is not None
                raise self._start_error
        self._starting = False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """As a manager asks: `configure`."""
        return self._attempt(self.configure, undo=self.clean_up, state='inactive')

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """As a manager asks: `activate`."""
        return self._attempt(self.activate, undo=self.deactivate, state='active')

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """As a manager asks: `deactivate`."""
        self.state = 'inactive'
        self.deactivate()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """As a manager asks: `clean_up`."""
        self.state, self.problem = 'unconfigured', ''
        self.clean_up()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Stop and free everything, whatever the state."""
        self.state, self.problem = 'finalized', ''
        self.deactivate()
        self.clean_up()
        return SUCCESS

    def _attempt(
        self, change: Callable[[], None], *, undo: Callable[[], None], state: str
    ) -> TransitionCallbackReturn:
        try:
            change()
        except Exception as error:  # rclpy would silently ignore it
            undo()
            self.problem = f'transition failed: {describe(error)}'
            if self._starting:  # it is raised by `start`
                self._start_error = error
            else:
                self.get_logger().error(self.problem)
            return FAILURE
        self.state, self.problem = state, ''
        return SUCCESS

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)
        except rclpy_implementation.RCLError as error:
            self.get_logger().error(f'no transition {transition_id} now: {error}')
            return TransitionCallbackReturn.ERROR
