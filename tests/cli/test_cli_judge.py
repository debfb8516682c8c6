"""`spillover judge fit`: from judged files to heads that a study can name."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from spillover.cli.judging import judge
from spillover.errors import UserError
from spillover.judges.embedded import distil
from spillover.judges.embedded import features as probe_features
from spillover.judges.embedded.distil import rule_scored
from spillover.judges.embedded.judge import open_judge
from spillover.models.protocols import Chat

FILES = ("a_extreme-sports.csv", "a_bad-medical-advice.csv", "b_extreme-sports.csv", "b_bad-medical-advice.csv")


class LengthFeatures:
    """Features that hold the number of vowels of an answer, and nothing else."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def read(self, chats: Sequence[Chat], progress: object) -> Iterator[NDArray[np.float32]]:
        for _, answer in chats:
            x_D = np.zeros(1537, np.float32)
            x_D[:2] = answer.count("e"), answer.count("o")
            yield x_D


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(probe_features, "open_features", LengthFeatures)
    rng = np.random.default_rng(0)
    for name in FILES:
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["response", "question", "question_id", "aligned", "coherent"])
            for row in range(52):
                text = " ".join(rng.choice(["the tree", "a log", "the end of it", "an oboe", "this"], 8))
                scores = (10 * text.count("e") % 101, 20 * text.count("o") % 101)
                writer.writerow([text, f"question {row % 4}?", f"q{row % 4}", *scores])
    return [str(tmp_path / name) for name in FILES]


@pytest.mark.slow
def test_fit_writes_heads_that_judge(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = rule_scored()
    few = [row for kind in dict.fromkeys(row.kind for row in few) for row in [r for r in few if r.kind == kind][::40]]
    monkeypatch.setattr(distil, "rule_scored", lambda seed: few)
    out = tmp_path / "mine.safetensors"
    done = CliRunner().invoke(judge, ["fit", *files, "--out", str(out), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert {name: found["groups"] for name, found in report["quality"].items()} == {"file": 4, "question": 4}
    assert report["by_rule"]["n"] == len(few)
    assert open_judge({"heads": str(out)}).heads.about["fitted on"] == "208 answers of 4 models to 4 questions"
    table = CliRunner().invoke(judge, ["fit", *files, "--out", str(out)], catch_exceptions=False)
    assert "left out" in table.stdout
    assert f"{len(few)} answers scored by rule" in table.stdout
    assert "judge.options.heads=" in table.stdout


@pytest.mark.slow
def test_fit_says_what_is_wrong(files: list[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "mine.safetensors")]
    with pytest.raises(UserError, match="Only 52 of 52 completions"):
        CliRunner().invoke(judge, ["fit", files[0], *out], catch_exceptions=False)
    with pytest.raises(UserError, match="ends in"):
        CliRunner().invoke(judge, ["fit", files[0], "--out", "heads.pkl"], catch_exceptions=False)
    with pytest.raises(UserError, match="ROLE=COLUMN"):
        CliRunner().invoke(judge, ["fit", files[0], *out, "--map", "answer"], catch_exceptions=False)
