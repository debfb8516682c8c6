"""A run folder: rows appended to shards, a marker when a shard is complete, adapters, and the manifest.

    study.json             the resolved configuration
    plan.json              stage -> unit -> key: which shards belong to the study as it stands now
    manifest.json          where the numbers come from
    rows/STAGE/KEY.jsonl   one record a line; KEY is the hash of everything that made the rows
    rows/STAGE/KEY.done    written last: its existence means that the shard is complete
    rows/STAGE/NAME.parquet  numbers token by token, written whole
    adapters/CELL-KEY/     plain PEFT folders
    judges.json            judges besides the study's own, and their shards
    labels/SHEET.json      which answers were given to people, under which number, with which chance

A process may die at any instant. A line without its line feed is torn and is dropped when the shard is next opened; a
record whose id is already there is not written again. So no row is lost and none is doubled, whoever writes twice.
This is the only file that knows paths.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pydantic import ValidationError

from spillover.errors import MachineError, UserError
from spillover.records import Cell, Manifest, Record

if TYPE_CHECKING:
    import polars

R = TypeVar("R", bound=Record)
LOCK_PATIENCE_S = 10.0  # a worker of a dead driver notices and leaves within a second


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turn a full or read-only disk into one sentence with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"No space left on the disk of {path}. The finished rows are safe. "
                "Free some space, then run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise MachineError(
                f"{path} cannot be written ({error.strerror}). Choose another folder with --out."
            ) from error
        raise


class Store:
    """One run folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def create(self) -> None:
        """Make the folder, or accept the one of an earlier run.

        Raises:
            UserError: when the folder holds something that is not a run.
        """
        with disk_errors(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f"{self.path} is a file. Choose a folder with --out.")
            if self.path.is_dir() and any(self.path.iterdir()) and not self.exists():
                raise UserError(f"{self.path} holds other files and no run. Choose an empty folder with --out.")
            (self.path / "rows").mkdir(parents=True, exist_ok=True)

    def exists(self) -> bool:
        """Whether there is a run at this path."""
        return (self.path / "rows").is_dir()

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the folder for one driver; the lock goes with the process, however it ends.

        Raises:
            UserError: when another process holds it.
        """
        with disk_errors(self.path), open(self.path / "lock", "a+") as file:
            if not _try_lock(file.fileno()):
                file.seek(0)
                raise UserError(
                    f"Another process ({file.read().strip() or 'unknown'}) is running in {self.path}. "
                    "Wait for it, stop it, or choose another folder with --out."
                )
            file.truncate(0)
            file.write(f"pid {os.getpid()}")
            file.flush()
            yield

    # ---- rows ----

    def shard(self, stage: str, key: str, kind: type[R]) -> Shard[R]:
        """The rows of one unit, opened for appending by `with`."""
        return Shard(self._shard_path(stage, key), kind)

    def is_done(self, stage: str, key: str) -> bool:
        """Whether the shard is complete."""
        return self._shard_path(stage, key).with_suffix(".done").exists()

    def facts(self, stage: str, key: str) -> dict[str, Any]:
        """What the stage wrote about a complete shard: rows, tokens, seconds, reports."""
        marker = self._shard_path(stage, key).with_suffix(".done")
        return json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}

    def read(self, stage: str, keys: Iterable[str], kind: type[R]) -> list[R]:
        """All rows of the given shards, in order; a shard that does not exist has none."""
        rows: list[R] = []
        for key in keys:
            rows += _parse(self._shard_path(stage, key), self.content(stage, key), kind)
        return rows

    def content(self, stage: str, key: str) -> bytes:
        """The whole lines of a shard; nothing where there is none."""
        path = self._shard_path(stage, key)
        return _whole_lines(path.read_bytes()) if path.exists() else b""

    def read_lines(self, stage: str, key: str, numbers: Iterable[int], kind: type[R]) -> list[R]:
        """The rows on these lines of a shard, counted from 0."""
        lines = self.content(stage, key).split(b"\n")
        return _parse(self._shard_path(stage, key), b"".join(lines[number] + b"\n" for number in numbers), kind)

    def first(self, stage: str, keys: Iterable[str], kind: type[R]) -> R | None:
        """The first row of the first of these shards that has one."""
        for key in keys:
            path = self._shard_path(stage, key)
            if path.exists():
                with open(path, "rb") as file:
                    line = file.readline()
                if line.endswith(b"\n"):
                    return _parse(path, line, kind)[0]
        return None

    def replace(self, stage: str, key: str, rows: Iterable[Record]) -> None:
        """Put these rows in the place of a shard's, in one step."""
        _replace(self._shard_path(stage, key), "".join(f"{row.model_dump_json()}\n" for row in rows))

    def count(self, stage: str, key: str) -> int:
        """How many whole rows the shard holds now."""
        path = self._shard_path(stage, key)
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def size(self, stage: str, keys: Iterable[str]) -> int:
        """Bytes of the shards; grows with every row."""
        paths = (self._shard_path(stage, key) for key in keys)
        return sum(path.stat().st_size for path in paths if path.exists())

    def _shard_path(self, stage: str, key: str) -> Path:
        return self.path / "rows" / stage / f"{key}.jsonl"

    def write_frame(self, stage: str, name: str, frame: polars.DataFrame) -> None:
        """Replace a table of a stage in one step."""
        path = self.path / "rows" / stage / f"{name}.parquet"
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(partial)
            os.replace(partial, path)

    def read_frame(self, stage: str, name: str) -> polars.DataFrame | None:
        """A table that `write_frame` wrote; None where there is none."""
        import polars

        path = self.path / "rows" / stage / f"{name}.parquet"
        return polars.read_parquet(path) if path.exists() else None

    # ---- single files ----

    def adapter_dir(self, cell: Cell, key: str) -> Path:
        """Where a cell's adapter is; readable for people, unique by key."""
        return self.path / "adapters" / f"{cell.domain}-{cell.variant}-{key}"

    def relative(self, path: Path) -> str:
        """A path as it is written into records: relative to the run folder, which may be moved."""
        return path.relative_to(self.path).as_posix()

    def resolve(self, path: str) -> Path:
        """The inverse of `relative`."""
        return self.path / path

    def write_json(self, name: str, value: Any) -> Path:
        """Replace a file in one step, so that a reader sees the old or the new one."""
        return self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_plan(self, units: Mapping[str, Iterable[str]]) -> None:
        """Replace plan.json, one unit's JSON a line: a large study has hundreds of thousands."""
        stages = (f"{json.dumps(stage)}: [\n{_joined(rows)}\n]" for stage, rows in units.items())
        self.write_text("plan.json", f"{{\n{_joined(stages)}\n}}\n")

    def write_text(self, name: str, text: str) -> Path:
        """Replace a text file in one step."""
        path = self.path / name
        _replace(path, text)
        return path

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of this run.

        Raises:
            UserError: when it is absent or damaged.
        """
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{self.path} is not a run folder: it has no {name}. Start one: spillover run STUDY.yaml"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged ({error}). Run the same command again to write it anew.") from None

    def has(self, name: str) -> bool:
        """Whether a single file is there."""
        return (self.path / name).exists()

    def files(self, folder: str) -> list[str]:
        """Names of the single files in one folder of this run, sorted."""
        return sorted(f"{folder}/{path.name}" for path in (self.path / folder).glob("*.json"))

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        self.write_json("manifest.json", manifest.model_dump(mode="json"))

    def read_manifest(self) -> Manifest:
        """The manifest of the last run in this folder."""
        return Manifest.model_validate(self.read_json("manifest.json"))

    def discard(self, path: Path) -> None:
        """Remove a half-made folder of this run."""
        shutil.rmtree(path, ignore_errors=True)


class Shard(Generic[R]):
    """The rows of one unit of work. Use as a context: it is opened, mended and locked on entry."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path = path
        self.kind = kind
        self.rows: list[R] = []
        self._ids: set[str] = set()
        self._file = -1

    def __enter__(self) -> Self:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._wait_for_lock()
            content = self.path.read_bytes()
            whole = _whole_lines(content)
            os.ftruncate(self._file, len(whole))
            self.rows = _parse(self.path, whole, self.kind)
        except BaseException:
            os.close(self._file)
            raise
        self._ids = {row.id for row in self.rows}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._ids

    def append(self, *rows: R) -> None:
        """Write rows that are not there yet; when this returns they survive the death of the process."""
        new = {row.id: row for row in rows if row.id not in self._ids}
        lines = "".join(f"{row.model_dump_json()}\n" for row in new.values()).encode()
        with disk_errors(self.path):
            while lines:
                lines = lines[os.write(self._file, lines) :]
        self._ids |= new.keys()
        self.rows += new.values()

    def finish(self, **facts: Any) -> None:
        """Mark the shard as complete."""
        with disk_errors(self.path):
            os.fsync(self._file)
        _replace(self.path.with_suffix(".done"), json.dumps({"rows": len(self._ids), **facts}))

    def _wait_for_lock(self) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while not _try_lock(self._file):
            if time.monotonic() > deadline:
                raise UserError(f"Another process is writing {self.path}. Wait for it or stop it, then run again.")
            time.sleep(0.1)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _joined(texts: Iterable[str]) -> str:
    return ",\n".join(texts)


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _parse(path: Path, content: bytes, kind: type[R]) -> list[R]:
    rows: list[R] = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            rows.append(kind.model_validate_json(line))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UserError(
                f"{path}, line {number}: damaged row ({reason}). Delete this file and the .done file beside it, "
                "then run the same command again: only these rows are made anew."
            ) from None
    return rows


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
