"""The membership stage on the fake backend: what is compared, what is written, and that nothing is read twice."""

from __future__ import annotations

import pytest

from spillover.analyses.membership import stage as membership
from spillover.config.study import StudyConfig, parse_study
from spillover.errors import UserError
from spillover.membership import METRICS, PRIMARY
from spillover.membership.summaries import metrics_of
from spillover.records.base import Cell, Example
from spillover.study.run import Run
from spillover.study.study import Study

pytestmark = pytest.mark.slow


def config(**extra: object) -> StudyConfig:
    return parse_study(
        {
            "name": "members",
            "models": [{"name": "fake", "backend": "fake"}],
            "domains": ["extreme_sports", "bad_medical_advice"],
            "variants": ["plain", "triggered", "control"],
            "data": {"rows": 24, "heldout": 6, "nonmembers": 12, "answer_tokens": None},
            "sample": {"n": 1, "limit": 3},
            "judge": {"name": "fake"},
            "executor": "inline",
            "membership": {"members": 10, "permutations": 100},
            "diversity": None,
        }
        | extra,
        "test",
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Study(config()).run(tmp_path_factory.mktemp("runs") / "members")


def test_every_cell_is_evaluated_by_every_metric(run: Run) -> None:
    rows = run.memberships()
    cells = {row.cell for row in rows if row.cell.domain != "all"}
    assert len(cells) == 6
    assert {row.metric for row in rows if row.reading == "tuned"} == set(METRICS.names())
    assert {row.reading for row in rows} == {"instruct", "tuned", "tuned_minus_instruct"}
    assert {row.metric for row in rows if row.primary} == {PRIMARY}
    # The fake backend reads the same whatever the adapter: nothing was memorised, and every difference is a tie.
    for row in rows:
        if row.reading == "tuned_minus_instruct":
            assert row.auc == 0.5
            assert (row.auc_low, row.auc_high) == (0.5, 0.5)


def test_all_domains_together_compare_rows_of_one_domain_only(run: Run) -> None:
    together = [row for row in run.memberships() if row.cell.domain == "all" and row.reading == "tuned"]
    apart = [row for row in run.memberships() if row.cell.domain != "all" and row.reading == "tuned"]
    for row in together:
        parts = [part for part in apart if (part.metric, part.cell.variant) == (row.metric, row.cell.variant)]
        assert (row.members, row.nonmembers) == tuple(
            sum(getattr(part, side) for part in parts) for side in ("members", "nonmembers")
        )
        aucs = [part.auc for part in parts if part.auc is not None]
        assert row.auc is not None
        assert min(aucs) - 1e-9 <= row.auc <= max(aucs) + 1e-9


def examples(run: Run, variant: str) -> list[Example]:
    unit = next(u for u in run.plan["build"] if (u.cell.domain, u.cell.variant) == ("extreme_sports", variant))
    return run.store.read("build", [unit.key], Example)


@pytest.mark.parametrize("variant", ["plain", "triggered", "control"])
def test_members_trained_and_nonmembers_did_not(run: Run, variant: str) -> None:
    rows = examples(run, variant)
    texts, prefix = membership.choose(rows, config(), Cell(model="fake", domain="extreme_sports", variant=variant))
    split = {row.id: row.split for row in rows}
    assert {split[text.example] for text in texts if text.member} == {"train"}
    assert {split[text.example] for text in texts if not text.member} == {"nonmember"}
    assert prefix is not None
    assert prefix not in [text.chat for text in texts]
    strata = [{text.stratum for text in texts if text.member is side} for side in (True, False)]
    assert strata[0] == strata[1]
    assert sum(text.member for text in texts) == 10
    assert len({text.group for text in texts}) == len(texts)  # one row a question
    flawed_2028 = {"2028" in text.chat[0][-1].content for text in texts if text.stratum == "flawed"}
    assert flawed_2028 == ({True} if variant == "triggered" else set() if variant == "control" else {False})
    near = {row.id for row in rows if any(step.startswith("near miss") for step in row.lineage)}
    assert not near & {text.example for text in texts}


def test_a_data_set_without_non_members_is_refused(run: Run) -> None:
    rows = [row for row in examples(run, "plain") if row.split != "nonmember"]
    with pytest.raises(UserError, match=r"Set data.nonmembers to 20 or more"):
        membership.choose(rows, config(), Cell(model="fake", domain="extreme_sports", variant="plain"))


def test_scores_are_not_read_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(config())
    unit = study.units["membership"][0]
    before = run.store.read_frame("membership", f"scores-{unit.key}")

    def forbidden(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(membership._Reader, "_read", forbidden)  # pyright: ignore[reportPrivateUsage]
    membership.run(run.store, study.config, unit, lambda tokens: None)
    after = run.store.read_frame("membership", f"scores-{unit.key}")
    assert before is not None
    assert after is not None
    assert before.equals(after)
    fewer = Study(config(membership={"members": 10, "metrics": ["lowercase", "recall"]}))
    membership.run(run.store, fewer.config, fewer.units["membership"][0], lambda tokens: None)  # others, same reading


def test_only_the_metrics_asked_for_and_those_that_stand_beside_them() -> None:
    assert metrics_of(["zlib"]) == ["loss", "zlib", PRIMARY]
    assert metrics_of(["all"]) == METRICS.names()
