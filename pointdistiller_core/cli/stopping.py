# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""How a command ends when it is asked to: in good order; when asked again, at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import os
import signal
import sys
from types import FrameType

from pointdistiller_core.training.requests import ask_to_stop

STOPPED = 130  # exit code, as of a shell's command after Ctrl-C
STDERR = 2
_NOTE = b'\nstopping after the current step, which will be saved; once more stops at once\n'


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt; the second one ends this process at once.

    A training saves its current step first (`training.requests`).
    Its worker processes end with it, and unfinished files are aside, so nothing has to be waited
    for. If Ctrl-C is ignored, as in a background job of a script, it stays ignored.
    """
    numbers = {signal.SIGTERM}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        numbers.add(signal.SIGINT)
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _stop:  # otherwise it is ending already
            for number, handler in before.items():
                signal.signal(number, handler)


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop_now)
    if not ask_to_stop():
        raise KeyboardInterrupt
    with suppress(OSError):  # closed
        os.write(STDERR, _NOTE)  # `print` may not be called in its own middle


def _stop_now(_number: int, _frame: FrameType | None) -> None:
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b'\x1b[?25h\n')  # a progress bar has hidden the cursor
    os._exit(STOPPED)
