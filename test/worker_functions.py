# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What the processes of a test do; these find it by its name on the path."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import sys
from time import sleep

from pointdistiller_core.errors import PointDistillerError


def square(number: int) -> int:
    return number * number


def end_process(number: int) -> None:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def note_and_sleep(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    sleep(60)


def refuse(number: int) -> None:
    raise PointDistillerError(f'no {number}')


if __name__ == '__main__':
    note_and_sleep(Path(sys.argv[1]))


def blas_threads(_):
    from threadpoolctl import threadpool_info

    return {
        library['num_threads'] for library in threadpool_info() if 'numpy' in library['filepath']
    }
