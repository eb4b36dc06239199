# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Assumptions about a dataset are logged once, however often it is opened."""

from __future__ import annotations

import logging
from pathlib import Path

_TOLD: set[tuple[str, Path]] = set()


def warn_once(logger: logging.Logger, root: Path, text: str, *values: object) -> None:
    """Log a warning, but only once per process, dataset and text.

    Args:
        logger: of the module.
        root: of the dataset.
        text: with a `%` for each value.
        values: to fill in; only the first ones are logged.
    """
    key = text, root.absolute()
    if key not in _TOLD:
        _TOLD.add(key)
        logger.warning(text, *values)
