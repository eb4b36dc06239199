# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""What is assumed of a dataset is said once, however often the dataset is opened."""

from __future__ import annotations

import logging
from pathlib import Path

_TOLD: set[tuple[str, Path]] = set()


def warn_once(logger: logging.Logger, root: Path, text: str, *values: object) -> None:
    """Log a warning, the first time that this process has one of this text for a dataset.

    Args:
        logger: of the module.
        root: of the dataset.
        text: with a `%` for each value.
        values: to fill in; the first ones that come are told.
    """
    key = text, root.absolute()
    if key not in _TOLD:
        _TOLD.add(key)
        logger.warning(text, *values)
