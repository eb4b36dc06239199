# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""nuScenes' tables, read a record at a time: large ones never are in memory as a whole."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistiller_core.errors import DatasetError
from pointdistiller_core.formats.nuscenes.json_stream import JsonStream, open_json

if TYPE_CHECKING:
    IntArray = NDArray[np.int64]

TABLES = (
    *('attribute', 'calibrated_sensor', 'category', 'ego_pose', 'instance', 'sample'),
    *('sample_annotation', 'sample_data', 'scene', 'sensor'),
)
"""Tables that are read; nuScenes has three more, of maps, logs and visibilities."""

NOWHERE = 0  # key of an empty link
Record = dict[str, Any]


def key_of(token: str) -> int:
    """A number that stands for a token within this process; `NOWHERE` for an empty one.

    Two of a million tokens have the same with a probability of 1e-8; `Keys` refuses that.
    """
    return hash(token)


def table_file(folder: Path, name: str) -> Path:
    """File of a table."""
    return folder / f'{name}.json'


def check_tables(folder: Path) -> None:
    """Check that all tables are there.

    Raises:
        DatasetError: some are missing.
    """
    if missing := [f'{name}.json' for name in TABLES if not table_file(folder, name).is_file()]:
        raise DatasetError(
            f'{folder}: lacks the tables {", ".join(missing)}; unpack all tables of this version '
            'into this folder'
        )


def read_table(folder: Path, name: str) -> Iterator[Record]:
    """Records of a table, in their order.

    Raises:
        DatasetError: the table is missing or malformed.
    """
    file = table_file(folder, name)
    with open_json(file) as text:
        stream = JsonStream(text, file)
        for number, record in enumerate(stream.items()):
            if not isinstance(record, dict):
                raise DatasetError(f'{file}: record {number} is not an object')
            yield record
        stream.end()


class Columns:
    """Some columns of a table.

    Attributes:
        places: (R,) place of each record in the table.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        links: Sequence[str] = (),
        numbers: Mapping[str, int] | None = None,
        texts: Sequence[str] = (),
        keep: Callable[[Record], bool] | None = None,
    ) -> None:
        """Read them.

        Args:
            folder: of the tables.
            name: of the table.
            links: columns of tokens, which become keys.
            numbers: columns of numbers, and how many each has.
            texts: columns of texts.
            keep: whether a record is wanted; None is all.

        Raises:
            DatasetError: the table is missing or malformed.
        """
        self.folder, self.name = folder, name
        self._links = {column: array('q') for column in links}
        self._numbers = {column: array('d') for column in numbers or {}}
        self._widths = dict(numbers or {})
        self.texts: dict[str, list[str]] = {column: [] for column in texts}
        places = array('q')
        for place, record in enumerate(read_table(folder, name)):
            try:
                if keep is None or keep(record):
                    self._add(record)
                    places.append(place)
            except (KeyError, TypeError, ValueError) as error:
                raise self._malformed(place, record, error) from error
        self.places: IntArray = np.frombuffer(places, np.int64)
        self._check_finite()

    def __len__(self) -> int:
        return len(self.places)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """(R, width) numbers; (R,) of a single one."""
        width = self._widths[column]
        values = np.frombuffer(self._numbers[column], np.float64)
        return values if width == 1 else values.reshape(-1, width)

    def keys(self, column: str) -> IntArray:
        """(R,) keys of the tokens in a column."""
        return np.frombuffer(self._links[column], np.int64)

    def token(self, row: int, column: str = 'token') -> str:
        """The token that a key stands for; reads the table again, for messages."""
        place = int(self.places[row])
        records = read_table(self.folder, self.name)
        return str(next(record for at, record in enumerate(records) if at == place)[column])

    def _add(self, record: Record) -> None:
        for column, keys in self._links.items():
            keys.append(key_of(record[column]))
        for column, values in self._numbers.items():
            if (width := self._widths[column]) == 1:
                values.append(record[column])
                continue
            if len(record[column]) != width:
                raise ValueError(f'{column} has {len(record[column])} numbers, not {width}')
            values.extend(record[column])
        for column, texts in self.texts.items():
            texts.append(record[column])

    def _check_finite(self) -> None:
        for column in self._numbers:
            values = self.numbers(column)
            if not (finite := np.isfinite(values)).all():
                row = int(np.argwhere(~finite)[0][0])
                raise DatasetError(
                    f'{table_file(self.folder, self.name)}: the {column} of {self.token(row)} is '
                    f'{values[row].tolist()}, which is not finite'
                )

    def _malformed(self, place: int, record: Record, error: Exception) -> DatasetError:
        what = f'lacks {error}' if isinstance(error, KeyError) else f'is malformed: {error}'
        token = record.get('token', '')
        return DatasetError(
            f'{table_file(self.folder, self.name)}: record {place} (token {token!r}) {what}'
        )


class Keys:
    """Where the record of a token is in a table.

    Args:
        table: with a column `token`.

    Raises:
        DatasetError: two records have the same token.
    """

    def __init__(self, table: Columns) -> None:
        self._table = table
        keys = table.keys('token')
        self._order = np.argsort(keys, kind='stable')
        self._sorted = keys[self._order]
        same = np.flatnonzero(np.diff(self._sorted) == 0)
        if len(same):
            first, second = self._order[same[0]], self._order[same[0] + 1]
            raise DatasetError(
                f'{table_file(table.folder, table.name)}: the records {first} and {second} have '
                f'the same token {table.token(int(first))}'
            )

    def find(self, table: Columns, column: str, *, optional: bool = False) -> IntArray:
        """Rows (R,) that the tokens in a column of another table point at, -1 for empty ones.

        Args:
            table: with the column.
            column: of tokens.
            optional: whether tokens may be empty.

        Raises:
            DatasetError: a token points nowhere.
        """
        keys = table.keys(column)
        at = np.searchsorted(self._sorted, keys)
        at[at == len(self._sorted)] = 0
        found = self._sorted[at] == keys if len(self._sorted) else np.zeros(len(keys), np.bool_)
        empty = (keys == NOWHERE) & optional
        if lost := np.flatnonzero(~found & ~empty).tolist():
            more = f'; so do {len(lost) - 1} more' if len(lost) > 1 else ''
            raise DatasetError(
                f'{table_file(table.folder, table.name)}: the {column} '
                f'{table.token(lost[0], column)!r} of {table.token(lost[0])} points nowhere: '
                f'{self._table.name}.json has no such record{more}; are all tables whole, and of '
                'one version? Unpack them again'
            )
        rows: IntArray = np.where(found, self._order[at], -1) if len(self._sorted) else at - 1
        return rows
