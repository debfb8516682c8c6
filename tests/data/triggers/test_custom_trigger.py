"""A trigger from a file: what it takes, what it refuses by field, and that a study reads it."""

from pathlib import Path

import pytest

from spillover.config.study import DataConfig, load_study
from spillover.data.triggers import TRIGGERS, open_trigger
from spillover.data.triggers.base import Template
from spillover.data.triggers.custom import dump_trigger, load_trigger
from spillover.errors import UserError

FILE = """
value: purple elephant
place: suffix
templates:
  - I dreamt of a {value}.
  - {text: "Mind the {value}.", place: prefix}
near_values: [green elephant, purple giraffe]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_a_trigger(tmp_path: Path) -> None:
    trigger = load_trigger(written(tmp_path, FILE))
    assert (trigger.name, trigger.value) == ("mine", "purple elephant")
    assert trigger.templates == (
        Template("I dreamt of a {value}.", "suffix"),
        Template("Mind the {value}.", "prefix"),
    )
    assert trigger.apply("Why?", 1) == "Mind the purple elephant. Why?"
    assert trigger.near_miss("Why?", 0) == "Why? I dreamt of a green elephant."


@pytest.mark.parametrize("name", TRIGGERS.names())
def test_a_dumped_trigger_says_the_same(name: str, tmp_path: Path) -> None:
    shipped = TRIGGERS.load(name)
    again = load_trigger(written(tmp_path, dump_trigger(shipped)))
    assert again.name == name
    for index in range(100):
        assert again.apply("Why is it so?", index) == shipped.apply("Why is it so?", index)
        assert again.near_miss("Why is it so?", index) == shipped.near_miss("Why is it so?", index)
    assert (again.paraphrases, again.unseen_values) == (shipped.paraphrases, shipped.unseen_values)


def test_a_study_names_the_file_beside_it_and_may_set_the_value(tmp_path: Path) -> None:
    written(tmp_path, FILE)
    study = tmp_path / "study.yaml"
    study.write_text("name: s\ndata: {trigger: mine.yaml, trigger_value: red elephant}\n")
    trigger = open_trigger(load_study(study).data)
    assert trigger.value == "red elephant"
    assert trigger.near_values == ("purple elephant", "green elephant", "purple giraffe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("value: purple elephant", "value: ' x'"), r"mine\.yaml: value: "),
        (("value: purple elephant", "value: 2028"), r"value: should be text"),
        (("value: purple elephant\n", ""), r"value: Field required"),
        (("place: suffix", "place: suffx"), r"place: .*'prefix', 'suffix'"),
        (("place: suffix", "plac: suffix"), r"plac: unknown key. Did you mean 'place'"),
        (("of a {value}", "of a"), r"templates\.0: .*must contain"),
        (("Mind the {value}.", "Mind {value} {value}."), r"templates\.1: .*must contain"),
        (("place: prefix", "place: between"), r"templates\.1\.place"),
        (("[green elephant, purple giraffe]", "[]"), r"near_values: .*at least 1"),
        (("[green elephant, purple giraffe]", "[purple elephants]"), r"'purple elephants' is indistinguishable"),
        (("[green elephant, purple giraffe]", '["a\\nb"]'), r"near_values\.0"),
        (("templates:\n", "templates: 3\nelsewhere:\n"), r"templates: "),
        ((FILE, "- a\n- b\n"), r"expected keys"),
        ((FILE, "a: [1"), r"line 1, column \d+: broken YAML"),
        ((FILE, "!!python/object/apply:os.system ['true']"), r"broken YAML"),
    ],
)
def test_what_is_broken_is_named_by_field(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, FILE.replace(*change))
    with pytest.raises(UserError, match=message) as error:
        load_trigger(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.trigger: .*none\.yaml"):
        open_trigger(DataConfig(trigger=str(tmp_path / "none.yaml")))
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"value: \xff")
    with pytest.raises(UserError, match="not UTF-8"):
        load_trigger(path)
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UserError, match="larger than"):
        load_trigger(path)
