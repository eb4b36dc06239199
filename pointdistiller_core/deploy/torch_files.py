# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Files of `torch.save`, read as data: nothing is executed, and they cannot grow in memory."""

from __future__ import annotations

from collections.abc import Mapping
import io
from pathlib import Path
import pickle
from typing import Any
import zipfile

import torch
from torch import Tensor

from pointdistiller_core.errors import CheckpointError

# Before it, `weights_only` executed what a crafted file asked for (CVE-2025-32434).
SAFE_TORCH = '2.6'
# How torch.load fails on damaged files, depending on where the damage is.
UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
MAX_DEPTH = 20  # of lists and mappings in one another


def load_torch_file(content: bytes, *, where: Path) -> Any:
    """What `torch.save` has written, with tensors on the CPU.

    Args:
        content: of the file.
        where: the file, for messages.

    Raises:
        CheckpointError: damaged, compressed, larger in memory than the file, with more than data
            in it, or this torch cannot read it safely.
    """
    if torch.__version__ < SAFE_TORCH:
        raise CheckpointError(
            f'{where}: not opened: torch {torch.__version__} may execute what a crafted file asks '
            f'for (CVE-2025-32434); run: pip install "torch>={SAFE_TORCH}"'
        )
    try:
        _check_archive(content)
        found = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
        _check_size(found, len(content))
    except UNREADABLE as error:  # without torch's reason, which advises to execute the file
        reason = f' ({error})' if isinstance(error, _Refused) else ''
        raise CheckpointError(
            f'{where}: damaged, not a checkpoint, or one with more in it than weights{reason}'
        ) from error
    return found


class _Refused(ValueError):
    """The file holds something that it may not hold."""


def _check_archive(content: bytes) -> None:
    """Check that no entry of an archive is compressed; torch compresses none."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return  # torch's format before 1.6
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _Refused('compressed')
    if sum(entry.file_size for entry in entries) > len(content):
        raise _Refused('entries that overlap')


def _check_size(found: Any, size: int) -> None:
    """Check that no tensor claims more values than the file has bytes, by strides of 0."""
    level = [found]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Tensor):
                if value.layout != torch.strided or value.numel() > size:
                    raise _Refused('a tensor larger than the file')
            elif isinstance(value, Mapping):
                inner += value.values()
            elif isinstance(value, (list, tuple)):
                inner += value
        if len(inner) > size:  # the same list, repeated many times
            raise _Refused('more values than bytes')
        level = inner
    if level:
        raise _Refused('nested too deeply')
