# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from pointdistiller_core.errors import DatasetError


def write_file(file: Path, content: bytes) -> None:
    """Write a file in one step, so that a killed process leaves none cut short.

    Processes that write the same file at once do not disturb each other; the last one wins.

    Raises:
        DatasetError: the file system refuses (disk full, no permission).
    """
    aside = file.with_name(f'.{file.name}.{os.getpid()}.partial')
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(content)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(f'{file}: cannot be written: {error.strerror or error}') from error
