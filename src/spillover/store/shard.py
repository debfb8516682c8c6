"""The rows of one unit of work on disk: none is lost when a process dies, none is doubled when two write.

A process may die at any instant, and one that was given up for dead may still write, on this machine or on another that
shares the disk. So each writer has its own file in KEY.open, which begins with the whole lines that earlier writers
left; a line without its line feed is torn and is dropped, and a record whose id is there is not written again. The
first writer to finish renames its file to KEY.jsonl, in one step. No lock is needed; a shared disk may have none.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pydantic import ValidationError

from spillover.errors import UserError
from spillover.records.base import SCHEMA, Record
from spillover.store.files import NO_LINKS, disk_errors, replace_file

R = TypeVar("R", bound=Record)


class Shard(Generic[R]):
    """The rows of one unit of work. Use as a context manager: entering it reads what was written before."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path = path
        self.kind = kind
        self.rows: list[R] = []
        self._ids: set[str] = set()
        self._open = path.with_suffix(".open")
        self._part = self._open / secrets.token_hex(8)
        self._taken: dict[Path, int] = {}  # other writers' files, and how many bytes of each ours contains
        self._file = -1

    def __enter__(self) -> Self:
        with disk_errors(self.path):
            self._create()
            sources = [self.path] if self.path.exists() else []
            sources += (part for part in parts(self.path) if part != self._part)
        try:
            for source in sources:
                with suppress(FileNotFoundError):  # its writer has just finished
                    self._take(source)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._ids

    @property
    def scratch(self) -> Path:
        """A folder for what this writer makes besides rows; it is removed when the shard is complete."""
        return self._part.with_name(f"{self._part.name}.d")

    @property
    def keep(self) -> Path:
        """A folder that the next writer finds again; it is removed when the shard is complete."""
        return self._open / "keep.d"

    def append(self, *rows: R) -> None:
        """Write rows that are not there yet; when this returns they survive the death of the process."""
        new = {row.id: row for row in rows if row.id not in self._ids}
        lines = "".join(f"{row.model_dump_json()}\n" for row in new.values()).encode()
        with disk_errors(self.path):
            while lines:
                lines = lines[os.write(self._file, lines) :]
        self._ids |= new.keys()
        self.rows += new.values()

    def settle(self) -> None:
        """Give the rows their final name although more may come, for a journal that people read between two runs."""
        with disk_errors(self.path):
            os.fsync(self._file)
            self._publish()
        shutil.rmtree(self._open, ignore_errors=True)

    def abandon(self) -> None:
        """Leave nothing behind, for a writer that found no rows and has written none."""
        shutil.rmtree(self._open, ignore_errors=True)

    def finish(self, **facts: Any) -> None:
        """Mark the shard as complete; its rows are those of the writer that finished first."""
        with disk_errors(self.path):
            os.fsync(self._file)
            self._publish()
        replace_file(self.path.with_suffix(".done"), json.dumps({"rows": len(self._ids), **facts}))
        shutil.rmtree(self._open, ignore_errors=True)

    def _create(self) -> None:
        while self._file < 0:
            self._open.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the writer that finished first has just removed the folder
                self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def _take(self, source: Path) -> None:
        """Copy the whole lines that another writer left."""
        whole = whole_lines(source.read_bytes())
        self.append(*parse(source, whole, self.kind))
        self._taken[source] = len(whole)

    def _publish(self) -> None:
        """Give our file its final name, in one step that only one writer can take."""
        try:
            os.link(self._part, self.path)
        except FileNotFoundError:  # removed by the writer that finished first, or by one that copied all of it
            if not self.path.exists():
                self._write_again()
                self._publish()
        except FileExistsError:
            if self.path.read_bytes().count(b"\n") < len(self._ids):  # rows that were never complete
                os.replace(self._part, self.path)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.replace(self._part, self.path)

    def _write_again(self) -> None:
        """Our rows in a new file."""
        os.close(self._file)
        self._file, rows = -1, self.rows
        self._ids, self.rows = set(), []
        self._create()
        self.append(*rows)
        os.fsync(self._file)

    def _leave(self) -> None:
        """Close our file; of a shard that is not complete, one copy of the rows is enough."""
        os.close(self._file)
        if self._part.exists():
            for path in self._taken.keys() & set(parts(self.path)):
                if path.stat().st_size == self._taken[path]:
                    path.unlink()


def parts(path: Path) -> list[Path]:
    """Files of a shard that is not complete, the longest first."""
    sized: list[tuple[int, Path]] = []
    with suppress(FileNotFoundError):
        for name in os.listdir(path.with_suffix(".open")):
            part = path.with_suffix(".open") / name
            if part.is_file():
                sized.append((part.stat().st_size, part))
    return [part for _, part in sorted(sized, reverse=True)]


def whole_lines(content: bytes) -> bytes:
    """All but a torn last line."""
    return content[: content.rfind(b"\n") + 1]


def parse(path: Path, content: bytes, kind: type[R]) -> list[R]:
    """Records from whole lines; `path` names them in errors."""
    rows: list[R] = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            rows.append(kind.model_validate_json(line))
        except ValidationError as error:
            fix = (
                "Delete this file and its .done file, then run the same command again: only these rows are recomputed. "
                "If another version of spillover wrote the folder, use that one."
            )
            raise row_error(path, f", line {number}", error, fix) from None
    return rows


def row_error(path: Path, position: str, error: ValidationError, fix: str) -> UserError:
    """The error for a record that a newer version wrote, or that is damaged; `fix`: what to do then."""
    problems, here = error.errors(), f"spillover {version('spillover')}"
    for problem in problems:
        if problem["loc"] == ("schema",) and problem["type"] == "less_than_equal":
            return UserError(
                f"{path}{position}, schema {problem['input']} was written by {_writer(path, here)}; the installed "
                f"{here} reads up to schema {SCHEMA}. Upgrade it: pip install --upgrade spillover"
            )
    field = "".join(f"{part}: " for part in problems[0]["loc"])
    return UserError(f"{path}{position}: damaged row ({field}{problems[0]['msg']}). {fix}")


def _writer(path: Path, here: str) -> str:
    """The version that wrote the run folder last, if its manifest names a different one."""
    for folder in path.parents[:4]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            if (writer := f"spillover {json.loads((folder / 'manifest.json').read_bytes())['spillover']}") != here:
                return writer
    return "a newer version of spillover"
