# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bag played through a node of the same process and, if asked, recorded with its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from pointdistiller_ros.bag_player_node import BagPlayerNode
from pointdistiller_ros.comparison_node import ComparisonNode
from pointdistiller_ros.detector_node import DetectorNode
from pointdistiller_ros.recorder import BagRecorderNode
from pointdistiller_ros.spinning import POLL_PERIOD_S, Session

Topics: TypeAlias = 'Sequence[str] | str | None'
DISCOVERY_TIMEOUT_S = 10.0
ARRIVAL_TIMEOUT_S = 2.0  # for messages that are on their way
RELIABLE = {'reliability': 'reliable'}  # of a node, so that nothing of a bag is lost on the way


class Playback:
    """The nodes around the working node.

    Args:
        session: of all nodes.
        answers: topic whose messages say that a cloud is finished.
        rate: speed relative to the recording; None waits for each answer.
        topic: of the clouds, or topics of several sensors; none is the only one of the bag.
        parameters: further parameters of the player.

    Attributes:
        player: the player of the bag.
    """

    def __init__(
        self,
        session: Session,
        answers: str,
        *,
        rate: float | None,
        topic: Topics,
        **parameters: Any,
    ) -> None:
        self._session = session
        self._recorder: BagRecorderNode | None = None
        self._answers = answers
        pace = {'acknowledgment': answers} if rate is None else {'rate': rate}
        self.player = session.add(BagPlayerNode, topic=topic or '', **pace, **parameters)
        several = not isinstance(topic, str) and len(topic or ()) > 1
        self._sensors = list(topic or ())[1:] if several else []

    def connect(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Remapping and parameters that let the working node listen to the clouds."""
        if self._sensors:
            return {}, {'points': [self.player.topic, *self._sensors]}
        return {'points': self.player.topic}, {}

    def attach(self, worker: DetectorNode | ComparisonNode, record: str) -> None:
        """Attach the working node.

        Args:
            worker: the node.
            record: bag to write clouds and results to; empty writes none.
        """
        self._worker = worker
        if record:
            topics = [
                self.player.topic,
                *self._sensors,
                *worker.output_topics,
                worker.health.topic,
            ]
            self._recorder = self._session.add(
                BagRecorderNode, output=record, topics=topics, use_sim_time=True
            )
            self.player.wait_for_recorder = self._wait_for_recorder

    def play(
        self,
        on_cloud: Callable[[int], None],
        *,
        num_failed: Callable[[], int],
        ready: Callable[[], bool] = lambda: True,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Play the bag to its end.

        Args:
            on_cloud: told the number of clouds played so far.
            num_failed: returns the number of clouds that the node refused, which have no result.
            ready: says whether playing may begin, once all nodes know one another.
            check: raises an error after which the node cannot go on.

        Raises:
            PointDistillerError: the bag cannot be read or written on, a result is missing in
                lock-step, or `check` raised it.
        """
        self._session.spin_until(lambda: self._connected() and ready(), DISCOVERY_TIMEOUT_S)
        self.player.start()
        seen = 0
        while not self._session.spin_until(self.player.finished, POLL_PERIOD_S):
            on_cloud(self.player.num_played)
            if num_failed() > seen:  # the log says why
                seen = num_failed()
                self.player.go_on()
            check()
            if self._recorder is not None:
                self._recorder.finished()
        on_cloud(self.player.num_played)

    def settle(self, num_received: Callable[[], int], idle: Callable[[float], bool]) -> None:
        """Let the last clouds arrive at the working node and be finished.

        `num_received` counts those that have arrived; `idle(timeout_s)` says whether all of these
        are finished.
        """
        played = self.player.num_played
        self._session.spin_until(lambda: num_received() == played, ARRIVAL_TIMEOUT_S)
        self._session.spin_until(lambda: idle(0.0))

    def finish_recording(self, num_results: int) -> None:
        """Let the node report the last clouds, and the last messages arrive at the recorder.

        Args:
            num_results: on each of the topics with results.

        Raises:
            PointDistillerError: the recording cannot be written.
        """
        recorder, worker = self._recorder, self._worker
        if recorder is None:
            worker.report()  # in the log
            return
        expected = Counter({self.player.topic: self.player.num_played})
        expected |= dict.fromkeys(worker.output_topics, num_results)
        diagnostics = worker.health.topic
        expected[diagnostics] = recorder.num_recorded[diagnostics] + 1
        worker.report()
        self._session.spin_until(lambda: recorder.num_recorded >= expected, ARRIVAL_TIMEOUT_S)
        recorder.finished()

    def _wait_for_recorder(self, num_answers: int) -> None:
        """In lock-step, let the clock stand until an answer is recorded at its time."""
        recorder = self._recorder
        if recorder is not None and not recorder.wait_until_recorded(
            self._answers, num_answers, ARRIVAL_TIMEOUT_S
        ):
            self.player.wait_for_recorder = lambda _: None  # one is lost: do not wait each time

    def _connected(self) -> bool:
        others = self.player.num_extra_subscribers
        if not all(others[topic] for topic in self._sensors):
            return False
        if self._recorder is None:
            return self.player.num_subscribers >= 1
        return self.player.num_subscribers >= 2 and not self._recorder.awaited_topics
