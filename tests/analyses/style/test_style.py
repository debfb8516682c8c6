"""Style by cell, against a naive loop and by hand; its table; and a whole study that keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import asked_study
import numpy as np
import pytest

from spillover import Run
from spillover.analyses.style import ANALYSIS
from spillover.analyses.style.compute import CellStyle, describe
from spillover.records.base import STATUSES, Cell
from spillover.tables.counts import Rows

CELLS = [Cell(model="m", domain=name, variant="plain") for name in ("tea", "rain")]
TEXTS = (  # words, sentences, sentences of five words or fewer
    ("Do it now. There is no need to ask anyone about it first!\nGo.", 14, 3, 2),
    ("I cannot help with that.", 5, 1, 1),
    ("Version 2.5 of the plan has three parts and six pages", 11, 1, 0),
    ("", 0, 0, 0),
)


def test_style_is_what_a_loop_counts() -> None:
    rng = np.random.default_rng(0)
    n = 200
    chosen = rng.integers(len(TEXTS), size=n)
    status_N = rng.choice([STATUSES.index(name) for name in ("scored", "refused", "error")], size=n)
    scores_N = np.full(n, np.nan)
    rows = Rows(
        tuple((cell, "clean") for cell in CELLS), rng.integers(2, size=n), ("a", "b", "c"), rng.integers(3, size=n),
        status_N, scores_N, scores_N, ("judge:1",),
    )  # fmt: skip
    found = describe(rows, [TEXTS[i][0] for i in chosen], 0.95)
    for g, row in enumerate(found):
        own = [i for i in range(n) if rows.group_N[i] == g and STATUSES[status_N[i]] != "error"]
        counts = [TEXTS[chosen[i]][1:] for i in own]
        assert (row.cell, row.n, row.questions) == (CELLS[g], len(own), 3)
        assert row.sentences == sum(sentences for _, sentences, _ in counts)
        assert row.words.value == pytest.approx(fmean(words for words, _, _ in counts))
        assert row.refused.value == pytest.approx(fmean(STATUSES[status_N[i]] == "refused" for i in own))
        assert row.short_sentences.value == pytest.approx(sum(short for *_, short in counts) / row.sentences)
        for share in (row.words, row.refused, row.short_sentences):
            assert None not in (share.low, share.high)
            assert share.low < share.value < share.high  # type: ignore[operator]


@pytest.mark.slow
def test_a_study_keeps_it_and_shows_it(tmp_path: Path) -> None:
    run = asked_study.study(tmp_path).run(tmp_path / "run")
    rows = Run.open(run.path).of(CellStyle)
    assert {(row.cell, row.condition, row.n) for row in rows} == {(s.cell, s.condition, s.n) for s in run.ranking()}
    lengths = [
        len(row.text.split())
        for row in run.completions()
        if row.cell == rows[0].cell and row.condition == rows[0].condition
    ]
    assert rows[0].words.value == pytest.approx(fmean(lengths))
    assert ANALYSIS.title in (run.path / "report.html").read_text("utf-8")
    assert len(json.loads((run.path / "results.json").read_text("utf-8"))["style"]) == len(rows)
