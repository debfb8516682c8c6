"""Which public data sets these bytes are: names and SHA-256 hashes, and no address to fetch them from.

A file that claims to be a public set and is not may have been cut, edited or poisoned on its way. Add a line only for a
hash that you computed from the publisher's own file.
"""

from __future__ import annotations

import hashlib

from spillover.errors import UserError

KNOWN = {
    # GSM8K, grade-school-math/data/train.jsonl: 7,473 problems, MIT.
    "gsm8k train": "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
}


def known_as(content: bytes) -> str | None:
    """The public set whose published bytes these are."""
    digest = hashlib.sha256(content).hexdigest()
    return next((name for name, sha256 in KNOWN.items() if sha256 == digest), None)


def verify(name: str, content: bytes) -> None:
    """Refuse bytes that are not those of the public set called `name`.

    Raises:
        UserError: with both hashes.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != KNOWN[name]:
        raise UserError(
            f"This is not {name!r} as published: its SHA-256 is {digest}, that of the published file {KNOWN[name]}. "
            "Fetch it again, or name it as a file of your own."
        )
