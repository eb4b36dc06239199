# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Unpacking archives of golden numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import tarfile


def unpack(
    archive: Path, folder: Path, wanted: Callable[[Path], bool] = lambda _path: True
) -> None:
    """Unpack those files of a `.tar.xz` whose path in it is wanted."""
    # Debian's Python 3.11.2 knows no filters yet
    safely = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
    with tarfile.open(archive) as opened:
        members = [member for member in opened if wanted(Path(member.name))]
        opened.extractall(folder, members, **safely)
