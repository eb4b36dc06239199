# SPDX-FileCopyrightText: 2026 The PointDistiller authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all; first aside, then renamed.

What is written aside is called `.NAME.partial`. A process that is killed may leave it behind; the
next one that writes NAME replaces it. Its lock keeps two processes from the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
import errno
import fcntl
import os
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory

from pointdistiller_core.errors import DatasetError, PointDistillerError, WriteError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # of some network file systems


# --- find ------------------------------------------------------------------------------------


def shipped_files(pattern: str) -> list[Path]:
    """The files that come with the package, sorted.

    They are beside the package in a checkout; in share/ of the prefix when pip or colcon installed
    it.
    """
    for folder in Path(__file__).parents:
        for root in (folder, folder / 'share' / 'pointdistiller_ros'):
            if found := sorted(root.glob(pattern)):
                return found
    return []


# --- write -----------------------------------------------------------------------------------


def write_file(file: Path, content: bytes, *, flush: bool = False) -> None:
    """Write or replace a file in one step.

    Processes that write the same file at once do not disturb each other; the last one wins. What
    is not an ordinary file, such as `/dev/stdout` or a link, is written through.

    Args:
        file: its folder is made if it is missing.
        content: all of it.
        flush: wait until it is on the disk, where not even a power cut takes it.

    Raises:
        WriteError: the file system refuses; the file is as it was.
    """
    with named_refusals(file):
        if file.is_symlink() or (file.exists() and not file.is_file() and not file.is_dir()):
            file.write_bytes(content)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with _file_aside(file, content, flush=flush) as aside:
            aside.replace(file)


def write_text(file: Path, text: str) -> None:
    """Write or replace a small file in one step; it is on the disk afterwards.

    Raises:
        WriteError: the file system refuses; the file is as it was.
    """
    write_file(file, text.encode(), flush=True)


@contextmanager
def replace_files(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """Write files into a folder: yields when all are on the disk, then gives them their names.

    Raises:
        WriteError: the file system refuses; before the `yield` every file is as it was.
    """
    with named_refusals(folder), ExitStack() as stack:
        asides = {
            folder / name: stack.enter_context(_file_aside(folder / name, content, flush=True))
            for name, content in files.items()
        }
        yield
        for file, aside in asides.items():
            aside.replace(file)
        _flush(folder)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder aside; it gets the name `folder` once all of it is on the disk.

    Raises:
        WriteError: `folder` exists already, another process is writing it, or the file system
            refuses (disk full, no permission); then `folder` does not exist and nothing beside it
            has changed.
    """
    if folder.exists():
        raise WriteError(f'{folder} exists already; choose another name or remove it')
    with named_refusals(folder), _folder_aside(folder) as aside:
        yield aside
        for path in aside.rglob('*'):
            _flush(path)
        _flush(aside)
        aside.rename(folder)
        _flush(folder.parent)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same from writing into a folder meanwhile.

    Args:
        folder: made where it is missing. Its file `.lock` stays.

    Raises:
        WriteError: another process is writing it, or the file system refuses.
    """
    with named_refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = _lock(folder / '.lock', os.O_WRONLY | os.O_CREAT, wait=False)
        except BlockingIOError:
            raise WriteError(
                f'{folder}: another process is writing it; wait for its end'
            ) from None
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def appended(file: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that appends whole lines to a text file; each is there or not.

    Args:
        file: exists. A last line without an end, left by a process that was killed, is removed.

    Raises:
        WriteError: the file system refuses a line; those before are intact.
    """
    with named_refusals(file):
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        with named_refusals(file):
            _drop_last_part(descriptor)
        yield lambda line: _append(descriptor, file, line.encode())
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that at no time a part of it stands under its name.

    Raises:
        WriteError: the file system refuses.
    """
    aside = _aside(folder)
    with named_refusals(folder):
        if aside.exists():  # left by a process that was killed here
            shutil.rmtree(aside)
        shutil.rmtree(folder.rename(aside))


def check_writable(path: Path, *, folder: bool = False) -> None:
    """Check before the work that its result can be written.

    Args:
        path: the file or folder to be written.
        folder: whether it is a folder.

    Raises:
        WriteError: there is a folder where a file should be or the other way round, or a
            permission is missing.
    """
    if path.exists() and path.is_dir() != folder:
        wrong, right = ('file', 'folder') if folder else ('folder', 'file')
        raise WriteError(f'{path}: is a {wrong}; a {right} is to be written: choose another name')
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        reason = 'is not writable' if place.is_dir() else 'is not a folder'
        raise WriteError(f'{path}: cannot be written: {place} {reason}; choose another place')


def check_results_folder(folder: Path, names: Iterable[str], *, suffix: str = '.txt') -> None:
    """Make sure that result files of these frames can be written here and stay among themselves.

    Args:
        folder: need not exist.
        names: of the frames; a file is called `<name><suffix>`.
        suffix: of all result files.

    Raises:
        DatasetError: result files of other frames are there, or `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f'{folder}: is a file; results need a folder')
    if others := sorted({path.stem for path in folder.glob(f'*{suffix}')} - set(names)):
        raise DatasetError(
            f'{folder}: holds result files of other frames ({", ".join(others[:3])}, '
            f'{len(others)} in all), which would be evaluated too; choose an empty folder'
        )


def is_partial(path: Path) -> bool:
    """Whether this is what a killed process left of a file or folder."""
    return path.name.startswith('.') and path.name.endswith('.partial')


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is gone afterwards.

    Raises:
        WriteError: there is no room for it, or for what was written into it.
    """
    remedy = 'make room there, or set TMPDIR to another folder'
    try:
        holder = TemporaryDirectory(prefix='pointdistiller_')
    except OSError as error:
        raise WriteError(f'no temporary files: {error.strerror or error}; {remedy}') from error
    with holder as folder:
        try:
            yield Path(folder)
        except (OSError, WriteError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_ROOM:
                raise
            raise WriteError(f'no room for temporary files: {error}; {remedy}') from error


@contextmanager
def named_refusals(path: Path) -> Iterator[None]:
    """Turn refusals of the file system within the block into an error that names `path`.

    Raises:
        WriteError: an `OSError` came up: disk full, no permission, ...
    """
    try:
        yield
    except OSError as error:
        raise WriteError(
            f'{path}: cannot be written: {error.strerror or error}; '
            'what was written before is intact; make room or choose another place'
        ) from error


# --- read ------------------------------------------------------------------------------------


def read_text(file: Path, error: type[PointDistillerError]) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Args:
        file: to read.
        error: what to raise.

    Raises:
        PointDistillerError: of class `error`: no such file, a folder, or another encoding.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise error(f'{file}: no such file') from None
    except OSError as reason:
        raise error(f'{file}: cannot be read: {reason.strerror}') from reason
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as reason:
        line = content.count(b'\n', 0, reason.start) + 1
        raise error(
            f'{file}:{line}: not UTF-8 text: byte 0x{content[reason.start]:02x}; save it as '
            'UTF-8 (iconv -f LATIN1 -t UTF-8)'
        ) from reason


# --- append ----------------------------------------------------------------------------------


def _drop_last_part(descriptor: int) -> None:
    """Cut a file after its last line end, and go there."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    while size:
        begin = max(size - 4096, 0)
        end = os.pread(descriptor, size - begin, begin).rfind(b'\n') + 1
        if end:
            size = begin + end
            break
        size = begin
    os.ftruncate(descriptor, size)
    os.lseek(descriptor, size, os.SEEK_SET)


def _append(descriptor: int, file: Path, content: bytes) -> None:
    with named_refusals(file):
        size = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            done = os.write(descriptor, content)
            if done < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(descriptor, size)
            os.lseek(descriptor, size, os.SEEK_SET)
            raise


# --- aside -----------------------------------------------------------------------------------


def _aside(path: Path) -> Path:
    return path.with_name(f'.{path.name}.partial')


@contextmanager
def _file_aside(file: Path, content: bytes, *, flush: bool) -> Iterator[Path]:
    """A locked file with the content; gone after an exception."""
    aside = _aside(file)
    with open(_lock(aside, os.O_WRONLY | os.O_CREAT), 'wb') as stream:
        try:
            stream.truncate()
            stream.write(content)
            stream.flush()
            if flush:
                os.fsync(stream.fileno())
            yield aside
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextmanager
def _folder_aside(folder: Path) -> Iterator[Path]:
    """A new folder in a locked one; both are gone afterwards."""
    aside = _aside(folder)
    aside.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = _lock(aside, os.O_RDONLY | os.O_DIRECTORY, wait=False)
    except BlockingIOError:
        raise WriteError(f'{folder}: another process is writing it; wait for its end') from None
    try:
        for left in aside.iterdir():  # by a process that was killed here
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        (aside / folder.name).mkdir()
        yield aside / folder.name
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(descriptor)


def _lock(path: Path, flags: int, *, wait: bool = True) -> int:
    """An exclusively locked descriptor of the file or folder of this name."""
    while True:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        try:
            _lock_descriptor(descriptor, wait=wait)
            if _is_still(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process has meanwhile given it its name


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock_descriptor(descriptor: int, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _flush(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
