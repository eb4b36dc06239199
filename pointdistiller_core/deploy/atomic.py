# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Saving that a full disk or a killed process cannot spoil: write aside, flush, rename."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import os
from pathlib import Path
import shutil

from pointdistiller_core.errors import CheckpointError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill; it becomes `folder` once all of it is on the disk.

    Raises:
        CheckpointError: `folder` exists already, or the file system refuses (disk full, no
            permission); then `folder` does not exist and nothing beside it has changed.
    """
    if folder.exists():
        raise CheckpointError(f'{folder} exists already; choose another folder or remove it')
    aside = _aside(folder)
    with named_refusals(folder):
        try:
            if aside.exists():  # left by a process that was killed here
                shutil.rmtree(aside)
            aside.mkdir(parents=True)
            yield aside
            for file in aside.iterdir():
                _flush(file)
            _flush(aside)
            aside.rename(folder)
            _flush(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def write_text(file: Path, text: str) -> None:
    """Write or replace a small file in one step.

    Raises:
        CheckpointError: the file system refuses; the file is as it was.
    """
    aside = _aside(file)
    with named_refusals(file):
        try:
            aside.write_text(text, encoding='utf-8')
            _flush(aside)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def replace_files(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """Write files into a folder: yields when all are on the disk, then gives them their names.

    Raises:
        CheckpointError: the file system refuses; before the `yield` every file is as it was.
    """
    asides = {folder / name: _aside(folder / name) for name in files}
    with named_refusals(folder):
        try:
            for aside, content in zip(asides.values(), files.values(), strict=True):
                aside.write_bytes(content)
                _flush(aside)
            yield
            for file, aside in asides.items():
                aside.replace(file)
            _flush(folder)
        finally:
            for aside in asides.values():
                aside.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that at no time a part of it stands under its name."""
    with named_refusals(folder):
        shutil.rmtree(folder.rename(_aside(folder)))


@contextmanager
def named_refusals(path: Path) -> Iterator[None]:
    """Turn what the file system refuses meanwhile into an error that names `path`.

    Raises:
        CheckpointError: an `OSError` came up: disk full, no permission, ...
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f'{path}: cannot be saved: {error.strerror or error}; '
            'what was saved before is untouched; make room or choose another place'
        ) from error


def _aside(path: Path) -> Path:
    return path.with_name(f'.{path.name}.partial')


def _flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
