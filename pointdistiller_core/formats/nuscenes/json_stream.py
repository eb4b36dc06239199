# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Large JSON files a value at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any, TextIO

from pointdistiller_core.errors import DatasetError

CHUNK = 2**20  # [characters] that are read at once
_SPACE = ' \t\r\n'


class JsonStream:
    """Reads one JSON file from its begin to its end.

    Only one value, and a chunk of the file, is in memory at a time.

    Args:
        stream: of the text.
        file: for messages.
    """

    def __init__(self, stream: TextIO, file: Path) -> None:
        self._stream, self._file = stream, file
        self._text, self._place, self._passed = '', 0, 0
        self._decode = json.JSONDecoder().raw_decode

    def items(self) -> Iterator[Any]:
        """Values of the list that comes next.

        Raises:
            DatasetError: there is no list, or it is malformed.
        """
        self._expect('[')
        if self._skip(']'):
            return
        while True:
            yield self.value()
            if self._skip(']'):
                return
            self._expect(',')

    def members(self) -> Iterator[str]:
        """Keys of the object that comes next; take the value of each before the next key.

        Raises:
            DatasetError: there is no object, or it is malformed.
        """
        self._expect('{')
        if self._skip('}'):
            return
        while True:
            if self._peek() != '"':
                raise self._error('expected a key in quotes')
            key: str = self.value()
            self._expect(':')
            yield key
            if self._skip('}'):
                return
            self._expect(',')

    def value(self) -> Any:
        """The value that comes next.

        Raises:
            DatasetError: it is malformed.
        """
        begin = self._peek()
        if begin and begin not in '[{"':
            return self._word()
        size = CHUNK
        while True:
            try:
                value, self._place = self._decode(self._text, self._place)
            except RecursionError as error:
                raise self._error('nested too deeply') from error
            except json.JSONDecodeError as error:
                # What is cut off at the end of a chunk; a longer one costs no more than twice.
                ahead = error.pos - self._place
                if not self._read(size):
                    raise self._error(error.msg, ahead) from error
                size *= 2
            else:
                return value

    def end(self) -> None:
        """Nothing may come any more.

        Raises:
            DatasetError: something does.
        """
        if self._peek():
            raise self._error('expected the end of the file')

    def _word(self) -> Any:
        """A number, or a constant: it ends where another character begins."""
        while True:
            rest = self._text[self._place :]
            length = next((i for i, c in enumerate(rest) if c in ',]}' + _SPACE), len(rest))
            if length < len(rest) or not self._read(CHUNK):
                break
        try:
            value = json.loads(self._text[self._place : self._place + length])
        except json.JSONDecodeError as error:
            raise self._error(error.msg) from error
        self._place += length
        return value

    def _expect(self, character: str) -> None:
        if not self._skip(character):
            raise self._error(f'expected {character}')

    def _skip(self, character: str) -> bool:
        """Whether a character comes next, which is passed then."""
        if self._peek() != character:
            return False
        self._place += 1
        return True

    def _peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            text, place = self._text, self._place
            while place < len(text) and text[place] in _SPACE:
                place += 1
            self._place = place
            if place < len(text):
                return text[place]
            if not self._read(CHUNK):
                return ''

    def _read(self, size: int) -> bool:
        """Append to the text, whose begin is dropped; returns whether there was more."""
        try:
            more = self._stream.read(size)
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f'{self._file}: cannot be read: {error}') from error
        self._passed += self._place
        self._text, self._place = self._text[self._place :] + more, 0
        return bool(more)

    def _error(self, reason: str, ahead: int = 0) -> DatasetError:
        place = self._passed + self._place + ahead
        return DatasetError(f'{self._file}: malformed at character {place}: {reason}')


def open_json(file: Path) -> TextIO:
    """A JSON file, opened.

    Raises:
        DatasetError: there is none, or it cannot be read.
    """
    try:
        return file.open(encoding='utf-8-sig')
    except FileNotFoundError:
        raise DatasetError(f'{file}: no such file') from None
    except OSError as error:
        raise DatasetError(f'{file}: cannot be read: {error.strerror}') from error
