# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""A bag of one file or many, whether its metadata.yaml is right, wrong or missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
import shutil
import sys
from tempfile import TemporaryDirectory

from pointdistiller_core.errors import DamageError, describe
from pointdistiller_core.messages.storage import (
    NANOSECONDS,
    BagFile,
    Channel,
    StoredMessage,
    TimeSpan,
    mcap,
    merge_runs,
    rosbag1,
    sqlite,
)
from pointdistiller_core.messages.storage.metadata import METADATA_FILE, Metadata, read_metadata

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OPENERS: Mapping[bytes, tuple[str, Callable[[Path], BagFile]]] = {
    mcap.MAGIC: ('mcap', mcap.McapFile),
    sqlite.MAGIC: ('sqlite3', sqlite.SqliteFile),
    rosbag1.MAGIC: ('ros1', rosbag1.open_rosbag1),
}
SUFFIXES = ('.mcap', '.db3', '.bag')
ACTIVE_SUFFIX = '.active'  # follows the suffix of a bag whose recording ROS 1 did not finish
ZSTD_SUFFIX, ZSTD_MAGIC = '.zstd', b'\x28\xb5\x2f\xfd'


class BagError(Exception):
    """A path is no bag, and why."""


class Bag:
    """An open bag; its files are opened again when they are read.

    Attributes:
        path: folder or file.
        channels: what is in it.
        latched: topics whose publishers kept messages for late subscribers.
        start_ns: when its first message was recorded [ns]; 0 if there is none.
        stop_ns: when its last message was recorded [ns].
        notes: mistakes of metadata.yaml and indexes, and what is not read.

    Args:
        path: folder of a bag, its metadata.yaml, or one of its files.

    Raises:
        BagError: there is no bag.
        Exception: of a damaged file: any error of its parser.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.parent if path.name == METADATA_FILE else path
        self.notes: list[str] = []
        self._metadata = Metadata()
        self._files: dict[Path, BagFile] = {}
        self._lost: list[str] = []  # files that cannot be opened, and why
        with ExitStack() as stack:
            files = self._find_files() if self.path.is_dir() else [self.path]
            for file in files:
                try:
                    self._files[file] = self._open_file(file, stack)
                except Exception as error:  # the others are read anyway
                    if len(files) == 1:
                        raise
                    self._lost.append(f'{file.name}: {error}')
            self._stack = stack.pop_all()
        if not self._files:
            raise BagError('; '.join(self._lost))
        self.channels = [found for file in self._files.values() for found in file.channels]
        latched = {found.topic for found in self.channels if found.latched}
        self.latched = self._metadata.latched | latched
        times = [file.times_ns for file in self._files.values() if file.times_ns is not None]
        self.start_ns = min((first_ns for first_ns, _ in times), default=0)
        self.stop_ns = max((last_ns for _, last_ns in times), default=0)

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def messages(
        self, wanted: Callable[[Channel], bool], span: TimeSpan
    ) -> Iterator[StoredMessage]:
        """Messages of some channels in a span of time, in the order of recording.

        After all messages of a topic, mistakes of the indexes about it are added to `notes`.

        Raises:
            DamageError: something cannot be read; raised after everything else.
        """
        chosen = {
            path: [found for found in file.channels if wanted(found)]
            for path, file in self._files.items()
        }
        runs = (file.runs(chosen[path], span) for path, file in self._files.items())
        whole = {found.topic for found in self.channels}
        whole -= {found.topic for found in self.channels if not wanted(found)}
        counts, outside = Counter(dict.fromkeys(whole, 0)), Counter[str]()
        first_ns, last_ns = self._metadata.times_ns or (0, sys.maxsize)
        for message in merge_runs(chain.from_iterable(runs)):
            topic = message.channel.topic
            counts[topic] += 1
            outside[topic] += not first_ns <= message.time_ns <= last_ns
            # No ROS message begins like this, so compressed ones are known without metadata.yaml.
            if message.data.startswith(ZSTD_MAGIC) and message.channel.encoding == 'cdr':
                message = message._replace(data=zstd.decompress(message.data))
            yield message
        if span == TimeSpan():
            self.notes += self._differences({topic: counts[topic] for topic in whole}, outside)
        if damages := list(self.damages(span)):
            raise DamageError('; '.join(damages))

    @property
    def counts(self) -> Mapping[str, int] | None:
        """Messages of each topic as the indexes of the files have them; None without all."""
        if any(file.counts is None for file in self._files.values()):
            return None
        total: Counter[str] = Counter()
        for file in self._files.values():
            total.update(file.counts or {})
        return total

    @property
    def custom(self) -> Mapping[str, str]:
        """What the program that made the bag says of it, in metadata.yaml."""
        return self._metadata.custom

    def damages(self, span: TimeSpan) -> Iterator[str]:
        """What cannot be read in a span of time, and why."""
        for path, file in self._files.items():
            last_ns = file.times_ns[1] if file.times_ns is not None else 0
            if file.damage and (span.stop_ns is None or span.stop_ns > last_ns + 1):
                yield f'{path} {file.damage}'
        if self._lost:
            yield (
                f'these files of {self.path} cannot be read, all others were: '
                f'{"; ".join(self._lost)}'
            )

    def _differences(self, counts: Mapping[str, int], outside: Mapping[str, int]) -> Iterator[str]:
        """Mistakes of metadata.yaml and of the files' indexes about some topics."""
        claims = {}
        if self._metadata.files:
            claims[METADATA_FILE] = self._metadata.counts
        if (total := self.counts) is not None:
            claims['the index'] = total
        said, read = self._metadata.total, sum(counts.values())
        if said is not None and said < read:
            yield f'{self.path}: metadata.yaml has {said} messages in all; {read} were read'
        for topic, count in sorted(counts.items()):
            for where, claimed in claims.items():
                if (number := claimed.get(topic, 0)) != count:
                    yield (
                        f'{self.path}: {where} has {number} messages on {topic}, but {count} are '
                        'there and were read'
                    )
            if outside[topic] and self._metadata.times_ns:
                first, last = (time_ns / NANOSECONDS for time_ns in self._metadata.times_ns)
                yield (
                    f'{self.path}: {outside[topic]} of {count} messages on {topic} are outside '
                    f'of {first:.3f} s to {last:.3f} s, where metadata.yaml has the bag; all were '
                    'read'
                )

    def _find_files(self) -> list[Path]:
        """The files that a folder's metadata.yaml names or, if that fails, all of them."""
        present = sorted(filter(_has_suffix, self.path.iterdir()))
        try:
            self._metadata = read_metadata(self.path / METADATA_FILE)
        except FileNotFoundError:
            if len(present) > 1:
                self.notes.append(f'{self.path} has no metadata.yaml: all its files are read')
        except Exception as error:  # of a parser whose input may be anything
            reason = ' '.join(describe(error).split())
            self.notes.append(f'metadata.yaml of {self.path} is not used: {reason}')
        if self._metadata.compression not in ('', 'zstd'):
            raise BagError(f'it is compressed with {self._metadata.compression}, not with zstd')
        named = {name: self._find_named(name) for name in self._metadata.files}
        files = [path for path in named.values() if path is not None]
        if not files:
            if named and present:
                self.notes.append(
                    f'the files that metadata.yaml of {self.path} names are not there; all that '
                    'are there are read'
                )
            return self._choose_files(present)
        if missing := [name for name, path in named.items() if path is None]:
            raise BagError(
                f'metadata.yaml names {missing}, which are missing; put them there, or name one '
                'of the files that are there'
            )
        if others := [path.name for path in _others(files, present)]:
            self.notes.append(
                f'{others} in {self.path} are not read: metadata.yaml does not name them '
                '(ros2 bag reindex does)'
            )
        return files

    def _find_named(self, name: str) -> Path | None:
        # Files may have been compressed or decompressed by hand.
        for candidate in (name, name.removesuffix(ZSTD_SUFFIX), name + ZSTD_SUFFIX):
            if (self.path / candidate).exists():
                return self.path / candidate
        return None

    def _choose_files(self, present: list[Path]) -> list[Path]:
        """All files of a folder, each once, if they are of one kind."""
        if not present:
            raise BagError(f'the folder holds no {", ".join(SUFFIXES)}')
        files = [
            path
            for path in present
            if path.with_name(path.name.removesuffix(ZSTD_SUFFIX)) not in present
            or path.suffix != ZSTD_SUFFIX
        ]
        kinds = set(map(_suffix, files))
        if len(kinds) > 1:
            raise BagError(
                f'the folder holds {[path.name for path in files]} and no metadata.yaml to choose '
                'from them; name one file'
            )
        return files

    def _open_file(self, path: Path, stack: ExitStack) -> BagFile:
        """Open a file, recognized by its content."""
        plain = path
        if _begins_with(path, ZSTD_MAGIC):
            folder = stack.enter_context(TemporaryDirectory(prefix='pointdistiller-'))
            plain = Path(folder) / path.name.removesuffix(ZSTD_SUFFIX)
            with zstd.open(path, 'rb') as packed, plain.open('wb') as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        if not plain.stat().st_size:
            raise BagError(f'{path.name} is empty')
        for magic, (name, opener) in OPENERS.items():
            if _begins_with(plain, magic):
                said = self._metadata.storage
                if said and said != name:
                    self.notes.append(f'{path.name} is {name}, not {said} as metadata.yaml has it')
                file = opener(plain)
                self.notes += file.notes
                return file
        raise BagError(f'{path.name} is none of {", ".join(name for name, _ in OPENERS.values())}')


def is_bag(path: Path) -> bool:
    """Whether a path is a bag, or is named like one, and not the folder of a dataset."""
    if path.is_dir():
        return (path / METADATA_FILE).is_file() or any(map(_has_suffix, path.iterdir()))
    return path.name == METADATA_FILE or path.is_file() or _has_suffix(path)


def _has_suffix(path: Path) -> bool:
    return _suffix(path) in SUFFIXES


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(ZSTD_SUFFIX).removesuffix(ACTIVE_SUFFIX)).suffix


def _others(files: Collection[Path], present: Collection[Path]) -> Iterator[Path]:
    """Files in a bag's folder that do not belong to it, compressed or not."""
    plain = {path.name.removesuffix(ZSTD_SUFFIX) for path in files}
    return (path for path in present if path.name.removesuffix(ZSTD_SUFFIX) not in plain)


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open('rb') as file:
        return file.read(len(magic)) == magic
