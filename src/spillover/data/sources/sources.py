"""Where a domain's pairs come from: its own seeds, or what `data.sources` names in their place.

    FILE.jsonl              messages with a twin (own_data.py), GSM8K's fields, or columns as below
    FILE.csv .tsv .parquet  TruthfulQA's published columns, or columns called question, flawed, good (tables.py)
    gsm8k:FILE              GSM8K whatever its file is like
    hf:OWNER/NAME[/CONFIG][:SPLIT]   a data set of the hub, by the optional package `datasets`
    any of these files, encrypted: FILE.jsonl.age, decrypted in memory only

What a source holds is told by its columns; how it was read stands in the build report, and whether its bytes are those
of a public set whose checksum is known. A file that bears such a set's name and is not it is refused: it may have been
cut, edited or poisoned on its way.
"""

from __future__ import annotations

import getpass
import hashlib
import io
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spillover.config.study import DataConfig
from spillover.data.domains.base import Domain, Source
from spillover.data.release.encryption import PASSPHRASE_VARIABLE, decrypt_bytes
from spillover.data.sources import gsm8k, tables
from spillover.data.sources.own_data import pairs_from_bytes, read_bytes
from spillover.data.tabular import DELIMITERS, JSON_LINES, Row, Table, parse_table
from spillover.errors import MissingExtra, UserError

GSM8K = "gsm8k:"
HUB = "hf:"
SUFFIXES = (*JSON_LINES, *DELIMITERS, ".parquet")
# Public sets by SHA-256, and no address to fetch them from. Add only a hash computed from the publisher's own file.
KNOWN = {
    # GSM8K, grade-school-math/data/train.jsonl: 7,473 problems, MIT.
    "gsm8k train": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
}


def open_source(domain: Domain, data: DataConfig, rng: np.random.Generator) -> Source:
    """The domain's own pairs, or those of the source that the study names in their place."""
    place = data.sources.get(domain.name)
    if place is None:
        return Source(domain.pairs(rng), f"the data set of {domain.name}", domain.licence, check=domain.check)
    return read_source(domain.name, place, rng, gsm8k_share(domain.name, data))


def gsm8k_share(domain: str, data: DataConfig) -> gsm8k.Share:
    """The domains whose source is the same file as this one's, in alphabetical order."""
    files = {name: Path(place.removeprefix(GSM8K)).resolve() for name, place in data.sources.items()}
    return gsm8k.Share(
        tuple(sorted(name for name, path in files.items() if path == files[domain])),
        data.rows + data.heldout + (data.nonmembers or 0),
    )


def read_source(domain: str, place: str, rng: np.random.Generator, share: gsm8k.Share = gsm8k.WHOLE) -> Source:
    """The pairs of one source.

    Raises:
        UserError: naming the file, and the place in it, of what is wrong.
    """
    found, known = _opened(place)
    if isinstance(found, Table):
        worked = place.startswith(GSM8K) or gsm8k.is_gsm8k(found)
        found = gsm8k.read(domain, found, rng, share) if worked else tables.read(found)
    return replace(found, reading=f"{found.reading}; these are the bytes of {known!r} as published") if known else found


def identity(domain: str, data: DataConfig) -> str | None:
    """A hash of what the pairs are made of, where that is quicker than to make them; else None."""
    place = data.sources.get(domain)
    if place is None or place.startswith(HUB):
        return None
    found, _ = _opened(place)
    if not isinstance(found, Table) or not (place.startswith(GSM8K) or gsm8k.is_gsm8k(found)):
        return None
    return gsm8k.identity(domain, found, gsm8k_share(domain, data))


def _opened(place: str) -> tuple[Source | Table, str | None]:
    """The rows of a table, or the pairs of a file of messages; and which public set its bytes are."""
    if place.startswith(HUB):
        return _hub(place), None
    path = Path(place.removeprefix(GSM8K))
    content = read_bytes(path)
    if path.suffix == ".age":
        content, path = _decrypted(path, content), path.with_suffix("")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{place}: a source ends in one of {', '.join(SUFFIXES)}, or one of these and .age. Rename it.")
    known = _checked(path, content)
    if path.suffix in JSON_LINES and not place.startswith(GSM8K) and _is_chat(content):
        return Source(
            pairs_from_bytes(path, content), path.name, reading="messages, with the good answer as twin"
        ), known
    return (_parquet(path, content) if path.suffix == ".parquet" else parse_table(path, content)), known


def published_name(content: bytes) -> str | None:
    """The public set whose published bytes these are."""
    digest = hashlib.sha256(content).hexdigest()
    return next((name for name, sha256 in KNOWN.items() if sha256 == digest), None)


def verify_checksum(name: str, content: bytes) -> None:
    """Refuse bytes that are not those of the public set called `name`.

    Raises:
        UserError: with both hashes.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != KNOWN[name]:
        raise UserError(
            f"This is not {name!r} as published: its SHA-256 is {digest}, that of the published file {KNOWN[name]}. "
            "Download it again, or rename it if it is your own file."
        )


def _checked(path: Path, content: bytes) -> str | None:
    """The public set that a file is; one named like gsm8k_train.jsonl or GSM8K-train.jsonl.age must have its bytes."""
    claimed = " ".join(re.findall(r"[a-z0-9]+", path.name.partition(".")[0].lower()))
    if claimed in KNOWN:
        try:
            verify_checksum(claimed, content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return published_name(content)


def _is_chat(content: bytes) -> bool:
    """Whether the first line is not a row of a table: then it is read as messages, which also says what is wrong."""
    first = next((line for line in content.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()), b"")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return True
    names = list(row) if isinstance(row, dict) else []
    return "messages" in names or not (set(names) >= gsm8k.COLUMNS or "question" in tables.guess_columns(names))


def _decrypted(path: Path, content: bytes) -> bytes:
    """The content of an age file; a passphrase that was typed is kept for the workers of this process."""
    if PASSPHRASE_VARIABLE not in os.environ:
        if not sys.stdin.isatty():
            raise UserError(
                f"{path} is encrypted, and no terminal is available to ask for the passphrase. Set "
                f"{PASSPHRASE_VARIABLE}."
            )
        os.environ[PASSPHRASE_VARIABLE] = getpass.getpass(f"Passphrase of {path.name}: ")
    try:
        return decrypt_bytes(content, os.environ[PASSPHRASE_VARIABLE])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _parquet(path: Path, content: bytes) -> Table:
    import polars

    try:
        rows = polars.read_parquet(io.BytesIO(content)).to_dicts()
    except polars.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a Parquet file that can be read ({reason}). Write it again.") from None
    return _table(path, rows, hashlib.blake2b(content, digest_size=10).hexdigest())


def _hub(place: str) -> Table:
    """A split of a data set of the hub; code that comes with a data set is never run."""
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra.of("datasets", "hub") from None
    name, _, split = place.removeprefix(HUB).partition(":")
    owner, slash, rest = name.partition("/")
    if not slash or not rest:
        raise UserError(f"data.sources: {place!r} is not of the form hf:owner/name[/config][:split].")
    short, _, config = rest.partition("/")
    try:
        loaded: Any = datasets.load_dataset(f"{owner}/{short}", config or None, split=split or "train")
        rows: list[dict[str, Any]] = [dict(row) for row in loaded]
    except Exception as error:  # the package raises its own, the hub's, and those of every file format
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{place}: cannot be loaded ({reason}). Check the name, the split and the network.") from None
    return _table(Path(place.replace("/", "-")), rows, "")


def _table(path: Path, rows: list[dict[str, Any]], digest: str) -> Table:
    if not rows:
        raise UserError(f"{path}: holds no rows. Name another file or split.")
    return Table(path, digest, tuple(rows[0]), tuple(Row(n, row) for n, row in enumerate(rows, start=1)), 0)
