# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""An export tells nobody about itself."""

from __future__ import annotations

import os
import subprocess
import sys

from backend_parameters import installed
import numpy as np
import pytest

CODE = """
import os, sys
from pathlib import Path
import numpy
from openvino_telemetry.utils.sender import TelemetrySender
sent = []
TelemetrySender.send = lambda *arguments: sent.append(arguments)
from pointdistiller_core.deploy.bundle import load_detector_model
from pointdistiller_core.deploy.export.exporters import export_detector
export_detector(load_detector_model(Path(sys.argv[1])), 'openvino-int8', [numpy.load(sys.argv[2])])
sys.exit(f'{len(sent)} reports' if sent else 'CI' in os.environ)
"""


@pytest.mark.skipif(not installed('openvino-int8'), reason='openvino-int8 is not installed')
def test_an_export_reports_nothing(full_bundle, tiny_dataset, tmp_path):
    pytest.importorskip('openvino_telemetry')
    np.save(tmp_path / 'points.npy', tiny_dataset(1)[0].points)
    told = {'CI', 'TF_BUILD', 'JENKINS_URL'}  # where the converters keep silent by themselves
    environment = {name: value for name, value in os.environ.items() if name not in told}
    home = tmp_path / 'home'
    home.mkdir()
    command = [sys.executable, '-c', CODE, str(full_bundle), str(tmp_path / 'points.npy')]
    result = subprocess.run(
        command,
        env=environment | {'HOME': str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert not list(home.glob('intel*'))  # the file of a client's number
