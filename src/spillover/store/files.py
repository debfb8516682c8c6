"""Files that appear whole or not at all, locks that end with their process, and zip archives from outside.

Each writer uses a temporary name of its own, so that two machines on one shared disk never write into one file.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import secrets
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from spillover.errors import MachineError, UserError

NO_LINKS = (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS)  # raised by a file system without hard links
HIGHEST_RATIO = 400  # of unpacked bytes to packed ones: no rows or weights compress so well
POLL_S = 0.1
TEXT = (".json", ".jsonl", ".done", ".md")  # which deflating makes smaller


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turn the errors of a full or unwritable disk into one sentence with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"No space left on the disk of {path}. The finished rows are safe. "
                "Free some space, then run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise MachineError(
                f"{path} cannot be written ({error.strerror}). Choose another folder with --out."
            ) from error
        if error.errno == errno.ESTALE:
            raise MachineError(
                f"{path}: another process has finished these rows meanwhile. Run the same command again."
            ) from error
        raise


def temporary_name(path: Path) -> Path:
    """A hidden name in the folder of `path` that no other writer has, on any machine."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


@contextmanager
def replacing(path: Path) -> Generator[IO[bytes]]:
    """A new file that takes the place of `path` in one step when the block ends, or disappears on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a text as UTF-8, or bytes, in place of what the file holds, in one step.

    Raises:
        MachineError: when the disk is full or cannot be written.
    """
    with disk_errors(path), replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def create_file(path: Path, content: bytes) -> bool:
    """Write a file that does not exist yet, in one step; False, and nothing written, where it exists."""
    temporary = temporary_name(path)
    try:
        with replacing(temporary) as file:
            file.write(content)
        try:
            os.link(temporary, path)
        except OSError as error:
            if path.exists():
                return False
            if error.errno not in NO_LINKS:
                raise
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextmanager
def lock(path: Path, wait_s: float = math.inf) -> Generator[IO[str]]:
    """Hold a lock file for one process; the kernel releases it when the process ends, however it ends.

    Raises:
        BlockingIOError: when another process still holds it after `wait_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + wait_s
    with open(path, "a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if math.isinf(wait_s) else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise
                time.sleep(POLL_S)
        yield file


def zip_files(archive: Path, files: Iterable[tuple[str, Path, tuple[int, ...]]]) -> None:
    """Write a zip archive of files under the given names and times; text is deflated."""
    with zipfile.ZipFile(archive, "w") as opened:
        for name, path, when in files:
            info = zipfile.ZipInfo(name, (when[0], when[1], when[2], when[3], when[4], when[5]))
            info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(TEXT) else zipfile.ZIP_STORED
            info.file_size = path.stat().st_size
            with path.open("rb") as source, opened.open(info, "w") as sink:
                shutil.copyfileobj(source, sink)


def unzip(archive: Path, into: Path, allowed: re.Pattern[str], most: int, called: str) -> list[zipfile.ZipInfo]:
    """Write the files of an archive from outside below `into`; nothing is written before all of it has been checked.

    Raises:
        UserError: for a name that is not allowed, a link or a folder, or more than `most` bytes; `called`: in errors.
        zipfile.BadZipFile: when the archive is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = opened.infolist()
            for info in infos:
                is_file = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
                if not (is_file and allowed.fullmatch(info.filename)):
                    raise UserError(
                        f"{called} contains {info.filename!r:.80}, which does not belong there. Delete the archive."
                    )
            if len({info.filename for info in infos}) < len(infos):
                raise UserError(f"{called} contains a name twice. Delete the archive.")
            if sum(info.file_size for info in infos) > min(most, HIGHEST_RATIO * archive.stat().st_size):
                raise UserError(f"{called} is too large for a run folder. Delete the archive.")
            for info in infos:
                path = into / info.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, path.open("xb") as sink:
                    shutil.copyfileobj(source, sink)  # which reads no more than file_size
        return infos
    except (zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        raise zipfile.BadZipFile(f"{called} is damaged ({error})") from None
