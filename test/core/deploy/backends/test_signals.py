# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A detector that another thread drops leaves the signals of the first one alone."""

from __future__ import annotations

import subprocess
import sys

from backend_parameters import backends
import pytest

CODE = """
import signal, sys, threading
from pathlib import Path
import numpy
from pointdistiller_core.detector import Detector
handled = []
signal.signal(signal.SIGUSR1, lambda number, _: handled.append(number))
held = [Detector.load(Path(sys.argv[1]), backend=sys.argv[2])]
held[0](numpy.zeros((9, 4), numpy.float32))
dropping = threading.Thread(target=held.clear)
dropping.start()
dropping.join()
signal.raise_signal(signal.SIGUSR1)
sys.exit(handled != [signal.SIGUSR1])
"""


@pytest.mark.parametrize('backend', backends())
def test_dropped_by_another_thread(full_bundle, backend):
    command = [sys.executable, '-c', CODE, str(full_bundle), backend]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
