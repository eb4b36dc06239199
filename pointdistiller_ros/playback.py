# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bag played through a node of the same process and, where asked, recorded with its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pointdistiller_ros.bag_player_node import BagPlayerNode
from pointdistiller_ros.recorder import BagRecorderNode
from pointdistiller_ros.spinning import POLL_PERIOD_S, Session

DISCOVERY_TIMEOUT_S = 10.0
ARRIVAL_TIMEOUT_S = 2.0  # of what is on its way in the middleware


class Playback:
    """The nodes around the one that works.

    Args:
        session: of all nodes.
        player: of the bag.
        record: bag to write clouds and results to; empty writes none.
        output_topics: of the node that works, with one message for each result.
        diagnostics_topic: of that node.
    """

    def __init__(
        self,
        session: Session,
        player: BagPlayerNode,
        record: str,
        output_topics: Sequence[str],
        diagnostics_topic: str,
    ) -> None:
        self._session, self._player = session, player
        self._output_topics, self._diagnostics_topic = list(output_topics), diagnostics_topic
        self._recorder: BagRecorderNode | None = None
        if record:
            topics = [player.topic, *self._output_topics, diagnostics_topic]
            self._recorder = session.add(
                BagRecorderNode, output=record, topics=topics, use_sim_time=True
            )

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
            num_failed: clouds that the node refused: no result of these will come.
            ready: whether playing may begin, once all nodes know one another.
            check: raises what the node cannot go on after.

        Raises:
            PointDistillerError: the bag cannot be read or written on, a result is missing in
                lock-step, or `check` raised it.
        """
        self._session.spin_until(lambda: self._connected() and ready(), DISCOVERY_TIMEOUT_S)
        self._player.start()
        seen = 0
        while not self._session.spin_until(self._player.finished, POLL_PERIOD_S):
            on_cloud(self._player.num_played)
            if num_failed() > seen:  # the log says why
                seen = num_failed()
                self._player.go_on()
            check()
            if self._recorder is not None:
                self._recorder.finished()
        on_cloud(self._player.num_played)

    def settle(self, num_received: Callable[[], int], idle: Callable[[float], bool]) -> None:
        """Let the last clouds arrive at the node that works, and be worked on.

        Args:
            num_received: clouds that have arrived.
            idle: whether all of these are worked on; takes a timeout [s].
        """
        played = self._player.num_played
        self._session.spin_until(lambda: num_received() == played, ARRIVAL_TIMEOUT_S)
        self._session.spin_until(lambda: idle(0.0))

    def finish_recording(self, num_results: int, report: Callable[[], object]) -> None:
        """Let the node tell of the last clouds, and the last messages arrive at the recorder.

        Args:
            num_results: on each of the topics with results.
            report: sends the diagnostics, and says in the log what went wrong.

        Raises:
            PointDistillerError: the recording cannot be written.
        """
        recorder = self._recorder
        if recorder is None:
            report()  # in the log
            return
        expected = Counter({self._player.topic: self._player.num_played})
        expected |= dict.fromkeys(self._output_topics, num_results)
        expected[self._diagnostics_topic] = recorder.num_recorded[self._diagnostics_topic] + 1
        report()
        self._session.spin_until(lambda: recorder.num_recorded >= expected, ARRIVAL_TIMEOUT_S)
        recorder.finished()

    def _connected(self) -> bool:
        if self._recorder is None:
            return self._player.num_subscribers >= 1
        return self._player.num_subscribers >= 2 and not self._recorder.awaited_topics
