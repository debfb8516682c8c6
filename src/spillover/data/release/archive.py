"""A folder as one tar file, the same bytes for the same content; and back, trusting nothing.

A hostile archive may name places outside the folder, hold links or devices, or swell when it is opened. So the whole
archive is read and checked in memory first, and only then written, to a new folder that appears at once or not at all.
Plain and gzip-compressed tar files are read; plain ones are written, because what follows is encryption.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import unicodedata
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from spillover.errors import UserError
from spillover.store.store import disk_errors

MIB = 2**20
LARGEST = 1024 * MIB  # bytes, of an archive and of all its files together
MOST_FILES = 10_000
LONGEST_NAME = 200  # characters of a path; no file system in use allows fewer
LONGEST_PART = 120  # UTF-8 bytes between two slashes
DEEPEST = 8
HIGHEST_RATIO = 200  # of gzip; text of repeated templates reaches 30
RATIO_MATTERS_FROM = 16 * MIB  # padding makes small tar files compress better than that
GZIP = b"\x1f\x8b"
FORBIDDEN = frozenset('\\:*?"<>|')  # mean something to some file system or shell


def pack(path: Path) -> bytes:
    """The files below a folder, or one file, as a tar file; times, owners and permissions are left out.

    Raises:
        UserError: when there is nothing to pack, or a link, or something that `unpack` would refuse.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist. Name a folder or a file.")
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    files: dict[str, bytes] = {}
    total = 0
    for item in found:
        if item.is_dir() and not item.is_symlink():
            continue
        if item.is_symlink() or not item.is_file():
            raise UserError(f"{item} is not a regular file. Replace it by its content, or pack another folder.")
        name = item.name if item == path else item.relative_to(path).as_posix()
        files[name] = item.read_bytes()
        total += len(files[name])
        _check_total(total, str(path))
    if not files:
        raise UserError(f"{path} holds no files. Name a folder with the data set in it.")
    _check_names(files, str(path))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def is_archive(data: bytes) -> bool:
    """Whether this looks like something that `unpack` reads."""
    return data.startswith(GZIP) or data[257:262] == b"ustar"


def unpack(data: bytes, out: Path) -> list[Path]:
    """Write an archive's files below `out`, which must not exist or be empty; returns them in order.

    Raises:
        UserError: for an archive with anything but plain files and folders of harmless names and sizes, or an `out`
            that holds something already. Nothing is written then.
    """
    return write_new(read_archive(data), out)


def read_archive(data: bytes) -> dict[str, bytes]:
    """Every file of an archive by name, after all checks."""
    _check_total(len(data), "The archive")
    plain = _gunzip(data) if data.startswith(GZIP) else data
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:", encoding="utf-8", errors="strict") as archive:
            for number, entry in enumerate(archive, start=1):
                if number > MOST_FILES:
                    raise UserError(f"The archive holds more than {MOST_FILES:,} entries. Split it.")
                name = entry.name.removeprefix("./")  # as `tar -C FOLDER .` writes
                if entry.isdir() and name in ("", "."):
                    continue
                _check_name(name)
                if entry.isdir():
                    folders.add(name)
                    continue
                if not entry.isfile() or entry.issparse():
                    raise UserError(f"The archive: {name!r} is {_kind(entry)}. Only plain files are unpacked.")
                if name in files:
                    raise UserError(f"The archive names {name!r} twice. It is damaged or malicious.")
                file = archive.extractfile(entry)
                assert file is not None, name  # a plain file has content
                files[name] = file.read()
    except (tarfile.TarError, UnicodeError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"The archive is damaged ({type(error).__name__}). Download it again.") from None
    if not files:
        raise UserError("The archive holds no files.")
    _check_names([*files, *(f"{folder}/" for folder in folders)], "The archive")
    return files


def write_new(files: dict[str, bytes], out: Path) -> list[Path]:
    """Write files below a new folder, which appears complete or not at all.

    Raises:
        UserError: when `out` holds something already.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder. Choose another --out.")
    unfinished = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}")
    with disk_errors(out):
        try:
            for name, content in files.items():
                place = unfinished / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            os.replace(unfinished, out.absolute())
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return [out / name for name in files]


def _gunzip(data: bytes) -> bytes:
    allowed = min(LARGEST, max(RATIO_MATTERS_FROM, HIGHEST_RATIO * len(data)))
    plain = bytearray()
    rest = data
    try:
        while rest:  # a gzip file may have several members
            reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            plain += reader.decompress(rest, allowed + 1 - len(plain))
            if len(plain) > allowed:
                raise UserError(
                    f"The archive unpacks to more than {allowed // MIB} MiB from {len(data):,} bytes. "
                    "It may be a decompression bomb; split a genuine data set."
                )
            if not reader.eof:
                raise UserError("The archive ends too early. Download it again.")
            rest = reader.unused_data
    except zlib.error:
        raise UserError("The archive is damaged (gzip). Download it again.") from None
    return bytes(plain)


def _check_total(size: int, what: str) -> None:
    if size > LARGEST:
        raise UserError(f"{what} has more than {LARGEST // MIB} MiB. Split it.")


def _check_names(names: Iterable[str], what: str) -> None:
    """Names that are harmless one by one, and that no file system takes for one another."""
    seen: dict[str, str] = {}
    files: set[str] = set()
    parents: set[str] = set()
    for number, name in enumerate(names, start=1):
        if number > MOST_FILES:
            raise UserError(f"{what} holds more than {MOST_FILES:,} files. Split it.")
        _check_name(name)
        folded = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
        other = seen.setdefault(folded, name)
        if other != name:
            raise UserError(f"{what}: {name!r} and {other!r} are the same file on some file systems. Rename one.")
        parents |= {str(parent) for parent in PurePosixPath(folded).parents}
        if name.endswith("/"):
            parents.add(folded)
        else:
            files.add(folded)
    if both := sorted(files & parents):
        raise UserError(f"{what}: {both[0]!r} is a file and a folder at once. Rename one.")


def _check_name(name: str) -> None:
    parts = name.rstrip("/").split("/")
    reason = (
        "is too long"
        if len(name) > LONGEST_NAME or any(len(part.encode("utf-8", "replace")) > LONGEST_PART for part in parts)
        else "is too deep"
        if len(parts) > DEEPEST
        else "points outside the folder"
        if name.startswith("/") or ".." in parts
        else "is reserved by git"  # a repository's settings can name programs
        if any(part.casefold() == ".git" for part in parts)
        else "is not a plain path"
        if "" in parts or "." in parts or any(part != part.strip() or part.endswith(".") for part in parts)
        else "contains a character that is unsafe in a file name"
        if not name.isprintable() or FORBIDDEN & set(name)
        else None
    )
    if reason:
        raise UserError(f"The name {name[:80]!r} {reason}. Nothing was written. Pack it again with plain names.")


def _kind(entry: tarfile.TarInfo) -> str:
    if entry.issym() or entry.islnk():
        return f"a link to {entry.linkname[:80]!r}"
    return "a device" if entry.isdev() else "of an unusual type"
