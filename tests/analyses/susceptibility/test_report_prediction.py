"""Prediction, membership and diversity in the page: their figures, honest words, and nothing where nothing is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_report_charts import labels_in
from test_report_page import Reader

from spillover.analyses.diversity import report as diversity
from spillover.analyses.membership import report as membership
from spillover.analyses.susceptibility import report as susceptibility
from spillover.records.base import Cell, Estimate, Record
from spillover.records.data import DiversityScore, HighRate, MembershipSummary, RocPoint, Susceptibility
from spillover.records.report_data import ReportData
from spillover.report import curves
from spillover.report.labels import Labels
from spillover.study import page
from spillover.study.results import results

NASTY = "</table><script>alert(1)</script>\u202e"


def feature(name: str, points: tuple[tuple[str, float, float], ...], **changes: Any) -> Susceptibility:
    fields: dict[str, Any] = {
        "name": name, "kind": "feature", "before": True, "target": "rate", "judge": "probe:abc", "cells": 33,
        "domains": 11, "missing": 0, "spearman": 0.61, "low": -0.12, "high": 0.93, "p": 0.012, "p_max": 0.2,
        "permuted": "blocks", "leave_one_out_low": 0.5, "leave_one_out_high": 0.7, "points": points,
    }  # fmt: skip
    return Susceptibility(**(fields | changes))


def span(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high)


def membership_row(cell: Cell, reading: str, auc: float, metric: str = "mean_z", **changes: Any) -> MembershipSummary:
    fields: dict[str, Any] = {
        "cell": cell, "metric": metric, "reading": reading, "primary": metric == "mean_z", "members": 64,
        "nonmembers": 20, "missing": 1, "auc": auc, "auc_low": auc - 0.1, "auc_high": auc + 0.1, "tpr": 0.1,
        "tpr_low": 0.0, "tpr_high": 0.3, "p": 0.004, "mean_members": -1.25, "mean_nonmembers": -1.5,
        "loss_auc": 0.71, "blind_auc": 0.52,
    }  # fmt: skip
    return MembershipSummary(**(fields | changes))


@pytest.fixture(scope="module")
def predicted(study: ReportData) -> ReportData:
    rng = np.random.default_rng(0)
    cells = [s for s in study.scores if s.condition == "clean" and s.cell.variant != "base"]
    points = tuple((s.cell.name, float(rng.normal()), s.rate or 0.0) for s in cells)
    guesses = tuple((name, 0.3, rate) for name, _, rate in points)
    rows = (
        feature("mean_z.instruct", points),
        feature("diversity.answer.semantic", points, p_max=0.03, spearman=-0.8),
        feature(NASTY, points, before=False, p=None, p_max=None, spearman=None, low=None, high=None),
        feature("mean_z.instruct", points, target="mean_alignment"),
        feature("ridge", guesses, kind="predictor", p=0.4, p_max=None, error=0.171, error_of_mean=0.164),
    )
    memberships = tuple(
        membership_row(s.cell, reading, auc, metric)
        for s in cells
        for metric, reading, auc in (("mean_z", "instruct", 0.5), ("mean_z", "tuned", 0.8), ("loss", "tuned", 0.7))
    )
    diverse = tuple(
        DiversityScore(
            domain=s.cell.domain, variant=s.cell.variant, dose=s.cell.dose, measure=measure, of="answer", rows=300,
            n=240, value=12.345, low=11.13, high=13.56, convergence=((50, 8.0), (100, 10.5), (240, 12.345)),
        )
        for s in cells
        for measure in ("vendi_q1", NASTY)
    )  # fmt: skip
    return replace(
        study, found={Susceptibility: tuple(rows), MembershipSummary: tuple(memberships), DiversityScore: diverse}
    )


@pytest.mark.slow
def changed(data: ReportData, *rows: Record) -> ReportData:
    """With these rows in place of those of their kind."""
    return replace(data, found={**data.found, type(rows[0]): rows})


def test_sections_are_there_only_with_rows(predicted: ReportData, study_page: str) -> None:
    titles = ("Prediction of misalignment from the data", "Membership inference", "Diversity of the data sets")
    html = page.render(predicted)
    assert all(f"<h2>{title}</h2>" in html for title in titles)
    assert not any(title in study_page for title in titles)
    reader = Reader(html)
    assert "script" not in reader.tags
    assert "\u202e" not in html
    assert page.render(predicted) == html


@pytest.mark.slow
def test_features_stand_with_their_figures_most_convincing_first(predicted: ReportData) -> None:
    html = susceptibility.section(predicted, Labels(s.cell for s in predicted.scores))
    assert html.index('<th scope="row">diversity.answer.semantic') < html.index('<th scope="row">mean_z.instruct')
    assert "0.61 [−0.12, 0.93]" in html
    assert "0.50 to 0.70" in html
    assert "Features and predictors against mean alignment" in html


def test_words_say_what_eleven_domains_cannot_show(predicted: ReportData) -> None:
    said = " ".join(susceptibility.sentences(susceptibility.main_rows(predicted)))
    assert "|r| = 0.60" in said
    assert "at least 0.76" in said
    assert "Allowing for 2 features tested, these correlate with the rate: diversity.answer.semantic" in said
    assert "a mean error of 17.1 points" in said
    assert "has 16.4: not significantly better than chance (p = 0.4)" in said
    none = [r.model_copy(update={"p_max": 0.5}) for r in predicted.of(Susceptibility) if r.kind == "feature"]
    assert (
        "none correlates significantly with the rate. Uncorrected, 2 have p < 0.05; about 0.1 are expected by chance"
        in " ".join(susceptibility.sentences(none))
    )
    few = [r.model_copy(update={"domains": 3}) for r in none]
    assert susceptibility.sentences(few) == [
        "3 domains are too few to show a correlation, however many cells they have."
    ]


@pytest.mark.slow
def test_scatter_draws_every_cell_with_both_intervals(predicted: ReportData) -> None:
    html = susceptibility.section(predicted, Labels(s.cell for s in predicted.scores))
    assert html.count("<figure>") == 3  # the primary, the best and the predictor
    assert "mean_z.instruct, named in advance" in html
    assert "diversity.answer.semantic, best of those known before training" in html
    cells = [curves.Point("a", "plain", (1.0, 0.5, 1.5), (20.0, 10.0, 30.0)),
             curves.Point("b", "control", (2.0, 2.0, 2.0), (5.0, 1.0, 9.0))]  # fmt: skip
    figure = curves.scatter("t", "x", "y", cells, diagonal=True)
    assert figure is not None
    marks = labels_in(figure.wide)
    assert "a, fine-tuned: 1; 20.0 [10.0, 30.0]" in marks
    assert "b, benign twin (control): 2; 5.0 [1.0, 9.0]" in marks
    assert curves.scatter("t", "x", "y", []) is None


@pytest.mark.slow
def test_a_roc_is_drawn_with_whiskers_and_says_what_high_is(predicted: ReportData) -> None:
    def told(row: Susceptibility) -> Susceptibility:
        cut = float(np.median([rate for _, _, rate in row.points]))
        high = sum(rate > cut for _, _, rate in row.points)
        point = RocPoint(above=0.0, false_positive=span(0.4, 0.2, 0.6), true_positive=span(0.7, 0.5, 0.9))
        found = HighRate(
            cut=cut, cells=high, others=len(row.points) - high, auc=span(0.66, 0.41, 0.83), p=0.21, roc=(point,)
        )
        return row.model_copy(update={"high_rate": found})

    rows = tuple(told(r) if r.target == "rate" else r for r in predicted.of(Susceptibility))
    html = susceptibility.section(changed(predicted, *rows), Labels(s.cell for s in predicted.scores))
    assert html.count("<figure>") == 6  # each scatter with its curve
    assert "Classification of cells with a high rate" in html
    assert "0.66 [0.41, 0.83]" in html
    assert "the median over domains" in html
    Reader(html)
    plain, drawn = (
        curves.roc_curves("t", [("a", True, [(0.0, 0.0), (0.5, 1.0), (1.0, 1.0)])], spans)
        for spans in ((), [((0.5, 0.2, 0.7), (1.0, 0.8, 1.0))])
    )
    assert plain is not None
    assert drawn is not None
    assert drawn.wide.count("<line") == plain.wide.count("<line") + 2


def test_spans_of_a_feature_are_those_of_its_records(predicted: ReportData) -> None:
    spans = susceptibility._spans("mean_z.tuned.auc", predicted)
    assert all(span == pytest.approx((0.8, 0.7, 0.9)) for span in spans.values())
    plain = susceptibility._spans("diversity.answer.vendi_q1", predicted)
    assert len(plain) == len({s.cell for s in predicted.scores if s.cell.variant != "base"})


def test_a_mean_of_a_metric_is_drawn_with_its_interval(predicted: ReportData) -> None:
    rows = [
        m.model_copy(update={"mean_members_low": -1.4, "mean_members_high": -1.1})
        for m in predicted.of(MembershipSummary)
    ]
    spans = susceptibility._spans("mean_z.instruct", changed(predicted, *rows))
    assert set(spans.values()) == {(-1.25, -1.4, -1.1)}


def test_domains_have_a_table_of_feature_against_rate(predicted: ReportData) -> None:
    rows = susceptibility.main_rows(predicted)
    html = susceptibility._domains(rows, predicted)
    assert "By domain: mean over its cells (smallest to largest)" in html
    cells = {s.cell.name: s.cell.domain for s in predicted.scores}
    rates: dict[str, list[float]] = {}
    for name, _, rate in rows[0].points:
        rates.setdefault(cells[name], []).append(100 * rate)
    worst = max(rates, key=lambda domain: float(np.mean(rates[domain])))
    assert html.index(f">{worst.replace('_', ' ')}<") == min(
        html.index(f">{domain.replace('_', ' ')}<") for domain in rates
    )
    shown = f"{np.mean(rates[worst]):.3g} ({min(rates[worst]):.3g} to {max(rates[worst]):.3g})"
    assert shown in html
    assert "mean_z.instruct" in html
    assert susceptibility._domains((), predicted) == ""


def test_pooled_auc_weighs_cells_by_their_pairs() -> None:
    a, b = (Cell(model="m", domain=d, variant="plain") for d in "ab")
    rows = [membership_row(a, "tuned", 0.9, members=10, nonmembers=10), membership_row(b, "tuned", 0.6)]
    value, low, high = membership.pooled(rows) or (0, 0, 0)
    assert value == pytest.approx((0.9 * 100 + 0.6 * 64 * 20) / (100 + 64 * 20))
    assert (low, high) == (0.6, 0.9)
    assert membership.pooled([rows[0].model_copy(update={"auc": None})]) is None


def test_membership_stands_beside_its_baselines(predicted: ReportData) -> None:
    html = membership.section(predicted.of(MembershipSummary), Labels(s.cell for s in predicted.scores))
    assert "mean_z, primary" in html
    assert "0.80 [0.70, 0.90]" in html
    row = re.search(r'<tr><th scope="row">evil math</th>(.*?)</tr>', html)
    assert row is not None
    assert re.findall(r">([^<]+)</td>", row[1])[2:] == ["10.0 [0.0, 30.0]", "0.004", "+0.25", "0.71", "0.52", "64 / 20"]


@pytest.mark.slow
def test_diversity_has_a_line_a_data_set(predicted: ReportData) -> None:
    html = diversity.section(predicted.of(DiversityScore))
    assert "<caption>Diversity at 240 rows each: Vendi scores of the answers; ±: half of the interval" in html
    assert '<td class="figure">12.3 ± 1.2</td>' in html
    assert "other measures of the answers" in html
    assert "<details>" not in html, "what there is one of is not folded away"
    (first, *_) = predicted.of(DiversityScore)
    big = first.model_copy(update={"value": 1234.5, "low": 1000.0, "high": 1469.0, "of": "question", "id": ""})
    both = diversity.section((big, *predicted.of(DiversityScore)))
    assert "1,234 ± 234" in both
    assert "2.00 ± 0.030" in diversity.section([first.model_copy(update={"value": 2.0, "low": 1.97, "high": 2.03})])
    assert both.index("of the answers") < both.index("<summary>Diversity of the questions</summary>")
    figure = curves.growth_curves("t", "y", [("a", "plain", ((10, 1.0), (20, 1.5)))])
    assert "a, fine-tuned: 1.5 at 20 rows" in labels_in(figure.narrow)


def test_results_hold_every_row(predicted: ReportData) -> None:
    content = json.loads(json.dumps(results(predicted), allow_nan=False))
    assert [row["name"] for row in content["susceptibility"]] == [r.name for r in predicted.of(Susceptibility)]
    assert content["membership"][0]["domain"] == predicted.of(MembershipSummary)[0].cell.domain
    assert len(content["diversity"]) == len(predicted.of(DiversityScore))
