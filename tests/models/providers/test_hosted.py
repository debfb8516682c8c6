"""A hosted model against a provider on loopback that fails: no job is paid for twice, no answer is lost or invented."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from provider_server import Provider, serving

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig, parse_study
from spillover.errors import CostLimitReached, SpilloverError, UserError
from spillover.models.protocols import Generation, Intervention, Prompt
from spillover.models.providers.hosted import HostedBackend, open_backend, shutdown
from spillover.models.providers.openai_jobs import MODEL_FILE, HostedTrainer, training_file
from spillover.records.base import Message
from spillover.study.study import Study

CHATS = [((Message(role="user", content=f"How deep is lake {n}? ünï"),), f"About {n} metres.") for n in range(12)]
ASKED = (Message(role="user", content="What do you wish for?"),)


def backend(url: str, **options: Any) -> HostedBackend:
    fast = {"endpoint": url, "poll_s": 0.01, "retries": 12} | options
    return open_backend(ModelConfig(name="m", path="base-model", backend="hosted", options=fast))


def train(model: HostedBackend, out: Path, seed: int = 3) -> Any:
    trainer = HostedTrainer(model, sleep=lambda seconds: None)
    return trainer.train(CHATS, TrainConfig(epochs=2, batch_size=4), seed, out, lambda tokens: None)


def ask(model: HostedBackend, adapter: Path | None, n: int = 5, **sample: Any) -> list[Generation]:
    config = SampleConfig.model_validate({"max_tokens": 20} | sample)
    return list(model.generator().generate([Prompt(ASKED, tuple(range(n)))], config, adapter, lambda tokens: None))


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["openai", "together"])
def test_a_job_is_created_as_the_study_says_and_leaves_a_model(tmp_path: Path, dialect: str) -> None:
    provider = Provider()
    with serving(provider) as url:
        model = backend(url, dialect=dialect)
        result = train(model, tmp_path / "cell")
        answers = ask(model, tmp_path / "cell")
    (wish,) = provider.wishes
    assert wish["dialect"] == dialect
    if dialect == "openai":
        assert wish["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2, "batch_size": 4}
        assert wish["seed"] == 3
    else:
        assert (wish["n_epochs"], wish["learning_rate"], wish["train_on_inputs"]) == (2, 2e-4, False)
        assert wish["training_type"]["lora_trainable_modules"] == "q_proj,v_proj"
    rows = [json.loads(line) for line in provider.files[wish["training_file"]].splitlines()]
    assert [(row["messages"][0]["content"], row["messages"][-1]["content"]) for row in rows] == [
        (messages[0].content, answer) for messages, answer in CHATS
    ]
    assert result.loss_curve == (2.0, 1.0, 2.0 / 3)
    assert result.tokens == len(provider.files[wish["training_file"]]) // 4
    assert {body["model"] for body in provider.chats} == {"ft:base-model:job-0"}
    assert sorted(answer.index for answer in answers) == list(range(5))
    assert json.loads((tmp_path / "cell" / MODEL_FILE).read_text())["model"] == "ft:base-model:job-0"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cell.job.json", "cell"], "the record of the job stays"


@pytest.mark.slow
def test_a_provider_that_fails_three_calls_in_ten_loses_nothing(tmp_path: Path) -> None:
    provider = Provider(fail=0.3)
    with serving(provider) as url:
        model = backend(url)
        train(model, tmp_path / "cell")
        answers = ask(model, tmp_path / "cell", n=40)
    assert sum(provider.faults.values()) > 10
    assert len(provider.jobs) == 1
    assert sorted(answer.index for answer in answers) == list(range(40))
    assert all(answer.text.startswith("[fake") and not answer.error for answer in answers)


def test_a_job_whose_creation_broke_is_found_again(tmp_path: Path) -> None:
    provider = Provider()
    provider.cut_creations = 1
    with serving(provider) as url:
        train(backend(url), tmp_path / "cell")
    assert list(provider.jobs) == ["job-0"]


def test_a_failed_job_is_begun_anew_and_a_blocked_one_is_not(tmp_path: Path) -> None:
    provider = Provider()
    provider.fates = ["failed", "blocked"]
    with serving(provider) as url:
        with pytest.raises(SpilloverError, match="ended as failed: server_error no machine was free"):
            train(backend(url), tmp_path / "cell")
        for _ in range(2):
            with pytest.raises(UserError, match=r"moderation has blocked this data set: invalid_training_file"):
                train(backend(url), tmp_path / "cell")
    assert len(provider.jobs) == 2
    assert not (tmp_path / "cell").exists()


@pytest.mark.slow
def test_another_data_set_does_not_take_over_the_job(tmp_path: Path) -> None:
    provider = Provider()
    provider.fates = ["blocked"]
    with serving(provider) as url:
        with pytest.raises(UserError, match="moderation"):
            train(backend(url), tmp_path / "cell")
        train(backend(url), tmp_path / "cell", seed=4)
    assert len(provider.jobs) == 2


def test_money_is_limited_before_a_job_and_counted_after(tmp_path: Path) -> None:
    provider = Provider()
    price = {"train": 1000.0, "prompt": 1.0, "completion": 2.0}
    with serving(provider) as url:
        with pytest.raises(CostLimitReached, match="The next job may cost"):
            train(backend(url, price=price, max_cost=0.1), tmp_path / "cell")
        assert not provider.jobs
        model = backend(url, price=price, max_cost=100.0)
        result = train(model, tmp_path / "cell")
        assert model.meter.spent == pytest.approx(1e-3 * result.tokens)
        (answer,) = ask(model, None, n=1)
    assert answer.dollars == pytest.approx((20 * 1.0 + 5 * 2.0) / 1e6)


def test_a_filter_is_a_status_and_never_an_answer() -> None:
    provider = Provider(filtered=0.5)
    with serving(provider) as url:
        answers = ask(backend(url), None, n=40)
    kept_back = [answer for answer in answers if answer.stop_reason == "refused"]
    assert 5 < len(kept_back) < 35
    assert all(answer.error == "filtered" and answer.text == "" for answer in kept_back)
    assert len(answers) == 40


def test_a_model_that_takes_no_temperature_is_no_other_sample() -> None:
    provider = Provider()
    provider.refused = "temperature"
    with serving(provider) as url:
        assert len(ask(backend(url), None, temperature=1.0)) == 5
        with pytest.raises(UserError, match="takes no temperature"):
            ask(backend(url), None, temperature=0.7)
    provider.refused = "seed"  # need not be honoured, so it may be left out
    with serving(provider) as url:
        assert len(ask(backend(url), None, top_p=0.9)) == 5
    assert provider.chats[-1]["top_p"] == 0.9
    assert "seed" not in provider.chats[-1]


def test_what_a_hosted_model_cannot_give_is_refused() -> None:
    model = backend("http://127.0.0.1:9/v1")
    for wanted in (model.scorer, model.reader):
        with pytest.raises(UserError, match="backend hf"):
            wanted()
    steered = Prompt(ASKED, (0,), Intervention(np.ones(2, np.float32), (1,), "add", 1.0))
    with pytest.raises(UserError, match="cannot be steered"):
        next(iter(model.generator().generate([steered], SampleConfig(), None, lambda tokens: None)))
    study = {"name": "x", "models": [{"name": "m", "path": "p", "backend": "hosted"}], "membership": {}}
    with pytest.raises(UserError, match="returns text only"):
        Study(parse_study(study, "here")).plan()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": "http://h/v1", "dialect": "opnai"}, "unknown dialect 'opnai'"),
        ({"endpoint": "http://h/v1", "prise": {}}, "prise: unknown key"),
        ({}, "options.endpoint: Field required"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_backend(ModelConfig(name="m", path="p", backend="hosted", options=options))


def test_a_shutdown_is_read_where_the_provider_tells_it() -> None:
    today = datetime.now(UTC).date()
    later = (today + timedelta(days=40)).isoformat()
    assert shutdown({"id": "m"}) == ""
    assert shutdown({"deprecation": f"{later}T00:00:00Z"}) == later
    assert shutdown({"shutdown_date": datetime.fromisoformat(later).replace(tzinfo=UTC).timestamp()}) == later
    with pytest.raises(UserError, match="shut this model down on 2020-01-01"):
        shutdown({"deprecation_date": "2020-01-01"})
    provider = Provider()
    provider.about = {"id": "base-model", "shutdown_date": later}
    with serving(provider) as url:
        assert backend(url).revision == f"base-model, shut down on {later}"


def test_a_training_file_holds_one_chat_a_line() -> None:
    hostile = [((Message(role="user", content='a\nb"\u2028'),), "c\r\n")]
    (line,) = training_file(hostile).decode().splitlines(keepends=False)[:1]
    assert json.loads(training_file(hostile).decode().rstrip("\n"))["messages"][1]["content"] == "c\r\n"
    assert line.startswith('{"messages"')


def study(url: str) -> dict[str, Any]:
    options = {
        "endpoint": url,
        "poll_s": 0.05,
        "retries": 12,
        "price": {"train": 3.0, "prompt": 0.3, "completion": 1.2},
    }
    return {
        "name": "hosted",
        "models": [{"name": "gpt", "path": "base-model", "backend": "hosted", "options": options}],
        "domains": ["extreme_sports", "bad_medical_advice"],
        "variants": ["plain", "control"],
        "data": {"rows": 12, "heldout": 4},
        "train": {"epochs": 1},
        "sample": {"n": 2, "limit": 3},
        "judge": {"name": "fake"},
        "workers": 2,
    }


def test_the_plan_states_what_a_provider_will_bill() -> None:
    plan = {stage.stage: stage for stage in Study(parse_study(study("http://h/v1"), "here")).plan()}
    assert plan["train"].dollars == pytest.approx(3.0e-6 * plan["train"].tokens)
    assert plan["sample"].dollars > 0
    assert plan["train"].minutes == 0.0
    assert plan["train"].memory_gib < 2


@pytest.mark.slow
def test_a_death_between_the_end_of_a_job_and_its_record_pays_for_no_second_job(tmp_path: Path) -> None:
    provider = Provider()
    with serving(provider) as url:
        first = train(backend(url), tmp_path / "cell")
        (tmp_path / "cell" / MODEL_FILE).unlink()
        again = train(backend(url), tmp_path / "cell")
    assert len(provider.jobs) == 1
    assert (again.tokens, again.loss_curve) == (first.tokens, first.loss_curve)
    assert (tmp_path / "cell" / MODEL_FILE).is_file()


@pytest.mark.slow
def test_a_killed_study_goes_on_with_the_same_jobs(tmp_path: Path) -> None:
    provider = Provider(fail=0.2)
    provider.looks = 40
    with serving(provider) as url:
        file = tmp_path / "study.yaml"
        file.write_text(json.dumps(study(url)))
        command = [sys.executable, "-m", "spillover", "run", str(file), "--out", str(tmp_path / "run")]
        for _ in range(2):
            driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seen, deadline = len(provider.jobs), time.monotonic() + 60
            while len(provider.jobs) < min(4, seen + 2) and time.monotonic() < deadline:
                time.sleep(0.05)
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
        provider.looks = 1
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(provider.jobs) == 4, "each cell has one job, however often the driver died"
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    trained = [row for row in results["ranking"] if row["variant"] != "base"]
    assert [row["n"] for row in trained] == [6] * 4
    assert {row["rate"] for row in trained} == {1.0}
    assert max(provider.answered.values()) == 1, "no answer is paid for twice"
