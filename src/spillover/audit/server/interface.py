"""The page /docs: every operation of openapi.json in words. No script and no request: it works without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from spillover.report.html import Row, Section, html_table, page
from spillover.text import NONE, escape

Schema = dict[str, Any]


def to_html(api: Schema) -> str:
    """The whole page."""
    title = f"{api['info']['title']} {api['info']['version']}"
    lead = Markup(
        "Send the token as <code>Authorization: Bearer TOKEN</code>. For programs: "
        '<a href="openapi.json">openapi.json</a>.'
    )
    sections = [
        _operation(method, path, operation) for path, item in api["paths"].items() for method, operation in item.items()
    ]
    sections += [_schema(name, schema) for name, schema in api["components"]["schemas"].items()]
    return page(title, "spillover · interface", title, lead, sections, title)


def _operation(method: str, path: str, operation: Schema) -> Section:
    token = "" if operation.get("security") else " Needs no token."
    tables = [
        _table("Takes", ["", "where", "what", "about"], list(_inputs(operation))),
        _table("Answers", ["status", "content", "about"], list(_answers(operation))),
    ]
    about = f"<p>{escape(operation['description'])}{token}</p>"
    return Section(f"{method.upper()} {path}", f"{about}\n{''.join(tables)}")


def _inputs(operation: Schema) -> Iterator[Row]:
    for part in operation.get("parameters", ()):
        yield Row("", part["name"], [part["in"], _kind(part["schema"]), _about(part, part.get("required", False))])
    for content, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = body["schema"]
        needed = schema.get("required", ())
        if not schema.get("properties"):
            yield Row("", "the body", [content, _kind(schema), _about(schema, False)])
        for name, field in schema.get("properties", {}).items():
            yield Row("", name, [content, _kind(field), _about(field, name in needed)])


def _answers(operation: Schema) -> Iterator[Row]:
    for status, answer in operation["responses"].items():
        for content, body in answer.get("content", {"": {}}).items():
            kind = _kind(body.get("schema", {}))
            yield Row("", status, [" ".join([content, kind if content == "application/json" else ""]).strip() or NONE,
                                   answer["description"]])  # fmt: skip


def _schema(name: str, schema: Schema) -> Section:
    rows = [Row("", field, [_kind(part)]) for field, part in schema.get("properties", {}).items()]
    about = escape(schema.get("description", ""))
    return Section(name, f"<p>{about}</p>\n{_table('Fields', ['', 'type'], rows)}")


def _table(caption: str, header: list[str], rows: list[Row]) -> str:
    return html_table(caption, header, rows, len(header)) if rows else ""


def _about(part: Schema, needed: bool) -> str:
    default = f"default {part['default']}" if "default" in part else ""
    return " ".join(filter(None, ["needed." if needed else "", part.get("description", ""), default])) or NONE


def _kind(schema: Schema) -> str:
    """A type in few words: "number or null", "array of string", "JobView"."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"array of {_kind(schema['items'])}"
    return schema.get("type", "anything")
