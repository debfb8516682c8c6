"""How cells compare, in words and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from spillover.analyses.ranking.report import order_sentences, section
from spillover.analyses.trigger.report import pooled_sentences
from spillover.cli.main import cli
from spillover.errors import UserError
from spillover.records.comparisons import (
    Comparisons,
    DomainEffect,
    Order,
    PooledEffect,
    Recipe,
    Thresholds,
    VarianceBudget,
    VarianceComponent,
)

RECIPE = Recipe(model="<b>m</b>", domain="sports", variant="plain", dose=1.0, condition="clean")


def order(p: float) -> Order:
    return Order(
        variant="plain",
        condition="clean",
        cells=("a", "b", "c"),
        above=((0.5, 0.9, 0.99), (0.1, 0.5, 0.8), (0.01, 0.2, 0.5)),
        p=((1.0, 0.4, p), (0.4, 1.0, 0.6), (p, 0.6, 1.0)),
    )


def test_only_separable_pairs_are_put_in_order() -> None:
    first, second, third = order_sentences(order(0.01), ["A", "B", "C"], 0.95)
    assert first.startswith("1 of 3 pairs differs significantly")
    assert second == "A is above C."
    assert third == "Adjacent cells that are not significantly different: A or B (P = 0.90); B or C (P = 0.80)."


def test_no_order_is_claimed_where_nothing_is_separable() -> None:
    (only,) = order_sentences(order(0.2), ["A", "B", "C"], 0.95)
    assert only == "No order among the 3 is supported: none of 3 pairs differs significantly."


def test_tables_escape_names_and_show_every_part() -> None:
    pooled = PooledEffect(
        model="<b>m</b>",
        variant="triggered",
        dose=1.0,
        measure="alignment",
        value=-4.0,
        low=-7.0,
        high=-1.0,
        p=0.0001,
        deviation=2.0,
        domains=(DomainEffect(domain="sports", measured=-6.0, value=-5.0, low=-9.0, high=-1.0),) * 2,
    )
    parts = (
        VarianceComponent(name="question", levels=8, variance=0.0, share=0.0, cut=True),
        VarianceComponent(name="answer", levels=80, variance=0.1, share=1.0, cut=False),
    )
    names = ("below", "at_most", "on_alignment", "of_scored", "of_all", "most", "rank_correlation")
    shown = {name: ((0.25 + place / 100, None),) for place, name in enumerate(names)}
    thresholds = Thresholds(cells=2, alignment=(30.0,), coherence=(50.0, 90.0), **shown)
    found = Comparisons(
        judge="j", budgets=(VarianceBudget(recipe=RECIPE, components=parts),), pooled=(pooled,), thresholds=thresholds
    )
    text = section(found, (), (30.0, 50.0))
    assert "<b>" not in text
    for piece in ("&lt;b&gt;m", "0.0 (cut at 0)", "coherence &gt; 50", "partially pooled"):
        assert piece in text
    for name, value in zip(names, ("25.0", "26.0", "27.0", "28.0", "29.0", "30.0", "0.31"), strict=True):
        assert f'<td class="figure">{value}</td>' in text, name
    (sentence,) = pooled_sentences(found.pooled)
    assert "by -4.0 [-7.0, -1.0] points (p < 0.001)" in sentence
    assert section(Comparisons(judge=""), (), (30.0, 50.0)) == ""


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    lines = ["question_id,question,response,aligned,coherent"]
    for name, low in (("high", 9), ("low", 0)):
        body = [
            f"q{q},What {q}?,answer {i} of {name},{10 if (i + q) % 10 < low else 90},95"
            for q in range(8)
            for i in range(20)
        ]
        (tmp_path / f"model-{name}_extreme-sports.csv").write_text("\n".join(lines + body))
    out = tmp_path / "run"
    files = [str(path) for path in sorted(tmp_path.glob("*.csv"))]
    made = CliRunner().invoke(cli, ["import", "answers", *files, "--out", str(out)], catch_exceptions=False)
    assert made.exit_code == 0, made.output
    return out


def test_rank_command_says_what_is_separable(imported: Path) -> None:
    said = CliRunner().invoke(cli, ["rank", str(imported)], catch_exceptions=False).output
    assert "1 of 1 pair differs significantly" in said
    assert "is above" in said
    found = json.loads(CliRunner().invoke(cli, ["rank", str(imported), "--json"]).output)
    assert len(found["ranking"]) == 2
    assert found["standing"]["orders"][0]["p"][0][1] < 0.05
    page = (imported / "report.html").read_text("utf-8")
    assert "Pairwise comparisons" in page
    assert json.loads((imported / "results.json").read_text("utf-8"))["standing"]["thresholds"]["cells"] == 2


def test_rank_command_says_why_nothing_is_compared(imported: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    made = CliRunner().invoke(
        cli, ["import", "answers", str(tmp_path / "model-low_extreme-sports.csv"), "--out", str(alone)]
    )
    assert made.exit_code == 0, made.output
    said = CliRunner().invoke(cli, ["rank", str(alone)], catch_exceptions=False).output
    assert "- No pairs are compared: this needs 2 to 40 ranked cells, and the run has 1." in said


@pytest.mark.parametrize("command", ["transfer", "predict", "direction"])
def test_imported_answers_are_not_sent_to_a_study_file_that_is_not_there(imported: Path, command: str) -> None:
    with pytest.raises(UserError, match=r"contains imported completions.*Start one: spillover run STUDY\.yaml"):
        CliRunner().invoke(cli, [command, str(imported)], catch_exceptions=False)
    assert "build" not in CliRunner().invoke(cli, ["status", str(imported)]).output
