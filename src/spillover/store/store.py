"""A run folder: rows appended to shards, a marker when a shard is complete, adapters, and the manifest.

    study.json             the resolved configuration
    plan.json              stage -> unit -> key: which shards belong to the study as it stands now
    manifest.json          where the numbers come from
    rows/STAGE/KEY.jsonl   one record a line; KEY is the hash of everything that made the rows
    rows/STAGE/KEY.done    written last: its existence means that the shard is complete
    rows/STAGE/KEY.open/   rows of a shard that is not complete: a file for each who has written
    rows/STAGE/NAME.parquet  numbers token by token, written whole
    rows/direct/KEY.safetensors  mean activations of the answers in the shard beside it
    directions/NAME.safetensors  a cell's directions by one method, at every layer
    adapters/CELL-KEY/     plain PEFT folders
    judges.json            judges besides the study's own, and their shards
    labels/SHEET.json      which answers were given to people, under which number, with which chance

No row is lost and none is doubled, whoever dies and whoever writes twice: store/shard.py says how. This file, that
one, and store/packs.py, which copies finished shards, are the only ones that know paths.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from spillover.errors import UserError
from spillover.records.base import Cell, Manifest, Record
from spillover.store.shard import Shard, beside, disk_errors, parse, parts, refusal, replace_file, whole_lines

if TYPE_CHECKING:
    import polars

R = TypeVar("R", bound=Record)


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
        with disk_errors(self.path), open(self.lock_path, "a+") as file:
            if not _try_lock(file.fileno()):
                file.seek(0)
                raise UserError(
                    f"Another process ({file.readline().strip() or 'unknown'}) is running in {self.path}. "
                    "Wait for it, stop it, or choose another folder with --out."
                )
            file.truncate(0)
            file.write(f"pid {os.getpid()}\n{secrets.token_hex(8)}\n")
            file.flush()
            os.fsync(file.fileno())
            yield

    @property
    def lock_path(self) -> Path:
        """The file that the driver holds; what it says is different each time."""
        return self.path / "lock"

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
            rows += parse(*self._now(stage, key), kind)
        return rows

    def content(self, stage: str, key: str) -> bytes:
        """The whole lines of a shard; nothing where there is none."""
        return self._now(stage, key)[1]

    def read_lines(self, stage: str, key: str, numbers: Iterable[int], kind: type[R]) -> list[R]:
        """The rows on these lines of a shard, counted from 0."""
        import numpy as np

        path, content = self._now(stage, key)
        ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
        starts = np.concatenate([[0], ends])
        return parse(path, b"".join(content[starts[number] : ends[number]] for number in numbers), kind)

    def first(self, stage: str, keys: Iterable[str], kind: type[R]) -> R | None:
        """The first row of the first of these shards that has one."""
        for key in keys:
            path, content = self._now(stage, key)
            if content:
                return parse(path, content[: content.index(b"\n") + 1], kind)[0]
        return None

    def replace(self, stage: str, key: str, rows: Iterable[Record]) -> None:
        """Put these rows in the place of a shard's, in one step."""
        replace_file(self._shard_path(stage, key), "".join(f"{row.model_dump_json()}\n" for row in rows))

    def count(self, stage: str, key: str) -> int:
        """How many whole rows the shard holds now."""
        return self.content(stage, key).count(b"\n")

    def size(self, stage: str, keys: Iterable[str]) -> int:
        """Bytes of the shards; grows with every row."""
        paths = (self._shard_path(stage, key) for key in keys)
        return sum(path.stat().st_size if path.exists() else len(self._begun(path)[1]) for path in paths)

    def _shard_path(self, stage: str, key: str) -> Path:
        return self.path / "rows" / stage / f"{key}.jsonl"

    def _now(self, stage: str, key: str) -> tuple[Path, bytes]:
        """The file that holds a shard's rows, and its whole lines."""
        path = self._shard_path(stage, key)
        return (path, whole_lines(path.read_bytes())) if path.exists() else self._begun(path)

    def _begun(self, path: Path) -> tuple[Path, bytes]:
        """The longest of the files in which the shard is being written; the finished one when it gets its name."""
        while found := parts(path) or [path] * path.exists():
            with suppress(FileNotFoundError):
                return found[0], whole_lines(found[0].read_bytes())
        return path, b""

    def write_frame(self, stage: str, name: str, frame: polars.DataFrame) -> None:
        """Replace a table of a stage in one step."""
        path = self.path / "rows" / stage / f"{name}.parquet"
        partial = beside(path)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(partial)
            os.replace(partial, path)

    def read_frame(self, stage: str, name: str) -> polars.DataFrame | None:
        """A table that `write_frame` wrote; None where there is none."""
        import polars

        path = self.path / "rows" / stage / f"{name}.parquet"
        return polars.read_parquet(path) if path.exists() else None

    def states_path(self, key: str) -> Path:
        """Where the activations of one unit of the stage direct are."""
        return self.path / "rows" / "direct" / f"{key}.safetensors"

    # ---- single files ----

    def write_bytes(self, path: Path, content: bytes) -> None:
        """Replace a binary file of this run in one step."""
        replace_file(path, content)

    def direction_path(self, name: str) -> Path:
        """Where directions of one cell by one method are, at every layer."""
        return self.path / "directions" / f"{name}.safetensors"

    def adapter_dir(self, cell: Cell, key: str) -> Path:
        """Where a cell's adapter is; readable for people, unique by key."""
        return self.path / "adapters" / f"{cell.domain}-{cell.variant}-{key}"

    def relative(self, path: Path) -> str:
        """A path as it is written into records: relative to the run folder, which may be moved."""
        return path.relative_to(self.path).as_posix()

    def resolve(self, path: str) -> Path:
        """The inverse of `relative`.

        Raises:
            UserError: for a place outside the run folder.
        """
        place = Path(path)
        if place.is_absolute() or ".." in place.parts:
            raise UserError(f"{self.path} names {path!r:.80}, which is not in it. Use a run folder that you trust.")
        return self.path / place

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
        replace_file(path, text)
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
        """The manifest of the last run in this folder.

        Raises:
            UserError: when it is absent, damaged or of a newer version.
        """
        content = self.read_json("manifest.json")
        try:
            return Manifest.model_validate(content)
        except ValidationError as error:
            mend = "Run the study again to write it anew."
            raise refusal(self.path / "manifest.json", "", error, mend) from None

    def publish(self, made: Path, place: Path) -> None:
        """Move a whole folder to its place in one step; where one stands already, that one stays."""
        with disk_errors(place):
            for file in made.iterdir():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                made.rename(place)
            except OSError:
                if not place.is_dir():
                    raise


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _joined(texts: Iterable[str]) -> str:
    return ",\n".join(texts)
