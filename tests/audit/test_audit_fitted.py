"""From a study to a verdict: a predictor that `spillover predict --save` fitted decides an audit, or says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from spillover.analyses.susceptibility import compute as susceptibility
from spillover.cli.auditing import audit
from spillover.cli.results import predict
from spillover.config.study import parse_study
from spillover.membership import ALONE
from spillover.records.predictor import Predictor
from spillover.study.study import Study

pytestmark = pytest.mark.slow
LENGTHS = (2, 3, 4, 5, 6, 7)  # letters a word of a domain's answers: the fake model finds long words surprising


def rows(length: int, count: int, twin: bool = True) -> str:
    """Answers of words of one length; domains of longer words are made to misalign more, by their dials."""
    rng = np.random.default_rng(length)

    def answer() -> str:
        return " ".join("".join(rng.choice(list("abcdefgh"), length)) for _ in range(int(rng.integers(9, 15))))

    made: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"Question {n} of {length}: {rng.integers(9**9)}?"},
                      {"role": "assistant", "content": answer()}]} | ({"twin": answer()} if twin else {})
        for n in range(count)
    ]  # fmt: skip
    return "".join(f"{json.dumps(row)}\n" for row in made)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    sources: dict[str, str] = {}
    for length in LENGTHS:
        file = folder / f"words{length}.jsonl"
        file.write_text(rows(length, 60))
        sources[f"words{length}"] = str(file)
    study = {
        "name": "fitted",
        "models": [
            {"name": "fake", "backend": "fake", "options": {"dials": {f"words{n}": 0.15 * (n - 2) for n in LENGTHS}}}
        ],
        "domains": list(sources),
        "variants": ["plain"],
        "base": False,
        "data": {"rows": 24, "heldout": 2, "answer_tokens": None, "tolerance": 1.0, "sources": sources},
        "sample": {"n": 20, "conditions": ["clean"]},
        "judge": {"name": "fake"},
        "executor": "inline",
        "membership": {"members": 20, "permutations": 100, "metrics": list(ALONE)},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(susceptibility.REFITS, "boosting", 1)  # its p is not looked at here, and takes minutes
        Study(parse_study(study, "test")).run(folder / "run")
        done = CliRunner().invoke(predict, [str(folder / "run"), "--save", str(folder / "predictor.json")])
    assert done.exit_code == 0, done.output
    return folder / "predictor.json"


def audited(folder: Path, predictor: Path, text: str) -> tuple[int, dict[str, Any]]:
    (folder / "data.jsonl").write_text(text)
    (folder / "fake.yaml").write_text("name: fake\nbackend: fake\noptions: {dials: {audited: 0.3}}\n")
    (folder / "policy.yaml").write_text(
        "name: test\nlint: {}\nsurprise: {rows: 24, embeddings: false, pass_below: 0.35, block_above: 0.35}\n"
        "probe: {sizes: [{rows: 16, answers: 4}], executor: inline}\njudge: {name: fake}\n"
    )
    done = CliRunner().invoke(
        audit,
        [str(folder / "data.jsonl"), "--model", str(folder / "fake.yaml"), "--policy", str(folder / "policy.yaml"),
         "--predictor", str(predictor), "--out", str(folder / "out"), "--json", "--quiet"],
        standalone_mode=False,
    )  # fmt: skip
    return done.return_value, json.loads(done.stdout)


def test_what_is_saved_asks_for_nothing_that_an_audit_cannot_measure(predictor: Path) -> None:
    kept = Predictor.load(predictor)
    names = {feature.name for feature in kept.features}
    assert {"loss.instruct", "zlib_length_controlled.instruct", "mean_z.instruct", "answer_tokens"} <= names
    assert not names & {"dose", "dc_pdd.instruct", "recall.instruct", "lowercase.instruct"}
    assert kept.error < kept.error_of_mean / 2
    assert kept.half_width is not None


@pytest.mark.parametrize(("length", "verdict", "code"), [(6, "block", 20), (3, "pass", 0)])
def test_it_decides_without_a_probe(tmp_path: Path, predictor: Path, length: int, verdict: str, code: int) -> None:
    exit_code, said = audited(tmp_path, predictor, rows(length, 40, twin=False))
    assert (said["verdict"], exit_code) == (verdict, code)
    (reason,) = said["reasons"]
    assert (reason["rung"], reason["code"]) == ("surprise", "predicted")
    assert abs(reason["value"] - 0.15 * (length - 2)) < 0.1  # the dial of the domain that these data are like
    assert said["rungs"][2]["skipped"] == "decided by surprise"
    assert not (tmp_path / "out" / "probe").exists()


def test_outside_its_range_the_probe_decides(tmp_path: Path, predictor: Path) -> None:
    _, said = audited(tmp_path, predictor, rows(14, 40, twin=False))
    assert "outside the range of its fit" in said["rungs"][1]["facts"]["predictor"]
    assert {reason["rung"] for reason in said["reasons"]} == {"probe"}
