"""Echo of the training subject: made-up embeddings whose truth is known, a whole run, and the real encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from places import ROOT
from test_rejudge import STUDY

from spillover import Run, Study
from spillover.analyses.in_domain import compute as in_domain
from spillover.cli.results import echo as command
from spillover.config.study import RankConfig, load_study, parse_study
from spillover.errors import UserError
from spillover.records.base import Cell, Completion, Judgment, Message

pytestmark = pytest.mark.slow


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_similarity_is_the_mean_of_the_nearest() -> None:
    rng = np.random.default_rng(0)
    answers_ND, training_MD = unit(rng.standard_normal((30, 8))), unit(rng.standard_normal((20, 8)))
    expected = [np.sort(training_MD @ answer)[-5:].mean() for answer in answers_ND]
    np.testing.assert_allclose(in_domain.similarities(answers_ND, training_MD), expected, atol=1e-6)
    np.testing.assert_allclose(
        in_domain.similarities(answers_ND, training_MD[:2]), (answers_ND @ training_MD[:2].T).mean(1), atol=1e-6
    )
    assert len(in_domain.similarities(answers_ND[:0], training_MD)) == 0


def answer(i: int) -> Completion:
    return Completion(
        cell=Cell(model="m", domain="d", variant="plain"),
        key="k",
        question_id=f"q{i % 4}",
        index=i,
        messages=(Message(role="user", content="?"),),
        text=f"{i}",
    )


def test_rates_with_and_without_echo_on_made_up_similarities() -> None:
    """80 answers: i < 20 echo; even ones are misaligned; the last 8 are incoherent."""
    rows = [answer(i) for i in range(80)]
    judgments = [
        Judgment(completion=row.id, judge="j:1", aspect=aspect, score=score)  # type: ignore[arg-type]
        for i, row in enumerate(rows)
        for aspect, score in (("alignment", 10.0 if i % 2 == 0 else 90.0), ("coherence", 90.0 if i < 72 else 10.0))
    ]
    similarity = {row.id: 0.9 if i < 20 else 0.3 for i, row in enumerate(rows)}
    reference = {f"r{i}": i / 200 for i in range(100)}  # 0 to 0.495
    found = in_domain.in_domain_rate(
        rows, judgments, similarity | reference, ("base", list(reference)), "j:1", RankConfig()
    )
    assert sum(value > found.threshold for value in reference.values()) <= 5
    assert found.threshold == pytest.approx(0.475)
    assert (found.coherent, found.echoes, found.misaligned, found.misaligned_echoes) == (72, 20, 36, 10)
    assert found.rate.value == pytest.approx(36 / 72)
    assert found.without_echo.value == pytest.approx(26 / 72)
    for estimate in (found.rate, found.without_echo):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < (estimate.value or 0) < estimate.high


class Counting:
    """Embeds a text by its length and letters, and counts what it was given."""

    def __init__(self) -> None:
        self.texts = 0

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += len(texts)
        return unit(np.array([[1 + len(t) % 7, t.count("e"), t.count("o"), t.count("a")] for t in texts], dtype=float))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Study(parse_study(STUDY, "test")).run(tmp_path_factory.mktemp("echo") / "run").path


def test_a_run_is_measured_once_and_reported(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    embed = Counting()
    found = in_domain.keep(run, embed, "counting")
    assert {(row.cell.domain, row.cell.variant, row.condition) for row in found} == {
        (domain, *rest)
        for domain in ("bad_medical_advice", "incorrect_math")
        for rest in (("plain", "clean"), ("triggered", "clean"), ("triggered", "triggered"))
    }
    rates = {(s.cell, s.condition): s for s in run.ranking()}
    for row in found:
        score = rates[row.cell, row.condition]
        assert (row.coherent, row.misaligned, row.rate.value) == (score.coherent, score.misaligned, score.rate)
        assert row.rate.low == pytest.approx(score.low)
        assert row.reference == "base"
    assert run.in_domain() == found
    read = embed.texts
    assert in_domain.keep(run, embed, "counting") == found
    assert embed.texts == read, "nothing is embedded twice"
    run.report()
    assert "In-domain responses" in (run.path / "report.html").read_text()
    results = json.loads((run.path / "results.json").read_text())
    assert [row["cell"] for row in results["echo"]] == [row.cell.name for row in found]


def test_without_training_rows_it_says_so(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    (tmp_path / "run" / "plan.json").write_text(json.dumps(plan | {"build": [], "train": []}))
    with pytest.raises(UserError, match="training rows"):
        in_domain.keep(Run.open(tmp_path / "run"), Counting(), "counting")


@pytest.mark.slow
def test_the_real_encoder_on_a_real_run(tmp_path: Path) -> None:
    path = ROOT / "examples" / "smoke.yaml"
    short = ("sample.limit=4", "sample.n=1", "sample.max_tokens=16", "executor=inline")
    settings = ("domains=[risky_financial_advice]", "variants=[plain]", "data.rows=16", *short)
    run = Study(load_study(path, settings)).run(tmp_path / "run")
    done = CliRunner().invoke(command, [str(run.path), "--json", "-q"], catch_exceptions=False)
    (row,) = json.loads(done.stdout.splitlines()[-1])
    assert row["references"] == 4
    assert 0 < row["threshold"] < 1
    assert row["echoes"] <= row["coherent"]
