# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Messages about repeated problems, often enough to be seen and seldom enough to be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from rclpy.node import Node

PERIOD_S = 10.0


@dataclass
class _Kind:
    """Texts of one kind since the last one was logged: how many, and the latest."""

    said_at: float
    unsaid: int = 0
    last: str = ''


class Repeated:
    """Logs the first text of each kind at once, then at most one per period, with the count.

    May be called from several threads.

    Args:
        say: logs a text.
        period_s: shortest time between two texts of a kind.
        now: a clock that never goes back [s].
    """

    def __init__(
        self,
        say: Callable[[str], object],
        *,
        period_s: float = PERIOD_S,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._say, self._period_s, self._now = say, period_s, now
        self._kinds: dict[str, _Kind] = {}
        self._lock = Lock()

    def __call__(self, kind: str, text: str) -> None:
        """Log a text, now or later."""
        with self._lock:
            known, now = self._kinds.get(kind), self._now()
            if known is None:
                self._kinds[kind] = _Kind(now)
                self._say(text)
                return
            known.unsaid, known.last = known.unsaid + 1, text
        self.flush()

    def flush(self, *, all: bool = False) -> None:
        """Say what has waited for a period, or all that waits; to be called once in a while."""
        with self._lock:
            now = self._now()
            for name, kind in list(self._kinds.items()):
                waited_s = now - kind.said_at
                if waited_s < self._period_s and not all:
                    continue
                if kind.unsaid:
                    times = f'{kind.unsaid} of the kind in {waited_s:.0f} s, the last one:'
                    self._say(f'{times} {kind.last}')
                    self._kinds[name] = _Kind(now)
                else:
                    del self._kinds[name]


class RepeatedLog:
    """The log of a node, for what may go wrong with every cloud.

    Args:
        node: that logs; need not be initialized yet.
    """

    def __init__(self, node: Node) -> None:
        # A line of code each, because rclpy lets a line log at one level only.
        self.error = Repeated(lambda text: node.get_logger().error(text))
        self.warning = Repeated(lambda text: node.get_logger().warning(text))

    def flush(self, *, all: bool = False) -> None:
        """Say what has waited for a period, or all that waits; to be called once in a while."""
        self.error.flush(all=all)
        self.warning.flush(all=all)
