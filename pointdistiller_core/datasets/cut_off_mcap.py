# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""MCAP files whose end is missing, because the recorder died or the disk was full.

A reader finds everything from the end of an MCAP file. Without it, all records up to the one that
was being written are still there: they are read as if the file ended after them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b'\x89MCAP0\r\n'
RECORD_HEAD_SIZE = 9  # operation code, uint64 length
FOOTER, DATA_END = 0x02, 0x0F
# A footer that knows of no summary makes readers scan the records.
_END = bytes([FOOTER]) + (20).to_bytes(8, 'little') + bytes(20) + MAGIC


def is_cut_off(path: Path) -> bool:
    """Whether a file begins as MCAP does, but does not end so."""
    with path.open('rb') as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
        file.seek(-min(len(MAGIC), file.seek(0, io.SEEK_END)), io.SEEK_END)
        return file.read() != MAGIC or file.tell() < len(MAGIC) + len(_END)


class CutOffMcap(type(Path())):  # type: ignore[misc]
    """Path of a cut-off MCAP file that opens as a whole one."""

    def open(self, *_: Any, **__: Any) -> BinaryIO:
        """The whole records, then an end."""
        file = Path(self).open('rb')  # noqa: SIM115 - closed with what is returned
        return io.BufferedReader(_Repaired(file, _end_of_whole_records(file)))


class _Repaired(io.RawIOBase):
    """The first `size` bytes of a file, then the end of an MCAP file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._position = file, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}
        self._position = bases.get(whence, self._size + len(_END)) + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position < self._size:
            self._file.seek(self._position)
            data = self._file.read(min(len(buffer), self._size - self._position))
        else:
            start = self._position - self._size
            data = _END[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _end_of_whole_records(file: BinaryIO) -> int:
    """Where the last record ends that is there from beginning to end."""
    size, position = file.seek(0, io.SEEK_END), len(MAGIC)
    while True:
        file.seek(position)
        head = file.read(RECORD_HEAD_SIZE)
        end = position + RECORD_HEAD_SIZE + int.from_bytes(head[1:], 'little')
        # Nothing but zeros is what file systems leave of a file after a loss of power.
        if len(head) < RECORD_HEAD_SIZE or end > size or head[0] in (0, FOOTER, DATA_END):
            return position
        position = end
