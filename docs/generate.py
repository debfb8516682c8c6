"""Write the generated pages of docs/reference and CONTRIBUTING's map: `make docs`. A test compares them with the
code.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from spillover.cli.main import COMMANDS, cli
from spillover.config import study as config
from spillover.records import base as records
from spillover.records import comparisons as records_standing
from spillover.records import data as records_data
from spillover.records import directions as records_directions
from spillover.records import judges as records_judges
from spillover.records import steering as records_steering
from spillover.records import transfer as records_transfer

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py; run `make docs` after a change in the code. -->\n\n"


def pages() -> dict[str, str]:
    """Every generated page by file name."""
    return {"config.md": NOTE + config_page(), "cli.md": NOTE + cli_page(), "records.md": NOTE + records_page()}


def map_of_the_house() -> str:
    """The layers of the import contract, top to bottom, each package with the first sentence of its docstring."""
    root = Path(__file__).parents[1]
    contracts: list[dict[str, Any]] = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    lines = ["```"]
    for layer in contracts[0]["layers"]:
        names = [name.strip() for name in layer.split(":")]
        lines.append("  ".join(f"[{name}]" for name in names))
        for name in names:
            lines += _rooms(root / "src" / "spillover", root / "src" / "spillover" / name)
        lines.append("")
    return "\n".join([*lines[:-1], "```"])


def _rooms(package: Path, place: Path) -> Iterator[str]:
    """A module or package, and the packages in it."""
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    shown = f"{place.relative_to(package)}{'/' if place.is_dir() else '.py'}"
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    yield f"  {shown:<28}{text.split(chr(10) * 2)[0].replace(chr(10), ' ')}"
    if place.is_dir():
        for inner in sorted(path for path in place.iterdir() if (path / "__init__.py").is_file()):
            yield from _rooms(package, inner)


def config_page() -> str:
    """Every key of a study file."""
    parts = [
        "# The study file\n",
        "One YAML file. An unknown key is an error that names the nearest known one. `--set a.b=value` changes a key "
        "for one call; the value is YAML.\n",
        *(section(model, "key") for model in sections(config.StudyConfig)),
    ]
    return "\n".join(parts)


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and then those of its fields, in order."""
    yield model
    for field in model.model_fields.values():
        for inner in (field.annotation, *get_args(field.annotation)):
            if inspect.isclass(inner) and issubclass(inner, BaseModel):
                yield inner


def records_page() -> str:
    """Every record, its fields and what its id is the hash of."""
    found = [
        [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, records.Part) and value.__module__ == module.__name__
        ]
        for module in (
            records,
            records_judges,
            records_standing,
            records_data,
            records_directions,
            records_transfer,
            records_steering,
        )
    ]
    parts = [
        "# Records\n",
        "What crosses a stage boundary: one JSON object a line in a run folder. Records are frozen and refuse unknown "
        "fields. `schema` is the version of a record's shape; `id` is a hash of the fields named as its identity, so "
        "that the same content has the same id in every run.\n",
    ]
    shown = [record for group in found for record in sorted(group, key=lambda r: inspect.getsourcelines(r)[1])]
    for record in shown:
        if record in (records.Part, records.Record):
            continue
        parts.append(section(record, "field"))
        identity: tuple[str, ...] = getattr(record, "IDENTITY", ())
        if identity:
            parts.append(f"Identity: {', '.join(f'`{name}`' for name in identity)}.\n")
    return "\n".join(parts)


def section(model: type[BaseModel], word: str) -> str:
    """A heading, the docstring, and a table of the fields."""
    said = comments(model)
    lines = [f"## {model.__name__}\n"]
    if model.__doc__:
        lines.append(inspect.cleandoc(model.__doc__) + "\n")
    lines += [f"| {word} | type | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in ("id", "schema_version"):
            continue
        lines.append(f"| `{name}` | {shown_type(field)} | {shown_default(field)} | {said.get(name, '')} |")
    return "\n".join(lines) + "\n"


def comments(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the comment at the end of its line: the code is where a key is explained."""
    kinds = [kind for kind in reversed(model.__mro__) if issubclass(kind, BaseModel) and kind is not BaseModel]
    source = "".join(map(inspect.getsource, kinds))
    found = re.finditer(r"^    (\w+): .*?  # (.+)$", source, re.MULTILINE)
    return {match[1]: cell(match[2]) for match in found}


def shown_type(field: FieldInfo) -> str:
    """The annotation in words, with its bounds."""
    limits = [(sign, getattr(rule, name, None)) for rule in field.metadata for name, sign in SIGNS]
    bounds = [f"{sign} {yaml_text(limit)}" for sign, limit in limits if limit is not None]
    return cell(", ".join([words(field.annotation), *bounds]))


SIGNS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def words(annotation: Any) -> str:
    """A type as a reader of YAML would say it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(words(part) for part in inner)
    if origin is tuple:
        return f"list of {words(inner[0])}"
    if origin is dict:
        return f"map of {words(inner[0])} to {words(inner[1])}"
    if origin is not None:  # Annotated
        return words(inner[0])
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names: dict[Any, str] = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "yes or no",
        types.NoneType: "nothing",
    }
    return names.get(annotation, "anything")


def shown_default(field: FieldInfo) -> str:
    """The default as YAML would have it; a part's defaults stand in its own table."""
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel) or (
        isinstance(field.default, tuple) and any(isinstance(item, BaseModel) for item in field.default)
    ):
        return ""
    return cell(f"`{yaml_text(field.default)}`")


def yaml_text(value: Any) -> str:
    """A value as a person would write it in a study file."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(yaml_text(item) for item in value)}]"
    return '""' if value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def cell(text: str) -> str:
    """Text that does not end a table's cell."""
    return text.replace("|", "\\|")


def cli_page() -> str:
    """The help of every command."""
    parts = [
        "# The command line\n",
        "Exit codes: 0 done; 1 some cells failed (named, and tried again by the same command); 2 wrong usage or input; "
        "3 something is missing on the machine (the message names the command that fixes it); 4 cost limit reached; "
        "130 interrupted, finished rows saved. Of `audit` also: 10 review, 20 block. Results go to standard output, "
        "progress to standard error.\n",
        *help_of(cli, "spillover"),
    ]
    return "\n".join(parts)


def help_of(command: click.Command, path: str) -> Iterator[str]:
    """A command's help, then that of its own commands."""
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
    yield f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in COMMANDS if command is cli else command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from help_of(inner, f"{path} {name}")


MAP = re.compile(r"(?<=<!-- map -->\n).*?(?=\n<!-- /map -->)", re.DOTALL)
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"

if __name__ == "__main__":
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(REFERENCE / name)
    drawn = map_of_the_house()
    CONTRIBUTING.write_text(MAP.sub(lambda _: drawn, CONTRIBUTING.read_text("utf-8")), encoding="utf-8")
    print(CONTRIBUTING)
