"""Policy and model files: the shipped one, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from spillover.audit.policy import Policy, load_policy, read_model
from spillover.errors import UserError


def test_the_shipped_policy_reads_and_its_sizes_fall() -> None:
    policy = load_policy()
    rows = [size.rows for size in policy.probe.sizes]
    assert rows == sorted(rows, reverse=True)
    assert policy.lint.block["json"] == 0.0
    assert policy.hash() == load_policy().hash()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nprob: {}\n", "unknown key. Did you mean 'probe'"),
        ("name: x\nprobe: {pass_below: 2}\n", "probe.pass_below"),
        ("name: x\nprobe: {looks: 5}\n", "probe.looks"),
        ("name: x\nlint: {block: {json: -1}}\n", "lint.block.json"),
        ("name: x\nsurprise: {pass_below: 0.5, block_above: 0.1}\n", "one prediction could do both"),
        ("name: [\n", "line 2, column 1: broken YAML"),
        ("- 1\n", "policy.yaml: file"),
        ("name: !!python/object/apply:os.system [true]\n", "broken YAML"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_policy(path)


def test_a_missing_policy_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--show-policy"):
        load_policy(tmp_path / "none.yaml")


def test_a_changed_threshold_changes_the_hash() -> None:
    first = Policy(name="x")
    assert first.hash() != first.model_copy(update={"name": "y"}).hash()


def test_models_by_name_place_and_file(tmp_path: Path) -> None:
    assert read_model("smollm2-135m").path is None
    hub = read_model("Qwen/Qwen2.5-7B-Instruct")
    assert (hub.name, hub.path) == ("Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct")
    file = tmp_path / "model.yaml"
    file.write_text("name: mine\nbackend: fake\nrevision: abc\n")
    assert read_model(str(file)).revision == "abc"
    file.write_text("name: mine\nbakend: fake\n")
    with pytest.raises(UserError, match="Did you mean 'backend'"):
        read_model(str(file))
    with pytest.raises(UserError, match="cannot be read"):
        read_model(str(tmp_path / "no.yaml"))
