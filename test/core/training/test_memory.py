# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Pages that the system had to clear while a large array was made and freed again and again.
SCRIPT = """
import resource, sys
import numpy as np
from pointdistiller_core.training.memory import keep_freed_memory
if sys.argv[1] == 'kept':
    assert keep_freed_memory()
np.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc alone can keep it')
def test_freed_memory_is_used_again():
    counts = {
        kind: int(subprocess.check_output([sys.executable, '-c', SCRIPT, kind]))
        for kind in ('usual', 'kept')
    }
    assert counts['kept'] < counts['usual'] / 10
