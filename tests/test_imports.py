"""What is only needed when something runs is only imported then: --help, list, plan and report stay light."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from places import ROOT

EXAMPLE = ROOT / "examples" / "embedded.yaml"
HEAVY = {"torch", "transformers", "peft", "polars", "altair", "scipy", "vl_convert", "gguf", "accelerate"}
NOT_FOR_A_LAPTOP = {"torch", "transformers", "peft"}

WATCH = """
import json, sys
try:
    {code}
except SystemExit as end:
    if end.code not in (0, None):
        raise
finally:
    print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", WATCH.format(code=code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*args: str) -> str:
    return f"from spillover.cli.main import main; main({list(args)!r})"


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import spillover",
        "from spillover import StudyConfig",
        command("--help"),
        command("--version"),
        command("run", "--help"),
        command("env", "--json"),
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert modules_after(code) & HEAVY == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "from spillover import Run, Study",
        command("list", "domains"),
        command("list", "backends"),
        command("plan", str(EXAMPLE)),
        "import spillover.study.run",
        "import spillover.study.page",
        "import spillover.analyses.ranking.compute",
    ],
)
def test_no_model_library_is_imported(code: str) -> None:
    assert modules_after(code) & NOT_FOR_A_LAPTOP == set()


def test_the_watch_sees_a_heavy_import() -> None:
    assert "scipy" in modules_after("import scipy")
