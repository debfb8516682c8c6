"""A study that asks for membership says what goes with its damage, and its predictor is kept and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from spillover.analyses.susceptibility.compute import projections
from spillover.cli.results import predict
from spillover.config.study import parse_study
from spillover.data.domains import DOMAINS
from spillover.errors import UserError
from spillover.records.base import Cell
from spillover.records.directions import DirectionAUC
from spillover.records.predictor import Predictor
from spillover.study.run import Run
from spillover.study.study import Study

pytestmark = pytest.mark.slow

NAMES = DOMAINS.names()[:5]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    study = {
        "name": "related",
        "models": [
            {
                "name": "fake",
                "backend": "fake",
                "options": {"dials": dict(zip(NAMES, (0, 0.2, 0.4, 0.6, 0.8), strict=True))},
            }
        ],
        "domains": NAMES,
        "variants": ["plain"],
        "doses": [0.5, 1.0],
        "data": {"rows": 16, "heldout": 4, "answer_tokens": None},
        "sample": {"n": 8, "limit": 6, "conditions": ["clean"]},
        "judge": {"name": "fake"},
        "executor": "inline",
        "membership": {"members": 6, "metrics": ["loss", "zlib"], "permutations": 100},
    }
    return Study(parse_study(study, "test")).run(tmp_path_factory.mktemp("runs") / "related")


def test_features_are_related_to_the_rates(run: Run) -> None:
    rows = run.susceptibility()
    features = {row.name for row in rows if row.kind == "feature" and row.target == "rate"}
    assert {"loss.instruct", "zlib.instruct", "mean_z.instruct", "answer_tokens", "dose"} <= features
    assert {row.name for row in rows if row.kind == "predictor"} == {"ridge", "boosting"}
    assert all(row.domains == 5 and row.cells == 10 for row in rows if row.name == "loss.instruct")
    page = (run.path / "report.html").read_text("utf-8")
    assert "Prediction of misalignment from the data" in page
    assert json.loads((run.path / "results.json").read_text("utf-8"))["susceptibility"]


def test_a_predictor_is_saved_with_its_error_and_read_again(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "predictor.json"
    done = CliRunner().invoke(predict, [str(run.path), "--save", str(file), "--feature", "loss.instruct", "--json"])
    assert done.exit_code == 0, done.output
    kept = Predictor.load(file)
    assert [feature.name for feature in kept.features] == ["loss.instruct"]
    assert kept.provenance.study_hash == run.manifest.study_hash
    assert json.loads(done.stdout)["predictor"]["error"] == kept.error


def test_a_run_without_features_says_what_to_do(tmp_path: Path, run: Run) -> None:
    config = run.config
    assert config is not None
    bare = Study(config.model_copy(update={"membership": None})).run(tmp_path / "bare")
    assert bare.susceptibility() == ()
    done = CliRunner().invoke(predict, [str(bare.path)])
    assert isinstance(done.exception, UserError)
    assert "membership: {}" in str(done.exception)


def test_other_domains_directions_become_a_feature_of_a_data_set() -> None:
    a, b, c = (Cell(model="m", domain=name, variant="plain") for name in "abc")

    def row(cell: Cell, onto: Cell, auc: float, source: str = "pairs", reader: str = "base") -> DirectionAUC:
        return DirectionAUC.model_validate(
            {"cell": cell, "onto": onto, "source": source, "reader": reader, "method": "mean_difference", "judge": "",
             "layer": 9, "misaligned": 4, "aligned": 4, "questions": 4, "auc": auc, "low": 0.1, "high": 0.9,
             "pooled": auc}
        )  # fmt: skip

    rows = [row(a, c, 0.9), row(b, c, 0.6), row(c, c, 1.0), row(a, b, 0.4), row(a, c, 0.0, source="judged"),
            row(b, a, 0.1, reader="tuned")]  # fmt: skip
    found = projections(rows)
    assert found.keys() == {c, b}
    assert found[c] == {"directions.others.auc": pytest.approx(0.75)}
    assert found[b] == {"directions.others.auc": pytest.approx(0.4)}
    assert projections([]) == {}
