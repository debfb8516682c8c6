"""A copy of a run's finished shards at a URL such as s3://bucket/runs/x, from which other machines continue.

    mirror.json                what identifies this mirror
    rows/STAGE/KEY.DIGEST.zip  the files of a finished shard; DIGEST is the archive's hash
    rows/STAGE/KEY.done        uploaded after the archive: its size and hash, and the hash of its rows and files
    rest.zip                   settings, plan, manifest, judges, labels, directions: the newest of each file wins
    results.json, report.html  the latest results, for people to look at; never read back

Keys are immutable. The first marker of a key stays, and a folder with other bytes under that key is refused. Stages are
compared in order, up to the first difference, so no rows are copied that were made from other rows than the mirror's.
An archive without a marker is an upload that was cut off, and does not count. A download is verified against its marker
before any file takes its name. A mirror may come from a stranger: only files that a run folder has are taken, never
links, and at most `MOST` bytes a shard. Memory holds one chunk of each copy.
"""

from __future__ import annotations

import calendar
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile

from pydantic import Field, ValidationError

from spillover.errors import MachineError, UserError
from spillover.progress import Progress
from spillover.provenance import file_sha256
from spillover.records.base import Part, content_hash, text_hash
from spillover.records.stages import SHARDS
from spillover.store.files import unzip, zip_files
from spillover.store.remote import Remote
from spillover.store.store import ADAPTER_FILES, KEY, NAME, Store, adapter_path

ShardKey = tuple[str, str]  # stage and key
AT_ONCE = 16  # copies: each waits for the network most of its time
MOST = 2**32  # bytes of a shard
MARK, REST, SHOWN = "mirror.json", "rest.zip", ("results.json", "report.html")
SCHEMA = 2  # 1 had no markers
_SHARD = re.compile(rf"rows/({'|'.join(SHARDS)})/({KEY})\.(done|[0-9a-f]{{16}}\.zip)")
_REST = re.compile(
    r"(study|plan|manifest|judges|steering)\.json"
    rf"|labels/{NAME}\.json|directions/{NAME}\.safetensors|rows/rank/{NAME}\.(jsonl|done)|rows/judge/{KEY}\.jsonl"
)
_REST_GLOBS = ("*.json", "labels/*.json", "directions/*", "rows/rank/*", "rows/judge/*.jsonl")
_YEAR_0 = (1980, 1, 1, 0, 0, 0)  # of the zip format


class Marker(Part):
    """Size and SHA-256 of an archive, and the hash of its content without the facts of its making, such as seconds."""

    bytes: int = Field(ge=0, le=MOST)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    content: str


class Conflict(UserError):
    """The folder and the mirror hold different bytes under one key."""


class Mirror:
    """One run folder and its mirror."""

    def __init__(self, store: Store, url: str) -> None:
        self.store, self.url = store, url
        self._remote = Remote(url)
        self._in_sync: set[ShardKey] = set()  # shards known to be the same in both

    def open(self, create: bool) -> str:
        """Find the mirror, or create it; returns a warning, or an empty text.

        Raises:
            UserError: when the URL holds other files, or no mirror and none may be created.
            MachineError: when it cannot be reached.
        """
        with self._remote.reached(self.store.path):
            try:
                mark = self._remote.read(MARK)
            except FileNotFoundError:
                if names := self._remote.names():
                    raise UserError(
                        f"{self.url} contains other files, such as {min(names)!r:.80}. Give another URL."
                    ) from None
                if not create:
                    raise UserError(
                        f"{self.url} has no mirror. Create one: spillover run STUDY.yaml --mirror {self.url}"
                    ) from None
                self._remote.create(MARK, json.dumps({"schema": SCHEMA, "id": secrets.token_hex(8)}).encode())
                mark = self._remote.read(MARK)
            if not mark.startswith(b'{"schema": %d,' % SCHEMA):
                raise UserError(f"{self.url} has a mirror of another version of spillover. Give another URL.")
            # Trying again shows whether the store can be written, and whether the first writer of a file wins there.
            first_wins = not (create and self._remote.create(MARK, mark))
        self._journal = self.store.path / f".mirror-{text_hash(repr(mark), 16)}"
        return "" if first_wins else f"{self.url} does not support conditional writes: use one machine at a time."

    def pull(self, progress: Progress, own: bool = True) -> None:
        """Take every finished shard that the folder lacks; nothing may run in the folder meanwhile.

        Raises:
            Conflict: when both hold a shard, with different bytes.
            UserError: when the mirror holds what no run has, or `own` is False and the folder has shards of its own.
            MachineError: when the mirror cannot be reached, or an archive does not match its marker.
        """
        with self._remote.reached(self.store.path):
            mirrored = self._mirrored_shards()
            if not own and self._finished_shards() - mirrored:
                raise UserError(
                    f"{self.store.path} has rows that did not come from {self.url}. Fetch into another folder with "
                    "--out, or run the study there with --mirror."
                )
            for left in self.store.path.glob(".copying-*"):  # by a process that was killed
                shutil.rmtree(left)
            self._in_sync = self._journal_shards() & mirrored & self._finished_shards()
            self._for_each(self._download_shard, mirrored - self._in_sync, progress)

    def push(self, progress: Progress | None = None) -> None:
        """Copy every finished shard that the mirror lacks; workers may run meanwhile.

        Raises:
            Conflict: when the mirror holds a shard of the folder with different bytes.
            MachineError: when the mirror cannot be reached; what was copied until then stays.
        """
        with self._remote.reached(self.store.path):
            self._for_each(self._upload_shard, self._finished_shards() - self._in_sync, progress)

    def pull_rest(self) -> None:
        """Take the files of rest.zip that are newer than the folder's; a damaged rest.zip is ignored."""
        with (
            self._remote.reached(self.store.path),
            self._scratch() as scratch,
            suppress(FileNotFoundError, BadZipFile, ValueError),
        ):
            self._remote.download(REST, min(self._remote.size(REST), MOST), scratch / REST)
            infos = unzip(scratch / REST, scratch, _REST, MOST, f"{self.url}/{REST}")
            times = [min(calendar.timegm(info.date_time), int(time.time())) for info in infos]
            for info, seconds in zip(infos, times, strict=True):
                path = self.store.path / info.filename
                if not _is_shard(path) and not (path.exists() and path.stat().st_mtime >= seconds):
                    os.utime(scratch / info.filename, (seconds, seconds))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(scratch / info.filename, path)

    def push_rest(self) -> None:
        """Replace rest.zip, results.json and report.html at the mirror."""
        with self._remote.reached(self.store.path), self._scratch() as scratch:
            paths = [path for pattern in _REST_GLOBS for path in sorted(self.store.path.glob(pattern))]
            named = [(self.store.relative(path), path) for path in paths if not _is_shard(path)]
            files = [
                (name, path, time.gmtime(path.stat().st_mtime)[:6]) for name, path in named if _REST.fullmatch(name)
            ]
            zip_files(scratch / REST, files)
            self._remote.upload(scratch / REST, REST)
            for name in SHOWN:
                if self.store.has(name):
                    self._remote.upload(self.store.path / name, name)

    # ---- one shard ----

    def _download_shard(self, shard: ShardKey) -> None:
        marker = self._read_marker(shard)
        if self.store.is_done(*shard):
            self._compare(shard, marker, self._content(shard))
            return
        name = _archive_name(shard, marker)
        with self._scratch() as scratch:
            try:
                self._remote.download(name, marker.bytes, scratch / "zip")
                if _size_and_hash(scratch / "zip") != (marker.bytes, marker.sha256):
                    raise BadZipFile
                unzip(scratch / "zip", scratch / "files", _allowed(*shard), MOST, f"{self.url}/{name}")
            except (FileNotFoundError, BadZipFile):
                raise MachineError(
                    f"{self.url}/{name} is missing or does not match its marker. Delete {_marker_name(shard)} there; "
                    "the next run of a folder that has these rows copies them again."
                ) from None
            _check_complete(*shard, scratch / "files", f"{self.url}/{name}")
            self.store.install(*shard, scratch / "files")

    def _upload_shard(self, shard: ShardKey) -> None:
        content = self._content(shard)
        try:
            marker = self._read_marker(shard)
        except FileNotFoundError:
            with self._scratch() as scratch:
                files = [(self.store.relative(path), path, _YEAR_0) for path in self.store.shard_files(*shard)]
                zip_files(scratch / "zip", files)
                size, sha256 = _size_and_hash(scratch / "zip")
                marker = Marker(bytes=size, sha256=sha256, content=content)
                self._remote.upload(scratch / "zip", _archive_name(shard, marker))
            if self._remote.create(_marker_name(shard), marker.model_dump_json().encode()):
                return
            marker = self._read_marker(shard)
        self._compare(shard, marker, content)

    def _compare(self, shard: ShardKey, marker: Marker, content: str) -> None:
        if marker.content != content:
            raise Conflict(
                f"{self.store.shard_files(*shard)[0]} and {self.url}/{_archive_name(shard, marker)} have the same key "
                "but different bytes. The mirror's copy stays. To continue from it, give a new folder with --out; to "
                "keep this folder's rows, give another --mirror."
            )

    def _content(self, shard: ShardKey) -> str:
        files = self.store.shard_files(*shard)[:-1]  # without the marker
        if shard[0] == "train":
            files = files[1:]  # the row describes the adapter, and says in how many seconds it was trained
        return content_hash({self.store.relative(path): file_sha256(path) for path in files}, 32)

    def _read_marker(self, shard: ShardKey) -> Marker:
        content = self._remote.read(_marker_name(shard))
        try:
            return Marker.model_validate_json(content)
        except ValidationError:
            raise UserError(f"{self.url}/{_marker_name(shard)} is not a marker of a shard. Delete it.") from None

    def _for_each(self, act: Callable[[ShardKey], None], shards: set[ShardKey], progress: Progress | None) -> None:
        """Call `act` for many shards of a stage at once, stage by stage, and journal each; end at the first error."""
        if not shards:
            return
        with ExitStack() as held:
            events = held.enter_context(progress.stage("mirror", len(shards))) if progress else None
            journal = held.enter_context(open(self._journal, "a", buffering=1, encoding="utf-8"))
            pool = ThreadPoolExecutor(AT_ONCE)
            held.callback(lambda: pool.shutdown(cancel_futures=True))
            for stage in SHARDS:
                futures = {pool.submit(act, shard): shard for shard in sorted(shards) if shard[0] == stage}
                for future in as_completed(futures):
                    future.result()
                    self._in_sync.add(futures[future])
                    journal.write("/".join(futures[future]) + "\n")
                    if events:
                        events.advance(units=1)

    def _finished_shards(self) -> set[ShardKey]:
        return {(stage, key) for stage in SHARDS for key in self.store.finished(stage)}

    def _mirrored_shards(self) -> set[ShardKey]:
        """Every shard that has a marker at the mirror."""
        mirrored: set[ShardKey] = set()
        for name in self._remote.names() - {MARK, REST, *SHOWN}:
            if not (match := _SHARD.fullmatch(name)):
                raise UserError(
                    f"{self.url} contains {name!r:.80}, which does not belong in a mirror. Delete it, or give "
                    "another URL."
                )
            if match[3] == "done":
                mirrored.add((match[1], match[2]))
        return mirrored

    def _journal_shards(self) -> set[ShardKey]:
        lines = self._journal.read_text(encoding="utf-8").splitlines() if self._journal.exists() else []
        return {(stage, key) for stage, _, key in (line.partition("/") for line in lines)}

    @contextmanager
    def _scratch(self) -> Generator[Path]:
        with tempfile.TemporaryDirectory(prefix=".copying-", dir=self.store.path) as scratch:
            yield Path(scratch)


def fetch(url: str, out: str | os.PathLike[str], progress: Progress) -> Store:
    """Copy a run from its mirror into a folder; again, what has come to the mirror since.

    Raises:
        UserError: when there is no mirror, or no run in it yet, or the folder has rows of its own.
    """
    store = Store(out)
    mirror = Mirror(store, url)
    mirror.open(create=False)
    store.create()
    with store.lock():
        mirror.pull(progress, own=False)
        mirror.pull_rest()
    if not store.has("plan.json"):
        raise UserError(f"{url} has no finished stage yet. The finished units were copied; fetch the rest later.")
    return store


def _marker_name(shard: ShardKey) -> str:
    return f"rows/{shard[0]}/{shard[1]}.done"


def _archive_name(shard: ShardKey, marker: Marker) -> str:
    return f"rows/{shard[0]}/{shard[1]}.{marker.sha256[:16]}.zip"


def _size_and_hash(archive: Path) -> tuple[int, str]:
    return archive.stat().st_size, file_sha256(archive)


def _is_shard(path: Path) -> bool:
    """Whether these are rows of a finished shard, which its archive holds."""
    return path.parent.name == "judge" and path.with_suffix(".done").exists()


def _allowed(stage: str, key: str) -> re.Pattern[str]:
    """Names that a shard's archive may hold."""
    more = {
        "membership": rf"|rows/membership/scores-{key}\.parquet",
        "direct": rf"|rows/direct/{key}\.safetensors",
        "train": rf"|adapters/{NAME}-{key}/{NAME}({'|'.join(map(re.escape, ADAPTER_FILES))})",
    }
    return re.compile(rf"rows/{stage}/{key}\.(jsonl|done)" + more.get(stage, ""))


def _check_complete(stage: str, key: str, folder: Path, name: str) -> None:
    """Refuse a shard without rows or marker, and adapters other than the one that its row describes."""
    rows = folder / "rows" / stage / f"{key}.jsonl"
    complete = rows.exists() and rows.with_suffix(".done").exists()
    if complete and stage == "train":
        complete = list(folder.glob("adapters/*")) == [folder / adapter_path(rows)]
    if not complete:
        raise UserError(f"{name} does not contain the rows and files of one shard. Delete it.")
