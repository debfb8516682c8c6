"""The membership stage on a real fine-tune that overfits: it remembers its rows.

The blind AUC of a single draw of 16 and 24 rows says little: over 24 draws its mean is 0.52 and its standard deviation
0.11. That it is at chance over draws is the subject of tests/data/recipe/test_nonmembers.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from spillover.config.study import parse_study
from spillover.membership import PRIMARY
from spillover.study.study import Study


@pytest.mark.slow
def test_an_overfit_model_knows_its_rows_from_others_of_the_same_draw(tmp_path: Path) -> None:
    study = {
        "name": "overfit",
        "domains": ["bad_medical_advice"],
        "variants": ["plain"],
        "base": False,
        "data": {"rows": 16, "heldout": 0, "nonmembers": 24, "answer_tokens": 40, "tolerance": 0.2},
        "train": {"epochs": 4, "learning_rate": 3.0e-3, "batch_size": 4},
        "sample": {"n": 1, "limit": 1, "max_tokens": 4, "conditions": ["clean"]},
        "executor": "inline",
        "membership": {"members": 16, "metrics": ["min_k"], "permutations": 500},
    }
    run = Study(parse_study(study, "test")).run(tmp_path / "run", stages=["build", "train", "membership"])
    found = {(row.metric, row.reading): row for row in run.memberships() if row.cell.domain != "all"}
    for (metric, reading), row in found.items():
        print(f"{metric:12} {reading:22} {row.auc:.2f} [{row.auc_low:.2f}, {row.auc_high:.2f}] p {row.p:.3f}")
    before, primary = found["loss", "instruct"], found[PRIMARY, "tuned_minus_instruct"]
    assert (primary.members, primary.nonmembers, primary.missing) == (16, 24, 0)
    assert before.auc_low < 0.5 < before.auc_high  # pyright: ignore  # nothing tells them before training
    assert primary.auc > 0.8  # pyright: ignore
    assert primary.p < 0.01  # pyright: ignore
    assert primary.auc > primary.blind_auc + 0.2  # pyright: ignore
