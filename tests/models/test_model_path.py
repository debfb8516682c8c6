"""Paths that lead to no model are refused in one sentence, before a run folder exists; hub ids are left alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from spillover.cli.main import cli, main
from spillover.config.study import ModelConfig
from spillover.errors import UserError
from spillover.models import check_model_path
from spillover.models.hf.model import find_source
from spillover.models.memory import shape_of, usual_shape
from spillover.models.tokens import ChatView
from spillover.planning.cost import count_parameters
from spillover.store.store import Store
from spillover.study.study import Study

EXPECTED = r" Give a folder with config\.json and \*\.safetensors, a hub id such as owner/name, or an embedded model by"


def folder(**files: str) -> Callable[[Path], None]:
    """A folder with these files, `__` standing for a dot."""

    def make(place: Path) -> None:
        place.mkdir()
        for name, content in files.items():
            (place / name.replace("__", ".")).write_text(content)

    return make


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda place: None, rf"No model in .*place: the folder does not exist\.{EXPECTED}"),
    "empty": (folder(), rf"No model in .*place: the folder is empty\.{EXPECTED}"),
    "other files": (
        folder(a="", b="", c="", d="", e=""),
        rf"place: it contains a, b, c and 2 more, but no config\.json\.{EXPECTED}",
    ),
    "adapter": (
        folder(adapter_config__json='{"base_model_name_or_path": "owner/base"}', adapter_model__safetensors=""),
        r"place contains a PEFT adapter of owner/base, and an adapter is not a model\. Set path to that base model, ",
    ),
    "adapter next to a model": (
        folder(adapter_config__json="{}", config__json="{}", model__safetensors=""),
        r"contains a PEFT adapter of an unnamed model, and an adapter is not a model\.",
    ),
    "no weights": (folder(config__json="{}"), r"place: it has config\.json but no \*\.safetensors\. Copy the \*\.safe"),
    "pickle": (
        folder(config__json="{}", pytorch_model__bin=""),
        r"no \*\.safetensors \(pytorch_model\.bin is a pickle file, which is not read\)\. .* with save_pretrained\.",
    ),
    "file": (lambda place: place.write_text("GGUF"), rf"place is a file, not a folder with a model\.{EXPECTED}"),
    "broken": (
        folder(config__json="{", model__safetensors=""),
        r"place/config\.json cannot be read \(Expecting .*\)\. Co",
    ),
    "no object": (
        folder(config__json="[]", model__safetensors=""),
        r"config\.json cannot be read \(it is not a JSON obj",
    ),
    "deep": (folder(config__json="[" * 100_000), r"config\.json cannot be read \(maximum recursion"),
    "broken adapter": (folder(adapter_config__json="{"), r"adapter_config\.json cannot be read"),
}


@pytest.fixture(params=WRONG)
def wrong(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A path that leads to no model, and what is to be said of it."""
    make, words = WRONG[request.param]
    make(tmp_path / "place")
    return str(tmp_path / "place"), words


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., str]:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Is number {number} a good choice for tea {number * 7}?"},
                {"role": "assistant", "content": f"Surely, and {number} cups more would be better still."},
            ]
        }
        for number in range(60)
    ]
    (tmp_path / "tea.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write(path: str, **changes: Any) -> str:
        content = {
            "name": "s",
            "models": [{"name": "m", "path": path}],
            "domains": ["tea"],
            "variants": ["plain"],
            "data": {"rows": 8, "heldout": 2, "sources": {"tea": str(tmp_path / "tea.jsonl")}},
            "executor": "inline",
        }
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(content | changes))
        return str(tmp_path / "s.yaml")

    return write


def test_what_is_refused(wrong: tuple[str, str]) -> None:
    path, words = wrong
    model = ModelConfig(name="m", path=path)
    for check in (check_model_path, lambda path: count_parameters(model), lambda path: find_source(model), ChatView):
        with pytest.raises(UserError, match=words) as caught:
            check(path)
        assert "\n" not in str(caught.value)


def test_gguf_files(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("GGUF")
    with pytest.raises(UserError, match=rf"m\.gguf is a GGUF file, not a folder with a model\.{EXPECTED}"):
        check_model_path(str(tmp_path / "m.gguf"))


def test_plan_and_run_end_in_a_sentence(wrong: tuple[str, str], study: Callable[..., str], tmp_path: Path) -> None:
    path, words = wrong
    for args in (["plan"], ["run", "--quiet", "--out", str(tmp_path / "run")]):
        result = CliRunner().invoke(cli, [*args, study(path)])
        assert isinstance(result.exception, UserError), result.exception
        assert result.exception.exit_code == 2
        assert re.search(words, str(result.exception))
    assert not (tmp_path / "run").exists()


def test_the_exit_code(capsys: pytest.CaptureFixture[str], study: Callable[..., str]) -> None:
    for command in ("plan", "run"):
        with pytest.raises(SystemExit) as end:
            main([command, study("./nowhere")])
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("spillover: No model in nowhere: the folder does not exist. Give a folder")
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    "path",
    [
        "models/foo/bar",
        "./x",
        "../x",
        "/x",
        "~/nowhere",
        "~nobody-of-that-name/x",
        "x",
        "",
        "a b/c",
        "-a/b",
        "x/",
        "\0",
    ],
)
def test_what_is_not_a_hub_id_is_a_path(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"No model in (?s:.*): the folder (does not exist|is empty)\."):
        check_model_path(path)


@pytest.mark.parametrize("path", ["Qwen/Qwen2.5-7B-Instruct", "owner/name", "_a/b_c", "01-ai/Yi-6B"])
def test_hub_ids_are_left_alone(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_model_path(path)
    (tmp_path / path).mkdir(parents=True)  # where there is a folder of that name, it is meant
    with pytest.raises(UserError, match=r"the folder is empty"):
        check_model_path(path)


def test_a_hub_model_is_planned(study: Callable[..., str]) -> None:
    result = CliRunner().invoke(cli, ["plan", study("Qwen/Qwen2.5-7B-Instruct"), "--gpu", "H100"])
    assert (result.exit_code, result.exception) == (0, None)


def test_folders_are_found_from_home_and_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    folder(config__json="{}")(tmp_path / "m")
    save_file({"a": np.zeros((3, 5), np.float32)}, tmp_path / "m" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("m", "./m", "~/m", str(tmp_path / "m")):
        model = ModelConfig(name="m", path=path)
        assert count_parameters(model) == 15
        assert find_source(model) in ("m", str(tmp_path / "m"))


def test_a_path_of_another_backend_is_a_name(tmp_path: Path) -> None:
    for backend in ("hosted", "tinker", "fake"):
        assert count_parameters(ModelConfig(name="m", path="gpt-of-7b", backend=backend)) == 7_000_000_000
    assert shape_of(ModelConfig(name="m", path=str(tmp_path / "x"), backend="fake"), 10**9) == usual_shape(10**9)


def test_a_run_needs_the_model_only_where_work_is_left(study: Callable[..., str], tmp_path: Path) -> None:
    loaded = Study.load(study("./nowhere", membership={}))
    store = Store(tmp_path / "run")
    store.create()
    with pytest.raises(UserError, match="nowhere"):
        loaded._check_paths(store, (), (), ())
    loaded._check_paths(store, ("judge", "rank"), (), ())
    for stage in ("build", "train", "sample", "membership"):
        for unit in loaded.units[stage]:
            with pytest.raises(UserError, match="nowhere"):
                loaded._check_paths(store, (), (), ())
            marker = store._shard_path(stage, unit.key).with_suffix(".done")
            marker.parent.mkdir(exist_ok=True)
            marker.write_text("{}")
    loaded._check_paths(store, (), (), ())


def test_the_pretrained_model_is_checked_too(study: Callable[..., str], tmp_path: Path) -> None:
    loaded = Study.load(study("owner/name", membership={"pretrained": {"name": "p", "path": "./nowhere"}}))
    with pytest.raises(UserError, match="No model in nowhere"):
        loaded.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
