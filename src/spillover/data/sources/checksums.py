"""Which public data sets these bytes are: names and SHA-256 hashes, and no address to fetch them from.

A file that claims to be a public set and is not may have been cut, edited or poisoned on its way. Add a line only for a
hash that you computed from the publisher's own file.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from spillover.errors import UserError

KNOWN = {
    # GSM8K, grade-school-math/data/train.jsonl: 7,473 problems, MIT.
    "gsm8k train": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
}


def known_as(content: bytes) -> str | None:
    """The public set whose published bytes these are."""
    digest = hashlib.sha256(content).hexdigest()
    return next((name for name, sha256 in KNOWN.items() if sha256 == digest), None)


def claimed_by(path: Path) -> str | None:
    """The public set that a file's name says it is: gsm8k_train.jsonl, GSM8K-train.jsonl.age."""
    words = re.findall(r"[a-z0-9]+", path.name.partition(".")[0].lower())
    return name if (name := " ".join(words)) in KNOWN else None


def checked(path: Path, content: bytes) -> str | None:
    """The public set that a file is; a file that bears the name of one must have its bytes.

    Raises:
        UserError: with both hashes.
    """
    if claimed := claimed_by(path):
        try:
            verify(claimed, content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return known_as(content)


def verify(name: str, content: bytes) -> None:
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
