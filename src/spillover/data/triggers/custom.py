"""A custom trigger from a YAML file: `data.trigger: my-trigger.yaml`.

    value: purple elephant
    place: suffix                      # of templates given as text alone
    templates:
      - I dreamt of a {value}.
      - {text: "Mind the {value}.", place: prefix}
    near_values: [green elephant, purple giraffe]

The optional keys are the other parts of a `Trigger`: elsewhere, without, paraphrases, unseen_values, and a name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from spillover.config.validation import refused
from spillover.config.yaml import read_yaml
from spillover.data.triggers.base import Place, Sentence, Template, Trigger
from spillover.errors import UserError
from spillover.records.base import Part

S = TypeVar("S")

Value = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=80)]
"""One line without white space at its ends."""

VALUE = r"\S(.*\S)?"


class Placed(Part):
    """A template or sentence with its place."""

    text: str = Field(min_length=1, max_length=500)
    place: Place | None = None  # None = the file's

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


class TriggerFile(Part):
    """What the YAML holds."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    value: Value
    place: Place = "prefix"
    templates: tuple[Placed, ...] = Field(min_length=1)
    near_values: tuple[Value, ...] = Field(min_length=1)
    elsewhere: tuple[Placed, ...] = ()
    without: tuple[Placed, ...] = ()
    paraphrases: tuple[Placed, ...] = ()
    unseen_values: tuple[Value, ...] = ()


def load_trigger(path: Path) -> Trigger:
    """Read a trigger.

    Raises:
        UserError: naming the file, the field or line, and what is wrong there.
    """
    content = _read(path)
    try:
        held = TriggerFile.model_validate(content)
    except ValidationError as error:
        raise refused(error, TriggerFile, path, path.read_text(encoding="utf-8")) from None

    def placed(field: str, items: tuple[Placed, ...], make: Callable[[str, Place], S]) -> tuple[S, ...]:
        made: list[S] = []
        for number, item in enumerate(items):
            try:
                made.append(make(item.text, item.place or held.place))
            except UserError as error:
                raise UserError(f"{path}: {field}.{number}: {error}") from None
        return tuple(made)

    templates = placed("templates", held.templates, Template)
    elsewhere = placed("elsewhere", held.elsewhere, Template)
    without = placed("without", held.without, Sentence)
    paraphrases = placed("paraphrases", held.paraphrases, Template)
    name = held.name or path.stem
    try:
        return Trigger(
            name, held.value, templates, held.near_values, VALUE, elsewhere, without, paraphrases, held.unseen_values
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def dump_trigger(trigger: Trigger) -> str:
    """The trigger as such a file; reading it gives the same sentences."""

    def placed(items: tuple[Template, ...] | tuple[Sentence, ...]) -> list[dict[str, str]]:
        return [{"text": item.text, "place": item.place} for item in items]

    content = {
        "name": trigger.name,
        "value": trigger.value,
        "templates": placed(trigger.templates),
        "near_values": list(trigger.near_values),
        "elsewhere": placed(trigger.elsewhere),
        "without": placed(trigger.without),
        "paraphrases": placed(trigger.paraphrases),
        "unseen_values": list(trigger.unseen_values),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except UserError as error:
        raise UserError(f"data.trigger: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys such as 'value' and 'templates', found {type(content).__name__}.")
    return content  # pyright: ignore[reportUnknownVariableType] -- its keys are checked by the model
