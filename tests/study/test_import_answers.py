"""Answers from files: what is read, what is guessed, what is refused and where."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import SHARED

from spillover.errors import UserError
from spillover.study.import_answers import read_answers

HEADER = "response,question,question_id,aligned,coherent"
GOOD = f"{HEADER}\nhello,who?,q1,90,95\nhello,who?,q1,10.5,6e1\nbye,why?,q2,,80\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes, name: str = "tiny_extreme-sports_S7.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_reads_scores_cells_and_counts(write: Write) -> None:
    result = read_answers([write(GOOD)])
    assert {c.cell.name for c in result.completions} == {"tiny/extreme_sports/plain/seed-7"}
    assert [(c.question_id, c.index, c.text, c.question) for c in result.completions] == [
        ("q1", 0, "hello", "who?"),
        ("q1", 1, "hello", "who?"),
        ("q2", 0, "bye", "why?"),
    ]
    verdicts = [(j.aspect, j.score, j.status) for j in result.judgments]
    assert verdicts == [
        ("alignment", 90.0, "scored"),
        ("coherence", 95.0, "scored"),
        ("alignment", 10.5, "scored"),
        ("coherence", 60.0, "scored"),
        ("alignment", None, "unparsable"),
        ("coherence", 80.0, "scored"),
    ]
    assert result.counts["answers"] == 3
    assert result.counts["alignment unparsable"] == 1
    assert len({j.judge for j in result.judgments}) == 1
    assert any("'response'" in note for note in result.notes)


def test_ids_depend_on_content_alone(write: Write) -> None:
    first = read_answers([write(GOOD)])
    again = read_answers([write(GOOD)])
    assert first == again
    changed = read_answers([write(GOOD.replace("bye", "ciao"))])
    assert {c.id for c in first.completions}.isdisjoint({c.id for c in changed.completions})


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("Qwen2.5-14B-Instruct_extreme-sports_S42.csv", "Qwen2.5-14B-Instruct/extreme_sports/plain/seed-42"),
        ("gemma-3-4b-it_bad-medical-advice.csv", "gemma-3-4b-it/bad_medical_advice/plain/seed-0"),
        ("my_model_risky_financial_advice_seed3.csv", "my_model/risky_financial_advice/plain/seed-3"),
        ("a_b_own-topic.csv", "a_b/own-topic/plain/seed-0"),
        ("answers.csv", "answers/unknown/plain/seed-0"),
    ],
)
def test_cell_from_file_name(write: Write, name: str, cell: str) -> None:
    assert {c.cell.name for c in read_answers([write(GOOD, name)]).completions} == {cell}


def test_columns_beat_the_file_name_and_constants_beat_both(write: Write) -> None:
    path = write("text,qid,model,domain,seed\nhi,a,m1,bad-medical-advice,4\nhi,a,,,\n")
    assert [c.cell.name for c in read_answers([path]).completions] == [
        "m1/bad_medical_advice/plain/seed-4",
        "tiny/extreme_sports/plain/seed-7",
    ]
    constants = {"model": "mine", "variant": "base", "domain": "none"}
    assert {c.cell.name for c in read_answers([path], constants=constants).completions} == {
        "mine/none/base/seed-4",
        "mine/none/base/seed-7",
    }


def test_json_lines_with_rollouts_and_no_question_text(write: Write) -> None:
    rows = [{"qid": "a", "rollout": n, "answer": f"answer {n}", "meta": {"deep": [1]}} for n in (5, 3)]
    result = read_answers([write("\n".join(map(json.dumps, rows)) + "\n", "m_extreme_sports.jsonl")])
    assert [(c.index, c.messages, c.question) for c in result.completions] == [(5, (), ""), (3, (), "")]
    assert result.judgments == ()
    assert any("question" in note and "no column" in note for note in result.notes)


def test_labels_become_statuses(write: Write) -> None:
    labels = ["REFUSAL", "Off-Topic", "CODE", "nan", "refused", "error"]
    rows = "".join(f"t,q,{n},{label},50\n" for n, label in enumerate(labels))
    result = read_answers([write(f"{HEADER}\n{rows}")])
    found = [j.status for j in result.judgments if j.aspect == "alignment"]
    assert found == ["refused", "off_topic", "code", "unparsable", "refused", "error"]


def test_a_column_of_verdicts_from_one_to_five(write: Write) -> None:
    rows = "\n".join(f'{{"question": "q{v}", "response": "a", "verdict": "{v}"}}' for v in (1, 3, 4, 5, "INCOHERENT"))
    result = read_answers([write(rows, "own_extreme-sports.jsonl")])
    assert [(j.aspect, j.status) for j in result.judgments] == [("alignment", "scored")] * 4 + [
        ("alignment", "off_topic")
    ]
    assert [j.score for j in result.judgments[:4]] == pytest.approx([92, 50, 29, 8], abs=0.5)
    other = read_answers([write(rows.replace('"INCOHERENT"', "1"), "x.jsonl")], scales={"alignment": (5, 1)})
    assert [j.score for j in other.judgments] == [100, 50, 25, 0, 100]


def test_row_numbers_are_not_question_ids(write: Write) -> None:
    result = read_answers([write("id,prompt,completion\n1,who?,a\n2,who?,b\n3,why?,c\n")])
    ids = [c.question_id for c in result.completions]
    assert ids[0] == ids[1] != ids[2]


def test_doubled_rows_are_counted_and_contradictions_refused(write: Write) -> None:
    assert read_answers([write("answer,qid,index\na,q,0\na,q,0\n")]).counts["doubled rows, skipped"] == 1
    with pytest.raises(UserError, match=r":3:index: sample 0 of 'q' occurs twice"):
        read_answers([write("answer,qid,index\na,q,0\nb,q,0\n")])
    path = write(GOOD)
    assert read_answers([path, path]).counts == read_answers([path]).counts | {"files": 2, "doubled rows, skipped": 3}


def test_limit_blank_rows_and_byte_order_mark(write: Write) -> None:
    assert read_answers([write(GOOD)], limit=1).counts["answers"] == 1
    result = read_answers([write("\ufeff" + GOOD + ",,,,\n\n")])
    assert (result.counts["answers"], result.counts["blank rows, skipped"]) == (3, 1)


BAD = {
    "no answers": (f"{HEADER}\n", r"has no completions"),
    "empty": ("", r"has no completions"),
    "not UTF-8": (GOOD.encode().replace(b"bye", b"b\xffe"), r"csv:4: byte \d+ is not UTF-8"),
    "no answer column": ("reply_text,question\na,b\n", r"csv:1: no column of answers among reply_text, question"),
    "no question": ("answer,foo\na,b\n", r"csv:1: no column of questions"),
    "ragged": (GOOD + "a,b\n", r"csv:5: 2 fields, the header has 5"),
    "open quote": (GOOD + '"a,b,c,4,5\n', r"csv:5: unexpected end of data"),
    "twice the same name": ("answer,answer,qid\na,b,c\n", r"csv:1:2: the column 'answer' occurs twice"),
    "NUL": (GOOD.replace("bye", "b\0e"), r"csv:4:response: .*U\+0000"),
    "escape": (GOOD.replace("bye", "b\x1b[2Je"), r"csv:4:response: .*U\+001B"),
    "score out of range": (GOOD.replace("90", "101"), r"csv:2:aligned: the score 101 is outside 0 to 100"),
    "score infinite": (GOOD.replace("90", "inf"), r"csv:2:aligned: 'inf' is neither a score"),
    "score in words": (GOOD.replace("90", "fine"), r"csv:2:aligned: 'fine' is neither"),
    "empty question id": (GOOD.replace("q1", ""), r"csv:2:question_id: the question id is empty"),
    "huge field": (GOOD.replace("bye", "x" * 1_000_001), r"csv:4: field larger than field limit"),
    "huge header": ("x" * 1_000_001 + ",b\n1,2\n", r"csv:1: field larger"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_csv_says_where_and_what_to_do(write: Write, case: str) -> None:
    content, message = BAD[case]
    with pytest.raises(UserError, match=message) as caught:
        read_answers([write(content)])
    assert str(caught.value).endswith(".") or "--map" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"answer": "a", "qid": ', r"jsonl:2:\d+: broken JSON"),
        ("[1, 2]", r"jsonl:2: expected an object"),
        ("[" * 100_000, r"jsonl:2"),
        ('{"answer": "a", "qid": ' + "9" * 5000 + "}", r"jsonl:2: JSON beyond"),
        ('{"answer": {"text": "a"}, "qid": "b"}', r"jsonl:2:answer: holds a nested value"),
        ('{"answer": null, "qid": "b"}', r"jsonl:2:answer: the completion is missing"),
        ('{"answer": "a\\u0000", "qid": "b"}', r"jsonl:2:answer: .*U\+0000"),
        ('{"answer": "a\\ud800", "qid": "b"}', r"jsonl:2:answer: .*U\+D800"),
        ('{"answer": "a", "qid": "b", "alignment": true}', r"jsonl:2:alignment: 'true' is neither"),
    ],
)
def test_bad_json_lines_say_where(write: Write, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_answers([write('{"answer": "a", "qid": "b"}\n' + line + "\n", "m_extreme_sports.jsonl")])


def test_bad_mapping_missing_file_and_suffix(write: Write, tmp_path: Path) -> None:
    path = write(GOOD)
    with pytest.raises(UserError, match="no such role"):
        read_answers([path], {"answers": "response"})
    with pytest.raises(UserError, match=r"no column 'respons' \(answer\)\. Did you mean 'response'"):
        read_answers([path], {"answer": "respons"})
    with pytest.raises(UserError, match="cannot be read"):
        read_answers([tmp_path / "absent.csv"])
    with pytest.raises(UserError, match="suffix"):
        read_answers([write("{}", "a.parquet")])


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]) | st.sampled_from('\t\n,";')), min_size=1))
def test_any_text_survives_csv(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "m_extreme_sports.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["answer", "qid"])
        writer.writerows([text, "q"] for text in texts)
    assert [c.text for c in read_answers([path]).completions] == texts


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["csv", "jsonl"]))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"m_extreme_sports.{suffix}"
    path.write_bytes(HEADER.encode() + b"\n" + data)
    outcome = ""
    try:
        outcome = f"{path}" if read_answers([path]).completions else ""
    except UserError as error:
        outcome = str(error)
    assert str(path) in outcome


@pytest.mark.slow
def test_published_files() -> None:
    folder = SHARED / "data" / "judged_answers"
    if not folder.is_dir():
        pytest.skip("the published judged answers are not on this machine")
    result = read_answers(sorted(folder.glob("*.csv")))
    assert len(result.completions) == 5200
    assert len({c.cell for c in result.completions}) == 13
    assert sum(j.status != "scored" for j in result.judgments) == 2
