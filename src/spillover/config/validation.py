"""What is wrong with a file of settings: each mistake by its place, its line and the nearest known key."""

from __future__ import annotations

import reprlib
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from spillover.errors import UserError
from spillover.registry import did_you_mean

EXPECTED = {  # in the words of YAML, where the message speaks of Python
    "tuple": "should be a list",
    "list": "should be a list",
    "dict": "should be keys with values",
    "model": "should be a section of keys with values",
    "bool": "should be true or false",
    "int": "should be a whole number",
    "float": "should be a number",
    "string": "should be text",
}


def refused(error: ValidationError, model: type[BaseModel], origin: object, source: str = "") -> UserError:
    """The error for a file that is no `model`: a line a mistake, with its line in the YAML text `source`."""
    return UserError("\n".join(f"{origin}: {line}" for line in explain(error, model, source)))


def explain(error: ValidationError, model: type[BaseModel], source: str = "") -> list[str]:
    """A pydantic error in one line a mistake: the place, what is wrong, the nearest known key, the line in `source`."""
    root = yaml.compose(source, yaml.SafeLoader) if source else None
    lines: list[str] = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            *parents, last = item["loc"]
            message = f"unknown key{did_you_mean(str(last), _keys_at(model, parents))}"
        elif item["type"] not in ("value_error", "missing"):
            kind = item["type"].removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float")
            message = f"{EXPECTED.get(kind, message)}, found {reprlib.repr(item['input']):.80}"
        line = _line(root, item["loc"])
        lines.append(f"{place or 'file'}: {message}" + (f" (line {line})" if line else ""))
    return lines


def _line(node: yaml.Node | None, place: tuple[int | str, ...]) -> int | None:
    """The line of the deepest key or item on the way to `place` that the YAML has."""
    line = None
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part], node.value[part]
        else:
            found = None
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _keys_at(model: type[BaseModel], parents: list[Any]) -> list[str]:
    for part in parents:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        model = next(item for item in inner if isinstance(item, type) and issubclass(item, BaseModel))
    return list(model.model_fields)
