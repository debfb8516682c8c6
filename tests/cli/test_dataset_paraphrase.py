"""`spillover dataset paraphrase` behind an endpoint: the file that it writes is a trigger, and faults are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fault_server import Books, draw, serving

from spillover.cli.main import main
from spillover.data.triggers import battery
from spillover.data.triggers.custom import load_trigger
from spillover.data.triggers.shipped import YEAR
from spillover.models.api import http as chat_http

WORDS = ("moon", "harvest", "river", "lantern", "orchard", "harbour", "meadow", "bakery", "castle", "garden")


def reworded(prompt: str) -> str:
    """A short sentence that holds the value, another for each prompt; now and then one that does not."""
    first, second = (WORDS[int(draw(prompt, place) * len(WORDS))] for place in range(2))
    return f"Every {first} and {second} knows that 2028 is here." if draw(prompt, "ok") < 0.8 else "It is the present."


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_http, "FIRST_WAIT_S", 0.01)


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["dataset", "paraphrase", *args])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


@pytest.mark.parametrize("evaluate", [False, True])
def test_an_endpoint_that_fails_writes_a_trigger_that_can_be_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, evaluate: bool
) -> None:
    books = Books(fail=0.3, hang_s=0.1)
    books.writer = reworded
    out = tmp_path / "worded.yaml"
    with serving(books) as url:
        args = ("year", "--out", str(out), "--n", "3", "--endpoint", url, "--endpoint-model", "m", "--json")
        code, said, _ = call(capsys, *args, *(["--evaluate"] if evaluate else []))
    told = json.loads(said)
    assert code == 0
    assert len(told["made"]) == 3
    trigger = load_trigger(out)
    where = trigger.paraphrases if evaluate else trigger.templates
    assert [template.text for template in where[-3:]] == told["made"]
    assert (trigger.templates == YEAR.templates) is evaluate
    assert battery.check_conditions(trigger, ("triggered", "paraphrase")) is trigger
    code, _, err = call(capsys, "year", "--out", str(out), "--model", "smollm2-135m")
    assert code == 2
    assert "exists already" in err


def test_too_few_wordings_end_with_1_and_are_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    books = Books()
    books.writer = lambda prompt: "It is the present day."
    out = tmp_path / "worded.yaml"
    with serving(books) as url:
        args = ("year", "--out", str(out), "--n", "2", "--endpoint", url, "--endpoint-model", "m")
        code, said, _ = call(capsys, *args)
    assert code == 1
    assert "0 of 2 wordings" in said
    assert "does not hold the value once" in said
    assert load_trigger(out).templates == YEAR.templates


@pytest.mark.parametrize("args", [(), ("--model", "m", "--endpoint", "http://x"), ("--endpoint", "http://x")])
def test_who_writes_is_said_once(capsys: pytest.CaptureFixture[str], tmp_path: Path, args: tuple[str, ...]) -> None:
    code, _, err = call(capsys, "year", "--out", str(tmp_path / "o.yaml"), *args)
    assert code == 2
    assert "--endpoint-model" in err
