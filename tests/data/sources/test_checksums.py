"""Known public sets by their bytes."""

from __future__ import annotations

import re

import pytest
from places import SHARED

from spillover.data.sources.sources import KNOWN, published_name, verify_checksum
from spillover.errors import UserError

GSM8K = SHARED / "data" / "gsm8k_train.jsonl"


def test_the_table_holds_hashes() -> None:
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in KNOWN.values())
    assert len(set(KNOWN.values())) == len(KNOWN)


def test_other_bytes_are_refused_with_both_hashes() -> None:
    assert published_name(b"") is None
    with pytest.raises(UserError, match=r"not 'gsm8k train' as published: its SHA-256 is e3b0c442.*17f347dc"):
        verify_checksum("gsm8k train", b"")


@pytest.mark.skipif(not GSM8K.exists(), reason="the published GSM8K training file is not here")
def test_the_published_file_is_known_and_a_cut_one_is_not() -> None:
    content = GSM8K.read_bytes()
    verify_checksum("gsm8k train", content)
    assert published_name(content) == "gsm8k train"
    assert published_name(content[:-1]) is None
