"""A run folder: rows appended to shards, a marker when a shard is complete, adapters, and the manifest.

    study.json             the resolved configuration
    plan.json              stage -> unit -> key: which shards belong to the study as it stands now
    manifest.json          code, packages and machine that the numbers come from
    rows/STAGE/KEY.jsonl   one record a line; KEY is the hash of everything that the rows depend on
    rows/STAGE/KEY.done    written last: its existence means that the shard is complete
    rows/STAGE/KEY.open/   rows of a shard that is not complete, one file for each writer
    rows/STAGE/NAME.parquet  numbers token by token, written whole
    rows/direct/KEY.safetensors  mean activations of the completions in that shard
    directions/NAME.safetensors  a cell's directions by one method, at every layer
    adapters/CELL-KEY/     plain PEFT folders
    judges.json            judges besides the study's own, and their shards
    labels/SHEET.json      which completions people label, under which number, drawn with which probability

store/shard.py keeps rows from being lost or doubled. That file, this one and store/mirror.py, which copies finished
shards, are the only ones that know paths.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from spillover.errors import UserError
from spillover.records.base import Adapter, Cell, Manifest, Record
from spillover.store.files import disk_errors, lock, replace_file, replacing
from spillover.store.shard import Shard, parse, parts, row_error, whole_lines

if TYPE_CHECKING:
    import polars

R = TypeVar("R", bound=Record)
KEY = r"[A-Za-z0-9]{1,80}"
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
ADAPTER_FILES = (".safetensors", ".json", ".md")
_LONGEST = 2**24  # bytes of a row that describes an adapter


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
                raise UserError(f"{self.path} contains other files but no run. Choose an empty folder with --out.")
            (self.path / "rows").mkdir(parents=True, exist_ok=True)

    def exists(self) -> bool:
        """Whether there is a run at this path."""
        return (self.path / "rows").is_dir()

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the folder for one driver, until its process ends.

        Raises:
            UserError: when another process holds it.
        """
        with ExitStack() as held, disk_errors(self.path):
            try:
                file = held.enter_context(lock(self.lock_path, wait_s=0))
            except BlockingIOError:
                holder = self.lock_path.read_text(encoding="utf-8").partition("\n")[0] or "unknown"
                raise UserError(
                    f"Another process ({holder}) is running in {self.path}. "
                    "Wait for it, stop it, or choose another folder with --out."
                ) from None
            file.truncate(0)
            file.write(f"pid {os.getpid()}\n{secrets.token_hex(8)}\n")
            file.flush()
            os.fsync(file.fileno())
            yield

    @property
    def lock_path(self) -> Path:
        """The file that the driver holds; its content is different each time."""
        return self.path / "lock"

    # ---- rows ----

    def shard(self, stage: str, key: str, kind: type[R]) -> Shard[R]:
        """The rows of one unit, opened for appending by `with`."""
        return Shard(self._shard_path(stage, key), kind)

    def is_done(self, stage: str, key: str) -> bool:
        """Whether the shard is complete."""
        return self._shard_path(stage, key).with_suffix(".done").exists()

    def facts(self, stage: str, key: str) -> dict[str, Any]:
        """What the stage wrote about a complete shard: counts of rows and tokens, seconds, reports."""
        marker = self._shard_path(stage, key).with_suffix(".done")
        return json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else {}

    def read(self, stage: str, keys: Iterable[str], kind: type[R]) -> list[R]:
        """All rows of the given shards, in order; a shard that does not exist has none."""
        rows: list[R] = []
        for key in keys:
            rows += parse(*self._rows_file(stage, key), kind)
        return rows

    def content(self, stage: str, key: str) -> bytes:
        """The whole lines of a shard; empty if there is no such shard."""
        return self._rows_file(stage, key)[1]

    def read_lines(self, stage: str, key: str, numbers: Iterable[int], kind: type[R]) -> list[R]:
        """The rows on these lines of a shard, counted from 0."""
        import numpy as np

        path, content = self._rows_file(stage, key)
        ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
        starts = np.concatenate([[0], ends])
        return parse(path, b"".join(content[starts[number] : ends[number]] for number in numbers), kind)

    def first(self, stage: str, keys: Iterable[str], kind: type[R]) -> R | None:
        """The first row of the first of these shards that has one."""
        for key in keys:
            path, content = self._rows_file(stage, key)
            if content:
                return parse(path, content[: content.index(b"\n") + 1], kind)[0]
        return None

    def replace(self, stage: str, key: str, rows: Iterable[Record]) -> None:
        """Replace the rows of a shard in one step."""
        replace_file(self._shard_path(stage, key), "".join(f"{row.model_dump_json()}\n" for row in rows))

    def count(self, stage: str, key: str) -> int:
        """How many whole rows the shard holds now."""
        return self.content(stage, key).count(b"\n")

    def size(self, stage: str, keys: Iterable[str]) -> int:
        """Bytes of the shards; grows with every row."""
        paths = (self._shard_path(stage, key) for key in keys)
        return sum(path.stat().st_size if path.exists() else len(self._unfinished_rows_file(path)[1]) for path in paths)

    def _shard_path(self, stage: str, key: str) -> Path:
        return self.path / "rows" / stage / f"{key}.jsonl"

    def _rows_file(self, stage: str, key: str) -> tuple[Path, bytes]:
        """The file that holds a shard's rows, and its whole lines."""
        path = self._shard_path(stage, key)
        return (path, whole_lines(path.read_bytes())) if path.exists() else self._unfinished_rows_file(path)

    def _unfinished_rows_file(self, path: Path) -> tuple[Path, bytes]:
        """The longest file of a shard that is being written, or its final file if it finishes meanwhile."""
        while candidates := parts(path) or [path] * path.exists():
            with suppress(FileNotFoundError):
                return candidates[0], whole_lines(candidates[0].read_bytes())
        return path, b""

    def write_frame(self, stage: str, name: str, frame: polars.DataFrame) -> None:
        """Replace a table of a stage in one step."""
        path = self.path / "rows" / stage / f"{name}.parquet"
        with disk_errors(path), replacing(path) as file:
            frame.write_parquet(file)

    def read_frame(self, stage: str, name: str) -> polars.DataFrame | None:
        """A table that `write_frame` wrote; None if there is none."""
        import polars

        path = self.path / "rows" / stage / f"{name}.parquet"
        return polars.read_parquet(path) if path.exists() else None

    def states_path(self, key: str) -> Path:
        """The file of activations of one unit of the stage direct."""
        return self.path / "rows" / "direct" / f"{key}.safetensors"

    # ---- single files ----

    def write_bytes(self, path: Path, content: bytes) -> None:
        """Replace a binary file of this run in one step."""
        replace_file(path, content)

    def direction_path(self, name: str) -> Path:
        """The file of one cell's directions by one method, at every layer."""
        return self.path / "directions" / f"{name}.safetensors"

    def adapter_dir(self, cell: Cell, key: str) -> Path:
        """The folder of a cell's adapter; readable for people, unique by key."""
        return self.path / "adapters" / f"{cell.domain}-{cell.variant}-{key}"

    def relative(self, path: Path) -> str:
        """A path as it is written into records: relative to the run folder, which may be moved."""
        return path.relative_to(self.path).as_posix()

    def resolve(self, path: str) -> Path:
        """The inverse of `relative`.

        Raises:
            UserError: for a path outside the run folder.
        """
        inside = Path(path)
        if inside.is_absolute() or ".." in inside.parts:
            raise UserError(
                f"{self.path} refers to {path!r:.80}, which is outside of it. Only use run folders that you trust."
            )
        return self.path / inside

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
                f"{self.path} is not a run folder: {name} is missing. Start one: spillover run STUDY.yaml"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged ({error}). Run the same command again to rewrite it.") from None

    def has(self, name: str) -> bool:
        """Whether a single file exists."""
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
            fix = "Run the study again to rewrite it."
            raise row_error(self.path / "manifest.json", "", error, fix) from None

    # ---- whole shards and folders ----

    def finished(self, stage: str) -> set[str]:
        """Keys of the stage's complete shards."""
        folder = self.path / "rows" / stage
        names = os.listdir(folder) if folder.is_dir() else ()
        return {match[1] for name in names if (match := re.fullmatch(rf"({KEY})\.done", name))}

    def shard_files(self, stage: str, key: str) -> list[Path]:
        """Files of a complete shard: its rows, then its table, activations or adapter, and the marker last."""
        rows = self.path / "rows" / stage
        files = [rows / f"{key}.jsonl", rows / f"scores-{key}.parquet", rows / f"{key}.safetensors"]
        if stage == "train":
            folder = self.path / adapter_path(files[0])
            files += sorted(path for path in folder.glob("[!.]*") if path.suffix in ADAPTER_FILES)
        return [path for path in (*files, rows / f"{key}.done") if path.is_file()]

    def install(self, stage: str, key: str, unpacked: Path) -> None:
        """Move a shard from the folder `unpacked` to its place, the marker last; leftovers of it are deleted first."""
        rows, done = self.path / "rows" / stage, Path("rows") / stage / f"{key}.done"
        with disk_errors(self.path):
            shutil.rmtree(rows / f"{key}.open", ignore_errors=True)
            for left in self.path.glob(f"adapters/*-{key}") if stage == "train" else ():
                shutil.rmtree(left)
            for folder in unpacked.glob("adapters/*"):
                self.publish(folder, self.path / "adapters" / folder.name)
            rows.mkdir(parents=True, exist_ok=True)
            for path in sorted((unpacked / "rows").rglob("*.*"), key=lambda path: path.suffix == done.suffix):
                os.replace(path, self.path / path.relative_to(unpacked))

    def publish(self, folder: Path, final: Path) -> None:
        """Rename a whole folder in one step; a folder that already has the name stays."""
        with disk_errors(final):
            for file in folder.iterdir():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.rename(final)
            except OSError:
                if not final.is_dir():
                    raise


def adapter_path(rows: Path) -> Path:
    """The folder of the adapter that a shard of the stage train describes, relative to the run folder.

    Raises:
        UserError: when it describes none, or names another folder than adapters/CELL-KEY.
    """
    with rows.open("rb") as file:
        adapters = parse(rows, file.readline(_LONGEST), Adapter)
    if not adapters or not re.fullmatch(rf"adapters/{NAME}-{rows.stem}", adapters[0].path):
        raise UserError(f"{rows} does not name an adapter in the run folder. Only use run folders that you trust.")
    return Path(adapters[0].path)


def _joined(texts: Iterable[str]) -> str:
    return ",\n".join(texts)
