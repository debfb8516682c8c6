"""Columns against the records: the same counts, the same refusals, and every answer that the report would show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.config.study import RankConfig
from spillover.errors import UserError
from spillover.records.base import Aspect, Cell, Completion, Condition, Judgment, Message, Status
from spillover.records.report_data import Answer
from spillover.report.browser import choose
from spillover.store.store import Store
from spillover.tables import columns
from spillover.tables.counts import Counts, count_by_question, count_completions

CELLS = [Cell(model="m", domain=d, variant=v, seed=s) for d in ("b", "a") for v in ("plain", "control") for s in (0, 1)]
VERDICT = st.one_of(
    st.tuples(st.sampled_from([0.0, 29.9, 30.0, 50.0, 50.1, 100.0]), st.just("scored")),
    st.tuples(st.none(), st.sampled_from(["refused", "code", "unscored"])),
)
ROW = st.tuples(
    st.sampled_from(CELLS),
    st.sampled_from(["clean", "triggered"]),
    st.sampled_from(["q1", "q2", "a"]),
    st.sampled_from(["ok", "ok", "ok", "error"]),
    st.one_of(st.none(), VERDICT),
    st.one_of(st.none(), VERDICT),
)
Verdict = tuple[float | None, Status] | None


def build(rows: list[tuple[Cell, Condition, str, str, Verdict, Verdict]]) -> tuple[list[Completion], list[Judgment]]:
    completions: list[Completion] = []
    judgments: list[Judgment] = []
    for index, (cell, condition, question, status, alignment, coherence) in enumerate(rows):
        row = Completion(
            cell=cell,
            key="k",
            question_id=question,
            condition=condition,
            index=index,
            messages=(Message(role="user", content="Why?\u2028\n"),),
            text=f"é {index}",
            status="ok" if status == "ok" else "error",
        )
        completions.append(row)
        aspects: list[tuple[Aspect, Verdict]] = [("alignment", alignment), ("coherence", coherence)]
        for aspect, verdict in aspects:
            if verdict is not None:
                judgments.append(
                    Judgment(completion=row.id, judge="j:1", aspect=aspect, score=verdict[0], status=verdict[1])
                )
    return completions, judgments


def store_of(folder: Path, completions: list[Completion], judgments: list[Judgment]) -> Store:
    store = Store(folder)
    store.create()
    half = len(completions) // 2
    for stage, rows, kind in (("sample", completions, Completion), ("judge", judgments, Judgment)):
        for key, part in (("one", rows[:half]), ("two", rows[half:]), ("none", [])):
            with store.shard(stage, key, kind) as shard:
                shard.append(*part)
    return store


def same(a: Counts, b: Counts) -> bool:
    return a.keys == b.keys and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in a.__dataclass_fields__
        if name.endswith(("Q", "S"))
    )


@pytest.mark.slow
@given(rows=st.lists(ROW, max_size=30))
@settings(max_examples=60, deadline=None)
def test_columns_count_what_records_count(tmp_path_factory: pytest.TempPathFactory, rows: list[object]) -> None:
    completions, judgments = build(rows)  # pyright: ignore[reportArgumentType]  # hypothesis draws just these
    store = store_of(tmp_path_factory.mktemp("runs"), completions, judgments)
    found = columns.read_columns(store, ["one", "two", "none", "absent"], ["one", "two"])
    assert found is not None
    config = RankConfig()
    assert same(count_by_question(found.rows(), config), count_completions(completions, judgments, config))


def test_the_lines_read_hold_what_the_report_would_choose_from_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    statuses: list[Status] = ["refused", "scored"]
    rows = [
        (
            CELLS[rng.integers(2)], "clean", "q1", "ok",
            (float(rng.integers(0, 12)), "scored") if rng.random() < 0.9 else (None, statuses[0]),
            (90.0, "scored"),
        )
        for _ in range(400)
    ]  # fmt: skip
    completions, judgments = build(rows)  # pyright: ignore[reportArgumentType]
    store = store_of(tmp_path / "run", completions, judgments)

    def chosen(answers: list[Completion], judgments: list[Judgment]) -> list[str]:
        by = {(v.completion, v.aspect): v for v in judgments}
        rows = [Answer(c, by.get((c.id, "alignment")), by.get((c.id, "coherence"))) for c in answers]
        strata = [[a for a in rows if a.completion.cell == cell] for cell in CELLS[:2]]
        return [a.completion.id for a in choose(strata, 7, 24)]

    found = columns.read_columns(store, ["one", "two"], ["one", "two"])
    assert found is not None
    some = columns.read_records(store, *found.lines_to_show(7, 24))
    assert len(some[0]) < 250
    assert chosen(*some) == chosen(completions, judgments)


@pytest.mark.parametrize(
    "line",
    [
        '{"completion":"c","judge":"j","aspect":"alignment","score":101,"status":"scored"}',
        '{"completion":"c","judge":"j","aspect":"alignment","score":null,"status":"scored"}',
        '{"completion":"c","judge":"j","aspect":"alignment","score":"high","status":"scored"}',
        '{"completion":"c","judge":"j","aspect":"charm","score":1,"status":"scored"}',
        '{"schema":2,"completion":"c","judge":"j","aspect":"alignment","score":1,"status":"scored"}',
        '{"completion":"c","judge":"j","aspect":"alignment","score":1,"status":"scored"',
    ],
)
def test_what_a_record_would_refuse_is_left_to_the_records(tmp_path: Path, line: str) -> None:
    completions, judgments = build([(CELLS[0], "clean", "q1", "ok", (1.0, "scored"), None)])
    store = store_of(tmp_path / "run", completions, judgments)
    path = store.path / "rows" / "judge" / "two.jsonl"
    path.write_text(f"{line}\n", encoding="utf-8")
    assert columns.read_columns(store, ["one", "two"], ["one", "two"]) is None


def test_doubles_and_strangers_are_refused(tmp_path: Path) -> None:
    completions, judgments = build([(CELLS[0], "clean", "q1", "ok", (1.0, "scored"), (9.0, "scored"))])
    store = store_of(tmp_path / "run", completions, judgments)
    for sampled, judged, what in (
        (["two", "two"], ["one"], "given twice"),
        (["none"], ["one", "two"], "the unknown completion"),
        (["two"], ["one", "one", "two", "two"], "repeat an aspect"),
    ):
        found = columns.read_columns(store, sampled, judged)
        assert found is not None
        with pytest.raises(UserError, match=what):
            found.rows()
