# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""The command line: the only place that prints."""

from __future__ import annotations

import logging
import os
import sys

from pointdistiller_core.cli.app import app
from pointdistiller_core.cli.output import print_error
from pointdistiller_core.cli.stopping import stopped_by_signals
from pointdistiller_core.errors import PointDistillerError


def main() -> None:
    """Run the command line; an error that the user can mend ends with exit code 2."""
    # torch's idle threads would spin and take the cores from data loaders and other programs: four
    # times slower on two busy cores. It is read when torch is first imported, so set it before.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    logging.addLevelName(logging.WARNING, 'warning')  # as `print_note` writes it
    logging.basicConfig(level=logging.WARNING, format='%(levelname)s: %(message)s')
    try:
        with stopped_by_signals():
            app()
    except PointDistillerError as error:
        print_error(str(error))
        sys.exit(2)
