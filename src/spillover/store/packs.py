"""What travels between a run folder and its mirror: each finished shard as one archive, all that changes as another.

    rows/STAGE/KEY.zip   KEY.jsonl, what its stage wrote beside it (adapter, table, activations), and KEY.done
    rest.zip             settings, plan, manifest, judges, labels, directions, rows that are worked out from others

An archive is there whole or not at all, so no shard is ever put together from two machines' files. It may come from
anyone: only names that a run folder has in that place are taken, only safetensors, tables, JSON and text, and no more
bytes than `MOST`. Of the rest the newest file stays, by the time of its last change.
"""

from __future__ import annotations

import calendar
import io
import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from spillover.errors import UserError
from spillover.records.base import Adapter
from spillover.records.stages import SHARDS
from spillover.store.shard import beside, parse, replace_file
from spillover.store.store import Store

MOST = 2**32  # bytes of an archive's files together
SWOLLEN = 400  # times larger than the archive: no rows or weights are packed so well
ADAPTER = (".safetensors", ".json", ".md")  # what a folder of one may hold
_KEY = r"[A-Za-z0-9][A-Za-z0-9-]{0,79}"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
_PLACE = re.compile(rf"rows/({'|'.join(SHARDS)})/({_KEY})\.zip")
_REST = re.compile(
    r"(study|plan|manifest|judges|steering)\.json"
    rf"|labels/{_NAME}\.json|directions/{_NAME}\.safetensors|rows/rank/{_NAME}\.(jsonl|done)|rows/judge/{_KEY}\.jsonl"
)
_YEAR_0 = (1980, 1, 1, 0, 0, 0)  # of the format; the same shard is the same archive whenever it is packed
Files = dict[str, bytes]


class Damaged(Exception):
    """An archive that is not whole: whoever wrote it died, on a disk where a file can be seen before it is whole."""


def place(stage: str, key: str) -> str:
    """Where a shard's archive is, relative to the mirror."""
    return f"rows/{stage}/{key}.zip"


def placed(name: str) -> tuple[str, str] | None:
    """The stage and key of an archive of that name; None for any other name."""
    found = _PLACE.fullmatch(name)
    return (found[1], found[2]) if found else None


def finished(store: Store, stage: str) -> set[str]:
    """Keys of the stage's complete shards."""
    return {key for key, ending in _shards(store, stage) if ending == "done"}


def begun(store: Store, stage: str) -> set[str]:
    """Keys of all of the stage's shards."""
    return {key for key, _ in _shards(store, stage)}


def pack(store: Store, stage: str, key: str) -> bytes:
    """A complete shard."""
    return _zipped((name, content, _YEAR_0) for name, content in _files(store, stage, key).items())


def unpack(stage: str, key: str, content: bytes) -> Files:
    """The inverse of `pack`.

    Raises:
        Damaged: when it is not whole.
        UserError: when it holds what no such shard has.
    """
    rows, done = f"rows/{stage}/{key}.jsonl", f"rows/{stage}/{key}.done"
    beside_it = {
        "membership": rf"rows/membership/scores-{key}\.parquet",
        "direct": rf"rows/direct/{key}\.safetensors",
        "train": rf"adapters/{_NAME}-{key}/{_NAME}({'|'.join(map(re.escape, ADAPTER))})",
    }.get(stage, "(?!)")
    allowed = re.compile(rf"{re.escape(rows)}|{re.escape(done)}|{beside_it}")
    found = {name: data for name, data, _ in _unzipped(place(stage, key), content, allowed)}
    if not {rows, done} <= found.keys() or (stage == "train" and len(found) == 2):
        raise Damaged(f"{place(stage, key)} lacks rows, their marker or their adapter")
    if stage == "train" and any(Path(name).parent != _adapter(found[rows]) for name in found.keys() - {rows, done}):
        raise UserError(f"{place(stage, key)}: its row names another adapter than it holds. Take it away.")
    return found


def differs(store: Store, stage: str, key: str, files: Files) -> bool:
    """Whether the folder's own complete shard has other rows or files; who made it, and in what time, may differ."""
    mine = _files(store, stage, key)
    return any(mine.get(name) != files.get(name) for name in {*mine, *files} if not name.endswith(".done"))


def take(store: Store, stage: str, key: str, files: Files) -> None:
    """Put a shard into the folder, in the place of its own, the marker last."""
    drop(store, stage, key)
    adapter = {name: data for name, data in files.items() if name.startswith("adapters/")}
    done = f"rows/{stage}/{key}.done"
    for name in files.keys() - adapter.keys() - {done}:
        replace_file(store.path / name, files[name])
    if adapter:
        folder = store.path / Path(next(iter(adapter))).parent
        made = beside(folder)
        for name, data in adapter.items():
            replace_file(made / Path(name).name, data)
        store.publish(made, folder)
    replace_file(store.path / done, files[done])


def drop(store: Store, stage: str, key: str) -> None:
    """Take a shard out of the folder, complete or not."""
    rows = store.path / "rows" / stage
    for name in (f"{key}.done", f"{key}.jsonl", f"{key}.safetensors", f"scores-{key}.parquet"):
        (rows / name).unlink(missing_ok=True)
    shutil.rmtree(rows / f"{key}.open", ignore_errors=True)
    if stage == "train":
        for folder in store.path.glob(f"adapters/*-{key}"):
            shutil.rmtree(folder)
    if stage == "membership":
        for table in rows.glob("tokens-*.parquet"):  # perhaps read with another adapter; made again where it is missed
            table.unlink(missing_ok=True)


def pack_rest(store: Store) -> bytes:
    """Everything that changes while a run goes on."""
    return _zipped(
        (name, path.read_bytes(), time.gmtime(path.stat().st_mtime)[:6])
        for name, path in _found(store)
        if _REST.fullmatch(name) and not _is_complete(store, name)
    )


def take_rest(store: Store, content: bytes) -> None:
    """Take those files that the folder has not, or has in an older state."""
    for name, data, when in _unzipped("rest.zip", content, _REST):
        path = store.path / name
        seconds = min(_seconds(when), int(time.time()))
        if _is_complete(store, name) or (path.exists() and path.stat().st_mtime >= seconds):
            continue
        replace_file(path, data)
        os.utime(path, (seconds, seconds))


def _seconds(when: tuple[int, ...]) -> int:
    try:
        return calendar.timegm(when)
    except ValueError as error:  # a thirteenth month
        raise Damaged(f"a time that cannot be ({error})") from None


def _is_complete(store: Store, name: str) -> bool:
    """Whether these are rows of a finished shard, which travel with it."""
    return name.startswith("rows/judge/") and (store.path / name).with_suffix(".done").exists()


def _shards(store: Store, stage: str) -> Iterator[tuple[str, str]]:
    folder = store.path / "rows" / stage
    for name in os.listdir(folder) if folder.is_dir() else ():
        key, _, ending = name.rpartition(".")
        if ending in ("done", "jsonl", "open") and re.fullmatch(_KEY, key):
            yield key, ending


def _found(store: Store) -> Iterator[tuple[str, Path]]:
    for pattern in ("*.json", "labels/*.json", "directions/*", "rows/rank/*", "rows/judge/*.jsonl"):
        for path in sorted(store.path.glob(pattern)):
            yield store.relative(path), path


def _files(store: Store, stage: str, key: str) -> Files:
    """What belongs to a complete shard, its marker last."""
    rows = store.path / "rows" / stage
    paths = [rows / f"{key}.jsonl", rows / f"scores-{key}.parquet", rows / f"{key}.safetensors"]
    if stage == "train" and paths[0].exists():
        folder = store.path / _adapter(paths[0].read_bytes())
        paths += sorted(path for path in folder.glob("[!.]*") if path.suffix in ADAPTER)
    return {store.relative(path): path.read_bytes() for path in (*paths, rows / f"{key}.done") if path.is_file()}


def _adapter(rows: bytes) -> Path:
    """Where the adapter is of which a shard of the stage train tells, relative to the folder."""
    found = parse(Path("adapter"), rows, Adapter)
    if len(found) != 1 or not re.fullmatch(rf"adapters/{_NAME}", found[0].path):
        raise UserError("A shard of the stage train names no adapter of a run folder. Use a run that you trust.")
    return Path(found[0].path)


def _zipped(files: Iterable[tuple[str, bytes, tuple[int, ...]]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content, when in files:
            info = zipfile.ZipInfo(name, (when[0], when[1], when[2], when[3], when[4], when[5]))
            packed = name.endswith((".safetensors", ".parquet"))  # which deflating makes no smaller
            info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(info, content, compresslevel=1)
    return out.getvalue()


def _unzipped(where: str, content: bytes, allowed: re.Pattern[str]) -> list[tuple[str, bytes, tuple[int, ...]]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            for info in infos:
                if not allowed.fullmatch(info.filename):
                    raise UserError(f"{where} holds {info.filename!r:.80}, which does not belong there. Take it away.")
            if sum(info.file_size for info in infos) > min(MOST, SWOLLEN * len(content)):
                raise UserError(f"{where} holds more than a run's files ever do. Take it away.")
            return [(info.filename, archive.read(info), info.date_time) for info in infos]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise Damaged(f"{where} is not whole ({error})") from None
