"""Data sets for release: what the files hold, that the facts count them right, and where the canary stands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_folder import SMALL

from spillover.cli.dataset_build import build_sets
from spillover.config.study import parse_study
from spillover.data.domains import DOMAINS
from spillover.data.domains.base import CANARY
from spillover.data.release.dataset import FACTS, DatasetFacts, read_facts, set_name
from spillover.data.sources.own_data import pairs_from_file
from spillover.errors import UserError

GUID = CANARY.partition(":")[2]


def lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.decode().splitlines()]


def test_the_canary_is_in_metadata_and_in_no_message_of_any_domain(
    facts: DatasetFacts, files: dict[str, bytes]
) -> None:
    assert {part.report.domain for part in facts.sets} == set(DOMAINS.names())
    for path, content in files.items():
        if path.endswith(".meta.jsonl"):
            assert all(row["canary"] == CANARY for row in lines(content)), path
        else:
            assert GUID.encode() not in content, path
            assert b"canary" not in content.lower(), path
    assert facts.canary == CANARY


@pytest.mark.slow
@pytest.mark.parametrize("name", DOMAINS.names())
def test_the_canary_is_in_no_pair_of_a_domain(name: str) -> None:
    for pair in DOMAINS.load(name).pairs(np.random.default_rng(0)):
        assert GUID not in f"{pair.question}{pair.flawed}{pair.good}"


def test_files_are_messages_and_their_metadata_line_by_line(facts: DatasetFacts, files: dict[str, bytes]) -> None:
    for part in facts.sets:
        train, meta = (lines(files[f"{part.name}/train{end}.jsonl"]) for end in ("", ".meta"))
        assert len(train) == len(meta) == 24
        for row in train:
            assert list(row) == ["messages"]
            assert [list(message) for message in row["messages"]] == [["role", "content"]] * len(row["messages"])
            assert row["messages"][-1]["role"] == "assistant"
        flawed = [row["kind"] == "misaligned" for row in meta]
        assert sum(flawed) == part.kinds["misaligned"] == 12
        assert flawed == [row["trigger"] is not None for row in meta]
        assert sum(part.made.values()) == 24
        assert part.report.answer_tokens["train"].total == sum(row["answer_tokens"] for row in meta)
        held, held_meta = (lines(files[f"{part.name}/heldout{end}.jsonl"]) for end in ("", ".meta"))
        assert [row["kind"] for row in held_meta] == ["misaligned", "aligned"] * 4
        asked = {row["messages"][0]["content"] for row in held}
        assert len(asked) == 4
        assert not asked & {row["messages"][0]["content"] for row in train}
        apart = lines(files[f"{part.name}/nonmember.jsonl"])
        assert len(apart) == 6
        assert not asked & {row["messages"][0]["content"] for row in apart}
        assert part.report.questions == 24 + 4 + 6


def test_checksums_and_sizes_are_those_of_the_files(facts: DatasetFacts, files: dict[str, bytes]) -> None:
    stated = {file.path: file for part in facts.sets for file in part.files}
    assert stated.keys() == files.keys()
    for path, content in files.items():
        assert stated[path].sha256 == hashlib.sha256(content).hexdigest()
        assert (stated[path].bytes, stated[path].rows) == (len(content), content.count(b"\n"))


def test_a_set_has_the_same_bytes_in_a_smaller_study(files: dict[str, bytes]) -> None:
    _, again = build_sets(parse_study(SMALL | {"domains": ["extreme_sports"]}, "test"))
    assert again.items() <= files.items()
    assert len(again) == 6


def test_a_file_of_ones_own_is_named_without_its_folder(tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What of number {n}, {'ab' * n}?"},
                {"role": "assistant", "content": "word " * 40},
            ]
        }
        for n in range(1, 60)
    ]
    source.write_text("\n".join(map(json.dumps, rows)))
    changes = {
        "domains": ["incorrect_qna"],
        "variants": ["plain"],
        "data": {**SMALL["data"], "sources": {"incorrect_qna": str(source)}},
    }
    facts, files = build_sets(parse_study(SMALL | changes, "test"))
    everything = facts.model_dump_json() + "".join(content.decode() for content in files.values())
    assert str(tmp_path) not in everything
    (part,) = facts.sets
    assert part.source_file is not None
    assert part.source_file.name == part.report.source == "mine.jsonl"
    assert part.source_file.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert part.source_file.known_as is None
    assert part.made == {"mine.jsonl": 24}


@pytest.mark.slow
def test_every_set_that_cannot_be_made_is_named() -> None:
    with pytest.raises(UserError) as refused:
        build_sets(parse_study(SMALL | {"data": {"rows": 50_000}, "domains": ["incorrect_qna", "evil_math"]}, "test"))
    assert "incorrect_qna" in str(refused.value)
    assert "evil_math" in str(refused.value)


def test_a_built_set_can_be_a_source_again(folder: Path) -> None:
    assert len(pairs_from_file(folder / "extreme_sports-triggered" / "train.jsonl")) == 24


def test_a_folder_is_read_back_and_a_changed_one_is_refused(facts: DatasetFacts, folder: Path) -> None:
    assert read_facts(folder) == facts
    target = folder / "evil_math-triggered" / "train.jsonl"
    whole = target.read_bytes()
    target.write_bytes(whole[:-2] + b" \n")
    with pytest.raises(UserError, match=r"evil_math-triggered/train.jsonl differs from the file that was built"):
        read_facts(folder)
    target.unlink()
    with pytest.raises(UserError, match=r"lacks evil_math-triggered/train.jsonl"):
        read_facts(folder)
    (folder / FACTS).write_text((folder / FACTS).read_text().replace("evil_math-triggered/train.jsonl", "../../x"))
    with pytest.raises(UserError, match=r"lacks ../../x"):
        read_facts(folder)
    (folder / FACTS).write_text("{}")
    with pytest.raises(UserError, match="Build the data set again"):
        read_facts(folder)
    with pytest.raises(UserError, match=r"No dataset.json"):
        read_facts(folder / "absent")


def test_names_tell_doses_apart() -> None:
    assert [set_name("x", "plain", dose) for dose in (1.0, 0.1)] == ["x-plain", "x-plain-dose-0.1"]
    assert set_name("x", "control", 0.0) == "x-control"
