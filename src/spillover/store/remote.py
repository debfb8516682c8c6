"""A folder at a URL, on any file system of fsspec.

Only the first writer can create a file: by S3's If-None-Match, Google's and Azure's preconditions, a hard link on a
disk. Credentials come from the environment or the file system's own settings, never from the URL, which is shown.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import urlsplit

from spillover.errors import MachineError, MissingExtra, SpilloverError, UserError
from spillover.store.files import create_file, replacing

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

P = ParamSpec("P")
T = TypeVar("T")
SMALL, CHUNK = 2**12, 2**23  # bytes of one download in memory
PAUSES_S = (0.5, 2.0)  # before each new attempt


class Remote:
    """The folder at a URL, whether it exists or not."""

    def __init__(self, url: str) -> None:
        from fsspec.implementations.local import LocalFileSystem

        self.url = url
        self._files, self._root = open_url(url)
        self._on_disk = isinstance(self._files, LocalFileSystem)

    def names(self) -> set[str]:
        """Every file, relative to the folder, but hidden ones, which are not finished."""
        self._files.invalidate_cache()
        names = {name.removeprefix(self._root).lstrip("/") for name in _retry(self._files.find, self._root)}
        return {name for name in names if name and not name.rpartition("/")[2].startswith(".")}

    def read(self, name: str) -> bytes:
        """A small file, or its first `SMALL` bytes."""
        return self._piece(name, 0, SMALL)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        self._files.invalidate_cache()
        return int(_retry(self._files.size, self._path(name)) or 0)

    def download(self, name: str, size: int, to: Path) -> None:
        """Copy the first `size` bytes of a file, with `CHUNK` of them in memory at most."""
        with to.open("wb") as out:
            for start in range(0, size, CHUNK):
                out.write(self._piece(name, start, min(start + CHUNK, size)))

    def upload(self, path: Path, name: str) -> None:
        """Copy a file there, in place of what is there."""
        if not self._on_disk:
            _retry(self._files.put_file, str(path), self._path(name))
            return
        with replacing(Path(self._path(name))) as out, path.open("rb") as source:
            shutil.copyfileobj(source, out)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that does not exist yet, in one step; False where it exists."""
        return _retry(self._create, self._path(name), content)

    def _piece(self, name: str, start: int, end: int) -> bytes:
        content = _retry(self._files.cat_file, self._path(name), start=start, end=end)
        assert isinstance(content, bytes)
        return content

    def _create(self, path: str, content: bytes) -> bool:
        if self._on_disk:
            return create_file(Path(path), content)
        try:
            self._files.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except PermissionError:
            raise
        except Exception:  # S3 reports a file that exists by an error of its own
            self._files.invalidate_cache()
            if self._files.exists(path):
                return False
            raise
        return True

    @contextmanager
    def reached(self, safe: Path) -> Generator[None]:
        """Turn the errors of a file system into one sentence with the way out; `safe`: where the rows are."""
        try:
            yield
        except SpilloverError:
            raise
        except Exception as error:  # each file system has its own errors
            raise MachineError(
                f"The mirror {self.url} cannot be used: {_reason(error)}. Finished rows are safe in {safe}. "
                "Run the same command again."
            ) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def open_url(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system, and the folder's name in it.

    Raises:
        UserError: for a URL of no known file system, or one that holds a secret.
        MachineError: when the package for its scheme is not installed.
    """
    from fsspec.core import url_to_fs

    parts = urlsplit(url)
    if parts.password is not None or parts.query:
        raise UserError(
            "--mirror: a URL with a password or a key in it would be visible. Leave them out, and set the credentials "
            "in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    try:
        if "::" in url:
            raise ValueError("one file system inside another")
        files, root = url_to_fs(url)
    except ValueError as error:
        raise UserError(
            f"--mirror {url!r:.200}: {error}. Give a URL such as s3://bucket/runs/x, or a folder."
        ) from None
    except ImportError as error:
        if parts.scheme in ("s3", "s3a"):
            raise MissingExtra.of("s3fs", "s3") from None
        raise MachineError(f"{parts.scheme}:// needs another package: {error}.") from None
    return files, root.rstrip("/")


def _retry(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function, and twice more if it fails for a reason that may pass."""
    for pause in PAUSES_S:
        try:
            return act(*args, **kwargs)
        except (FileNotFoundError, PermissionError):
            raise
        except Exception:  # each file system has its own errors
            time.sleep(pause)
    return act(*args, **kwargs)


def _reason(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
    if isinstance(error, PermissionError) or "credential" in line.lower():
        return f"no access ({line}). Set the credentials of its file system in the environment"
    if isinstance(error, FileNotFoundError):
        return f"no such bucket or folder ({line}). Create it"
    return line
