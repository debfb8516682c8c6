"""Two drivers on one run, on machines whose locks do not reach each other: no row is lost or doubled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spillover import Run, Study
from spillover.config.study import load_study

STUDY = {
    "name": "twice",
    "models": [{"name": "fake-model", "backend": "fake", "options": {"delay_s": 0.003}}],
    "domains": ["bad_medical_advice"],
    "data": {"rows": 24, "answer_tokens": 40, "tolerance": 0.2},
    "sample": {"n": 6},
    "judge": {"name": "fake"},
    "executor": "inline",
}
DRIVER = """
import sys
from spillover import Study
from spillover.store import store
store.lock = lambda path, wait_s: open(path, "a+")  # as on a shared disk without locks
run = Study.load(sys.argv[1]).run(sys.argv[2])
assert not run.manifest.failures, run.manifest.failures
"""


@pytest.mark.slow
def test_two_drivers_whose_locks_do_not_reach_each_other(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    command = [sys.executable, "-c", DRIVER, str(file), str(tmp_path / "run")]
    drivers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [driver.communicate()[1].decode() for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], errors
    run = Run.open(tmp_path / "run")
    ids = [row.id for row in run.completions()]
    assert len(ids) == len(set(ids)) == 5 * 15 * 6
    alone = Study(load_study(file)).run(tmp_path / "alone")
    assert [row.model_dump() for row in run.completions()] == [row.model_dump() for row in alone.completions()]
    assert [row.model_dump() for row in run.judgments()] == [row.model_dump() for row in alone.judgments()]
    assert not list((tmp_path / "run").glob("rows/**/*.open"))
