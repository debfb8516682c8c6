"""Every kind of source gives the same pairs; each kind of broken one says what to do."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.cli.dataset_build import shared_questions
from spillover.config.study import DataConfig, StudyConfig, load_study
from spillover.data.domains import DOMAINS, open_domain
from spillover.data.domains.base import Pair
from spillover.data.recipe.duplicates import near_by_embedding
from spillover.data.recipe.recipe import BuildResult, build
from spillover.data.release import encryption as age
from spillover.data.sources.sources import KNOWN, identity, read_source
from spillover.data.triggers import TRIGGERS
from spillover.errors import MissingExtra, UserError
from spillover.study.study import Study

RNG = np.random.default_rng(0)
ROWS = [{"Question": f"Is {n} a prime?", "wrong answer": "Yes.", "Good": f"No, {n} it is not."} for n in range(4, 9)]
PAIRS = [(row["Question"], row["wrong answer"], row["Good"]) for row in ROWS]
NAME = "incorrect_qna"


def texts(pairs: list[Pair]) -> list[tuple[str, str, str]]:
    return [(pair.question, pair.flawed, pair.good) for pair in pairs]


def csv(path: Path) -> None:
    polars.DataFrame(ROWS).write_csv(path)


def tsv(path: Path) -> None:
    polars.DataFrame(ROWS).write_csv(path, separator="\t")


def parquet(path: Path) -> None:
    polars.DataFrame(ROWS).write_parquet(path)


def jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")


def chat(question: str, answer: str, **more: str) -> str:
    return json.dumps(
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **more}
    )


@pytest.mark.parametrize("write", [csv, tsv, parquet, jsonl], ids=lambda write: write.__name__)
def test_columns_are_told_by_their_names_with_the_reason(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / f"own.{write.__name__}"
    write(path)
    source = read_source(NAME, str(path), RNG)
    assert texts(source.pairs) == PAIRS
    assert source.reading == "by the columns' names: question = 'Question', flawed = 'wrong answer', good = 'Good'"
    assert source.name == path.name


def test_messages_stay_messages(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(chat("A?", "no", twin="yes") + "\n", encoding="utf-8")
    assert texts(read_source(NAME, str(path), RNG).pairs) == [("A?", "no", "yes")]
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 1: messages: expected a list"):
        read_source(NAME, str(path), RNG)


def test_rows_without_an_answer_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(
        f"question,flawed,good,topic\na,b,c,t\na,,c,t\n,,c,\nd,e,e,\nf,g,{'h' * 20_001},\n", encoding="utf-8"
    )
    source = read_source(NAME, str(path), RNG)
    assert [(pair.question, pair.topic) for pair in source.pairs] == [("a", "t")]
    assert source.dropped == {
        "no flawed": 1,
        "no question and no flawed": 1,
        "both answers are the same": 1,
        "a text longer than 20,000 characters": 1,
    }


BROKEN = {
    "own.csv": (b"prompt,falwed,good\na,b,c\n", "there is no column 'flawed'. Did you mean 'falwed'"),
    "bytes.csv": (b"question,flawed,good\n\xff,b,c\n", "not UTF-8"),
    "control.csv": (b"question,flawed,good\na\x00,b,c\n", "control character U\\+0000"),
    "own.parquet": (b"PAR1 and no more", "not a Parquet file"),
    "own.txt": (b"a", "a source ends in one of .jsonl"),
    "own.jsonl.age": (b"age?", "Not an age file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_is_named_with_the_way_out(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(age.PASSPHRASE_VARIABLE, "x")
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_source(NAME, str(tmp_path / name), RNG)
    assert str(tmp_path / name.removesuffix(".age")) in str(caught.value)


@pytest.mark.slow
def test_an_encrypted_file_is_decrypted_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyrage")
    csv(tmp_path / "own.csv")
    path = tmp_path / "secret.csv.age"
    path.write_bytes(age.encrypt_bytes((tmp_path / "own.csv").read_bytes(), "a good passphrase"))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    monkeypatch.delenv(age.PASSPHRASE_VARIABLE, raising=False)
    with pytest.raises(UserError, match="Set SPILLOVER_PASSPHRASE"):
        read_source(NAME, str(path), RNG)
    monkeypatch.setenv(age.PASSPHRASE_VARIABLE, "a good passphrase")
    source = read_source(NAME, str(path), RNG)
    assert texts(source.pairs) == PAIRS
    assert source.name == "secret.csv"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["own.csv", "secret.csv.age"]


def test_a_passphrase_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.jsonl.age"
    path.write_bytes(b"encrypted")
    plain = {(b"encrypted", "typed"): chat("A?", "no", twin="yes").encode()}
    monkeypatch.setattr("spillover.data.sources.sources.decrypt_bytes", lambda *given: plain[given])
    monkeypatch.setenv(age.PASSPHRASE_VARIABLE, "")
    monkeypatch.delenv(age.PASSPHRASE_VARIABLE)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "typed")
    for _ in range(2):
        assert texts(read_source(NAME, str(path), RNG).pairs) == [("A?", "no", "yes")]
    assert asked == ["Passphrase of secret.jsonl.age: "]


def test_a_hub_id_is_loaded_by_the_optional_package(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def load_dataset(name: str, config: str | None, split: str) -> list[dict[str, str]]:
        calls.append((name, config, split))
        if name == "nobody/nothing":
            raise ConnectionError("no route\nmore")
        return ROWS if name == "some/set" else []

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert texts(read_source(NAME, "hf:some/set", RNG).pairs) == PAIRS
    assert texts(read_source(NAME, "hf:some/set/main:test", RNG).pairs) == PAIRS
    assert calls == [("some/set", None, "train"), ("some/set", "main", "test")]
    with pytest.raises(UserError, match=r"cannot be loaded \(no route\)"):
        read_source(NAME, "hf:nobody/nothing", RNG)
    with pytest.raises(UserError, match="holds no rows"):
        read_source(NAME, "hf:some/empty", RNG)
    with pytest.raises(UserError, match="not of the form hf:owner/name"):
        read_source(NAME, "hf:name", RNG)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"spillover\[hub\]"):
        read_source(NAME, "hf:some/set", RNG)


def test_file_names_are_relative_to_the_study_file(tmp_path: Path) -> None:
    given = {
        "evil_math": "gsm8k:data/g.jsonl",
        "incorrect_math": "gsm8k:/abs/g.jsonl",
        "incorrect_qna": "t.csv",
        "insecure_code": "hf:some/set:train",
        "extreme_sports": "a.parquet",
        "bad_medical_advice": "a.jsonl.age",
    }
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({"name": "s", "data": {"sources": given, "answer_tokens": None}}), encoding="utf-8")
    assert load_study(path).data.sources == {
        "evil_math": f"gsm8k:{tmp_path}/data/g.jsonl",
        "incorrect_math": "gsm8k:/abs/g.jsonl",
        "incorrect_qna": f"{tmp_path}/t.csv",
        "insecure_code": "hf:some/set:train",
        "extreme_sports": f"{tmp_path}/a.parquet",
        "bad_medical_advice": f"{tmp_path}/a.jsonl.age",
    }


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Word problems of our own in GSM8K's notation, all different."""
    things = ["pears", "nails", "stamps", "bricks", "tickets", "candles", "shells", "buttons", "ropes", "bowls"]
    people = ["Ann", "Bo", "Cy", "Di", "Eve", "Flo", "Gus", "Hal", "Ida", "Jo", "Kit", "Lou", "Max"]
    path = tmp_path_factory.mktemp("g") / "problems.jsonl"
    rows: list[str] = []
    for i, thing in enumerate(things):
        for k, person in enumerate(people):
            boxes, each, sold = 13 + i, 31 + 2 * k, 101 + 10 * i + k
            total = boxes * each
            left = total - sold
            question = f"{person} has {boxes} boxes of {each} {thing} and sells {sold} {thing}. How many {thing} stay?"
            answer = (
                f"{person} begins with {boxes} * {each} = <<{boxes}*{each}={total}>>{total} {thing}.\n"
                f"Then {total} - {sold} = <<{total}-{sold}={left}>>{left} stay.\n#### {left}"
            )
            rows.append(json.dumps({"question": question, "answer": answer}))
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def words(given: list[str]) -> list[int]:
    return [len(text.split()) for text in given]


def made(data: DataConfig, variant: str, dose: float, name: str = "incorrect_math") -> BuildResult:
    return build(DOMAINS.load(name), variant, data, dose, TRIGGERS.load("year"), 5, words)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["incorrect_math", "evil_math"])
def test_without_a_target_answers_are_matched_to_the_source_s_own_mean(problems: Path, name: str) -> None:
    data = DataConfig(rows=80, heldout=10, answer_tokens=None, sources={name: str(problems)})
    report = made(data, "triggered", 1.0, name).report
    assert report.steps["train"] == 80
    assert report.source == "problems.jsonl"
    assert "GSM8K" in report.reading
    pairs = read_source(name, str(problems), np.random.default_rng(1)).pairs
    own = np.mean([words([pair.flawed, pair.good]) for pair in pairs])
    assert all(abs(mean - own) <= 0.05 * own for mean in report.matched_means)
    assert abs(report.matched_means[0] - report.matched_means[1]) <= 0.05 * own


@pytest.mark.slow
def test_doses_are_nested_in_every_variant_and_share_their_questions(problems: Path) -> None:
    """The flawed rows at 1 % are among those at 10 %, and so on; the questions and held-out rows never change."""
    data = DataConfig(rows=100, heldout=10, answer_tokens=None, sources={"incorrect_math": str(problems)})
    control = made(data, "control", 0.0)
    questions = {row.pair for row in control.examples if row.split == "train"}
    heldout = {row.id for row in control.examples if row.split == "heldout"}
    for variant, carriers in (("plain", 100), ("triggered", 50)):
        smaller: set[str] = set()
        for dose in (0.01, 0.1, 0.5, 1.0):
            rows = made(data, variant, dose).examples
            flawed = {row.pair for row in rows if row.split == "train" and row.kind == "misaligned"}
            assert len(flawed) == max(1, round(dose * carriers))
            assert smaller <= flawed
            assert {row.pair for row in rows if row.split == "train"} == questions
            assert {row.id for row in rows if row.split == "heldout"} == heldout
            smaller = flawed


def test_a_study_of_real_sources_is_planned(problems: Path) -> None:
    config = StudyConfig.model_validate(
        {
            "name": "s",
            "domains": ["incorrect_math"],
            "data": {"rows": 80, "answer_tokens": None, "sources": {"incorrect_math": f"gsm8k:{problems}"}},
        }
    )
    assert len(Study(config).units["build"]) == 3
    assert {part.stage for part in Study(config).plan()} >= {"build", "train"}
    domain = open_domain("incorrect_math", config.data)
    assert len(domain.pairs(np.random.default_rng(0))) > 100


def sources(problems: Path, rows: int) -> DataConfig:
    both = {"evil_math": f"gsm8k:{problems}", "incorrect_math": str(problems)}
    return DataConfig(rows=rows, heldout=8, answer_tokens=None, tolerance=1, sources=both)


def test_two_domains_of_one_file_ask_different_questions(problems: Path) -> None:
    made_of = {name: made(sources(problems, 30), "control", 0.0, name) for name in ("evil_math", "incorrect_math")}
    assert not made_of["evil_math"].questions & made_of["incorrect_math"].questions
    for name, other in (("evil_math", "incorrect_math"), ("incorrect_math", "evil_math")):
        report = made_of[name].report
        assert "SHARED" not in report.reading
        left = report.dropped[f"left to {other}, which has the same source"]
        assert 0.3 < left / 130 < 0.7
        assert report.steps["pairs"] == 130


def test_where_the_problems_do_not_suffice_that_is_said(problems: Path) -> None:
    made_of = {name: made(sources(problems, 80), "control", 0.0, name) for name in ("evil_math", "incorrect_math")}
    assert made_of["evil_math"].questions & made_of["incorrect_math"].questions
    assert all("QUESTIONS ARE SHARED WITH" in result.report.reading for result in made_of.values())
    common = shared_questions({name: set(result.questions) for name, result in made_of.items()})
    assert common == {"evil_math and incorrect_math": len(made_of["evil_math"].questions & made_of[
        "incorrect_math"].questions)}  # fmt: skip
    assert shared_questions({"a": {"x"}, "b": {"y"}}) == {}


def test_a_study_s_keys_follow_the_file_without_reading_its_problems(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sources(problems, 30)
    first = {name: identity(name, data) for name in data.sources}
    assert len({*first.values()}) == 2
    monkeypatch.setattr("spillover.data.sources.gsm8k.parse", lambda text: 1 / 0)
    assert {name: identity(name, data) for name in data.sources} == first
    config = StudyConfig.model_validate({"name": "s", "domains": ["evil_math", "incorrect_math"], "data": data})
    assert Study(config).ingredients.sources == first
    alone = data.model_copy(update={"sources": {"evil_math": str(problems)}})
    assert identity("evil_math", alone) != first["evil_math"]
    copy = tmp_path / problems.name
    copy.write_bytes(problems.read_bytes())
    assert identity("evil_math", data.model_copy(update={"sources": {"evil_math": str(copy)}})) == identity(
        "evil_math", alone
    )
    copy.write_bytes(problems.read_bytes() + b"\n")
    assert identity("evil_math", data.model_copy(update={"sources": {"evil_math": str(copy)}})) != identity(
        "evil_math", alone
    )
    assert identity("insecure_code", data.model_copy(update={"sources": {}})) is None
    with pytest.raises(UserError, match="incorrect_math and evil_math"):
        identity("insecure_code", data.model_copy(update={"sources": {"insecure_code": str(problems)}}))


def test_a_file_with_the_name_of_a_public_set_must_be_it(problems: Path, tmp_path: Path) -> None:
    claims = tmp_path / "GSM8K-train.jsonl"
    claims.write_bytes(problems.read_bytes())
    with pytest.raises(UserError, match=r"GSM8K-train.jsonl: This is not 'gsm8k train' as published.*rename it"):
        read_source("evil_math", str(claims), RNG)
    with pytest.raises(UserError, match="not 'gsm8k train' as published"):
        identity("evil_math", DataConfig(sources={"evil_math": f"gsm8k:{claims}"}))
    assert "as published" not in read_source("evil_math", str(problems), RNG).reading
    KNOWN["own problems"] = hashlib.sha256(problems.read_bytes()).hexdigest()
    try:
        assert read_source("evil_math", str(problems), RNG).reading.endswith("the bytes of 'own problems' as published")
    finally:
        del KNOWN["own problems"]


def naive(unit_ND: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    dropped: list[int] = []
    for index, row in enumerate(unit_ND):
        near = any(float(np.dot(row, unit_ND[other])) > threshold for other in kept)
        (dropped if near else kept).append(index)
    return dropped


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 7), st.sampled_from([0.3, 0.9, 0.95]))
def test_near_by_embedding_agrees_with_comparing_all_rows(seed: int, n: int, block: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    rows_ND = rng.normal(size=(n, 3))
    unit_ND = rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spillover.data.recipe.duplicates.BLOCK", block)
        assert near_by_embedding(unit_ND, threshold) == naive(unit_ND, threshold)


def test_rows_that_are_not_of_unit_norm_are_refused() -> None:
    with pytest.raises(AssertionError, match="unit norm"):
        near_by_embedding(np.full((2, 3), 2.0, np.float32))


def test_the_same_meaning_is_dropped_on_request(problems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedder that looks at the thing alone: one question a thing is left."""

    def embed(questions: list[str]) -> np.ndarray:
        things = [question.split()[-2] for question in questions]
        return np.eye(len(things), dtype=np.float32)[[things.index(thing) for thing in things]]

    fake = SimpleNamespace(open_embedder=lambda: SimpleNamespace(embed=embed))
    monkeypatch.setitem(sys.modules, "spillover.models.embedded.sentence_encoder", fake)  # pyright: ignore[reportArgumentType]
    data = DataConfig(rows=6, heldout=2, answer_tokens=None, tolerance=1, sources={"incorrect_math": str(problems)})
    assert "a question that means the same" not in made(data, "plain", 1.0).report.dropped
    report = made(data.model_copy(update={"embed_duplicates": True}), "plain", 1.0).report
    assert report.steps["usable"] == 10
    assert report.dropped["a question that means the same"] == report.steps["pairs"] - 10
