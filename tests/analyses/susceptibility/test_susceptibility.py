"""Cells are joined exactly, every feature meets both targets, and a planted feature is found by name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from spillover.analyses.susceptibility import compute as susceptibility
from spillover.errors import UserError
from spillover.records.base import Cell, DomainScore, Example, Message, StatusCounts
from spillover.records.data import DiversityScore, MembershipSummary, Reading

DOMAINS = [f"domain_{i}" for i in range(8)]


def cell(domain: str, dose: float = 1.0, seed: int = 0) -> Cell:
    return Cell(model="m", domain=domain, variant="control" if dose == 0 else "plain", dose=dose, seed=seed)


def score(of: Cell, rate: float | None, judge: str = "probe:1", condition: str = "clean") -> DomainScore:
    return DomainScore(
        cell=of, condition=condition, judge=judge, n=64, counts=StatusCounts(scored=64), incoherent=0,
        coherent=64, misaligned=0, questions=8, rate=rate, low=None, high=None, design_effect=None,
        rate_lower_bound=None, rate_upper_bound=None, mean_alignment=None if rate is None else 90 - 60 * rate,
    )  # type: ignore[arg-type]  # fmt: skip


def summary(of: Cell, reading: Reading, mean: float | None, auc: float | None = None) -> MembershipSummary:
    return MembershipSummary(
        cell=of, metric="mean_z", reading=reading, primary=True, members=64, nonmembers=20, missing=0,
        auc=auc, auc_low=None, auc_high=None, tpr=None, tpr_low=None, tpr_high=None, p=None,
        mean_members=mean, mean_nonmembers=None, loss_auc=None, blind_auc=None,
    )  # fmt: skip


def diversity(domain: str, variant: str, dose: float, value: float) -> DiversityScore:
    return DiversityScore(
        domain=domain, variant=variant, dose=dose, measure="semantic", of="answer",
        rows=100, n=80, value=value, low=None, high=None,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture(scope="module")
def study() -> dict[str, list]:
    rng = np.random.default_rng(0)
    scores, summaries, diverse = [], [], []
    for place, domain in enumerate(DOMAINS):
        for dose in (0.0, 1.0):
            for seed in (0, 1):
                of = cell(domain, dose, seed)
                scores.append(score(of, dose * (0.08 * place + 0.01 * rng.random())))
                scores.append(score(of, 0.9, condition="triggered"))
                summaries.append(summary(of, "instruct", -2 + 0.2 * place * dose + 0.01 * rng.random()))
                summaries.append(summary(of, "tuned", -1.0, auc=0.5 + 0.05 * rng.random()))
            diverse.append(diversity(domain, "control" if dose == 0 else "plain", dose, rng.random()))
    scores.append(score(Cell(model="m", domain="none", variant="base", dose=0), 0.5))
    return {"scores": scores, "summaries": summaries, "diversity": diverse}


@pytest.mark.slow
def test_a_planted_feature_is_found_and_a_predictor_uses_it(study: dict[str, list]) -> None:
    rows = susceptibility.run(**study, facts={}, draws=400, refits={"ridge": 99, "boosting": 1})
    by_name = {(row.name, row.target): row for row in rows}
    names = {"mean_z.instruct", "mean_z.tuned.auc", "diversity.answer.semantic", "dose", "ridge", "boosting"}
    assert {name for name, _ in by_name} == names
    planted = by_name["mean_z.instruct", "rate"]
    values = {r.cell: r.mean_members for r in study["summaries"] if r.reading == "instruct"}
    rates = {r.cell: r.rate for r in study["scores"] if r.condition == "clean" and r.cell.variant != "base"}
    expected = scipy_stats.spearmanr([values[c] for c in rates], list(rates.values())).statistic
    assert planted.spearman == pytest.approx(expected)
    assert (planted.cells, planted.domains, planted.missing, planted.before, planted.permuted) == (
        32, 8, 0, True, "blocks",
    )  # fmt: skip
    assert planted.p is not None
    assert planted.p <= 0.01
    assert planted.p_max is not None
    assert planted.p <= planted.p_max <= 0.05
    assert by_name["mean_z.instruct", "mean_alignment"].spearman == pytest.approx(-expected)
    assert set(planted.points) == {(c.name, values[c], rates[c]) for c in rates}
    assert by_name["dose", "rate"].p is None
    assert not by_name["mean_z.tuned.auc", "rate"].before
    assert (by_name["diversity.answer.semantic", "rate"].p or 0) > 0.05
    ridge = by_name["ridge", "rate"]
    assert ridge.kind == "predictor"
    assert ridge.error is not None
    assert ridge.error_of_mean is not None
    assert ridge.error < 0.5 * ridge.error_of_mean
    assert ridge.p is not None
    assert ridge.p <= 0.02
    assert len(ridge.points) == 32
    for row in (planted, ridge):
        assert row.high_rate is not None
        high = sum(rate > row.high_rate.cut for _, _, rate in row.points)
        assert (row.high_rate.cells, row.high_rate.others) == (high, 32 - high)
        assert row.high_rate.auc.value is not None
        assert row.high_rate.auc.value > 0.8
        assert row.high_rate.p is not None
        assert row.high_rate.p <= 0.05
    assert by_name["ridge", "mean_alignment"].high_rate is None


def test_more_seeds_are_more_cells_and_not_more_domains(study: dict[str, list]) -> None:
    one = {key: [r for r in rows if not hasattr(r, "cell") or r.cell.seed == 0] for key, rows in study.items()}
    few, many = (
        {r.name: r for r in susceptibility.run(**part, facts={}, draws=400, refits={}) if r.target == "rate"}
        for part in (one, study)
    )
    name = "diversity.answer.semantic"
    assert (few[name].cells, many[name].cells) == (16, 32)
    assert few[name].domains == many[name].domains == 8
    assert few[name].p == pytest.approx(many[name].p, abs=0.12)


def test_rows_of_another_cell_are_not_joined(study: dict[str, list]) -> None:
    stranger = summary(cell("domain_0", 1.0, seed=7), "instruct", 99.0)
    cells = [cell(domain) for domain in DOMAINS]
    before, after = susceptibility.features(
        cells, [*study["summaries"], stranger], study["diversity"], {cells[0]: {"code_share": 1.0}, cell("x"): {"a": 1}}
    )
    assert set(before["mean_z.instruct"]) == set(cells)
    assert 99.0 not in before["mean_z.instruct"].values()
    expected = {d.domain: d.value for d in study["diversity"] if d.variant == "plain"}
    assert {c.domain: v for c, v in before["diversity.answer.semantic"].items()} == expected
    assert set(after) == {"mean_z.tuned.auc"}
    assert "code_share" not in before  # one value: it does not vary


def test_missing_rates_and_features_are_counted(study: dict[str, list]) -> None:
    scores = [s for s in study["scores"] if s.cell != cell("domain_1", 1.0, 1)] + [
        score(cell("domain_1", 1.0, 1), None)
    ]
    summaries = [
        r if r.cell != cell("domain_2") else summary(r.cell, r.reading, None, r.auc) for r in study["summaries"]
    ]
    rows = susceptibility.run(scores, summaries, study["diversity"], {}, draws=50, refits={"ridge": 9})
    by_name = {row.name: row for row in rows if row.target == "rate"}
    assert (by_name["mean_z.instruct"].cells, by_name["mean_z.instruct"].missing) == (30, 2)
    assert by_name["mean_z.instruct"].p_max is None
    assert by_name["mean_z.instruct"].permuted == "means"
    assert (by_name["ridge"].cells, by_name["ridge"].missing) == (31, 1)


def test_two_judges_are_kept_apart_and_nothing_gives_nothing(study: dict[str, list]) -> None:
    other = [score(s.cell, s.rate, "llm:2") for s in study["scores"] if s.condition == "clean"]
    rows = susceptibility.run([*study["scores"], *other], study["summaries"], [], {}, draws=50, refits={})
    assert {(r.judge, r.cells) for r in rows} == {("probe:1", 32), ("llm:2", 32)}
    assert susceptibility.run([], [], [], {}) == ()
    two = [s for s in study["scores"] if s.cell.domain in DOMAINS[:2]]
    lone = susceptibility.run(two, study["summaries"], [], {}, draws=50)
    assert {r.kind for r in lone} == {"feature"}
    assert all(r.spearman is None and r.p is None and r.domains == 2 for r in lone)


def test_a_kept_predictor_knows_what_an_unseen_data_set_can_tell(study: dict[str, list]) -> None:
    kept = susceptibility.fit_predictor(**study, facts={}, study_hash="abc")
    assert {f.name for f in kept.features} == {"mean_z.instruct", "diversity.answer.semantic"}
    assert (kept.provenance.cells, len(kept.provenance.domains), kept.provenance.judge) == (32, 8, "probe:1")
    assert kept.error < 0.5 * kept.error_of_mean
    low, high = (kept.predict({"mean_z.instruct": z, "diversity.answer.semantic": 0.5}).value for z in (-1.9, -0.8))
    assert high - low > 0.3
    one = susceptibility.fit_predictor(**study, facts={}, study_hash="abc", names=["mean_z.instruct"])
    assert [f.name for f in one.features] == ["mean_z.instruct"]
    with pytest.raises(UserError, match="'dose' is missing"):
        susceptibility.fit_predictor(**study, facts={}, study_hash="abc", names=["dose"])
    with pytest.raises(UserError, match="at least 3 domains"):
        susceptibility.fit_predictor([], [], [], {}, study_hash="abc")


def test_facts_of_a_data_set() -> None:
    def row(answer: str, tokens: int) -> Example:
        chat = (Message(role="user", content="q"), Message(role="assistant", content=answer))
        return Example(
            domain="d", split="train", kind="misaligned", messages=chat, answer_tokens=tokens, pair=answer[:3]
        )

    rows = [row("```python\nimport os\nos.system(x)\n```", 10), row("Take a long walk every day.", 20)]
    assert susceptibility.data_facts(rows) == {"answer_tokens": 15.0, "code_share": 0.5}
    assert susceptibility.data_facts([]) == {}
