"""A folder at a URL: any file system of fsspec. Files are written in one step, and on wish only where there is none.

Who is first is told by S3's If-None-Match, by Google's and Azure's preconditions, on a disk by a hard link. Credentials
come from the environment or from the file system's own settings, never from the URL, which is shown.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from spillover.errors import MachineError, MissingExtra, SpilloverError, UserError
from spillover.store.shard import NO_LINKS, beside

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")
MARK, KIB = "mirror.json", 2**10
PAUSES_S = (0.5, 2.0)  # before it is tried again


class Remote:
    """The folder at a URL, whether it is there or not."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = open_url(url)

    def names(self) -> set[str]:
        """Every file, relative to the folder; those on their way to their name are left out."""
        self._files.invalidate_cache()
        found = _again(lambda: self._files.find(self._root))
        names = {name.removeprefix(self._root).lstrip("/") for name in found} - {""}
        return {name for name in names if not name.rpartition("/")[2].startswith(".")}

    def read(self, name: str, most: int) -> bytes:
        """A file, or so many bytes of it."""
        content = _again(lambda: self._files.cat_file(f"{self._root}/{name}", start=0, end=most))
        assert isinstance(content, bytes)
        return content

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there; False where it is."""
        return _again(lambda: put(self._files, f"{self._root}/{name}", content, create=True))

    def put(self, name: str, content: bytes) -> None:
        """Write a file, in the place of what is there."""
        _again(lambda: put(self._files, f"{self._root}/{name}", content, create=False))

    def mark(self, create: bool) -> tuple[bytes, bool]:
        """What tells this mirror from others, and whether the first to write a file stays; `create`: make a mirror.

        Raises:
            UserError: when the place holds other files, or no mirror although none may be made.
        """
        with suppress(FileNotFoundError):
            return self._tried(self.read(MARK, KIB), create)
        if names := self.names():
            raise UserError(f"{self.url} holds other files and no mirror ({min(names)!r:.80}). Give another URL.")
        if not create:
            raise UserError(f"{self.url} holds no mirror. Make one: spillover run STUDY.yaml --mirror {self.url}")
        self.create(MARK, json.dumps({"schema": 1, "id": secrets.token_hex(8)}).encode())
        return self._tried(self.read(MARK, KIB), create)

    def _tried(self, mark: bytes, create: bool) -> tuple[bytes, bool]:
        """Creating it again tells whether the place can be written, and whether the first one stays."""
        return mark, not (create and self.create(MARK, mark))

    @contextmanager
    def reached(self, safe: Path) -> Generator[None]:
        """Tell what keeps it from being reached in one sentence with the way out; `safe`: where the rows are."""
        try:
            yield
        except SpilloverError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise MachineError(
                f"The mirror {self.url} cannot be used: {_reason(error)}. Finished rows are safe in {safe}; "
                "the same command goes on."
            ) from error


def open_url(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system, and the folder's name in it.

    Raises:
        UserError: for a URL that names none, or that holds a secret.
        MachineError: when the package for its scheme is not installed.
    """
    from fsspec import get_filesystem_class
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    parts = urlsplit(url)
    if parts.password is not None or parts.query:
        raise UserError(
            "--mirror: a URL with a password or a key in it would be shown. Give it without, and set the credentials "
            "in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    scheme = parts.scheme if "://" in url else "file"
    try:
        get_filesystem_class("no chain of them" if "::" in url else scheme)
    except ValueError:
        raise UserError(
            f"--mirror {url!r:.200}: no such scheme. Give a URL such as s3://bucket/runs/x, or a folder."
        ) from None
    except ImportError:
        if scheme in ("s3", "s3a"):
            raise MissingExtra.of("s3fs", "s3") from None
        package = known_implementations[scheme]["class"].partition(".")[0]
        raise MachineError(f"{scheme}:// needs the package {package!r}. Run: pip install {package}") from None
    files, root = url_to_fs(url)
    return files, root.rstrip("/")


def put(files: AbstractFileSystem, path: str, content: bytes, create: bool) -> bool:
    """Write a file in one step; with `create` only where there is none, and False where there is."""
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(files, LocalFileSystem):
        return _put_on_disk(Path(path), content, create)
    try:
        files.pipe_file(path, content, mode="create" if create else "overwrite")
    except FileExistsError:
        return False
    except PermissionError:
        raise
    except Exception:  # S3 tells of a file that is there by an error of its own
        files.invalidate_cache()
        if create and files.exists(path):
            return False
        raise
    return True


def _put_on_disk(path: Path, content: bytes, create: bool) -> bool:
    """The same by a hard link or a new name, as files are seen before they are whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path)
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if create:
            os.link(partial, path)
        else:
            os.replace(partial, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS or path.exists():
            raise
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _again(act: Callable[[], T]) -> T:
    """Do it, twice more where it fails for a reason that may pass."""
    for pause in PAUSES_S:
        try:
            return act()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception:  # each file system has errors of its own
            time.sleep(pause)
    return act()


def _reason(error: Exception) -> str:
    """What went wrong at a file system, in words."""
    said = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
    if isinstance(error, PermissionError) or "credential" in said.lower():
        return f"no access ({said}). Set the credentials of its file system in the environment"
    if isinstance(error, FileNotFoundError):
        return f"no such bucket or folder ({said}). Create it"
    return said
