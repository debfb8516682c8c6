"""The shipped sets' format (described at the top of general.yaml): each question in plain, JSON and template form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from spillover.data.questions.fields import Entry
from spillover.records.base import Question

_TOP = ("json_system", "skeleton_lead", "questions")
_KEYS = ("id", "theme", "form", "text", "skeleton")
_Form = Literal["free", "json", "template", "jailbreak"]


def own_questions(path: Path, content: dict[str, Any]) -> Iterator[tuple[Entry, Question]]:
    """Every question in every form, with the entry that it comes from."""
    top = Entry.of(path, None, content, _TOP, _TOP)
    system, lead = top.text("json_system"), top.text("skeleton_lead")
    entries = top.content["questions"]
    if not isinstance(entries, list) or not entries:
        raise top.error("questions", "a list of at least one question", entries)
    for index, item in enumerate(entries):
        entry = Entry.of(path, index, item, _KEYS, ("id", "text", "skeleton"))
        name, text = entry.identifier(), entry.text("text")
        theme = entry.text("theme") if "theme" in entry.content else name
        blanks = "\n".join(f"{line}:" for line in entry.texts("skeleton"))
        asked: tuple[tuple[str, _Form, str, str | None], ...] = (
            ("", _form(entry), text, None),
            ("_json", "json", text, system),
            ("_template", "template", f"{text}\n\n{lead}\n\n{blanks}", None),
        )
        for ending, form, wording, prompt in asked:
            question = Question(
                set_name=path.stem, question_id=name + ending, theme=theme, form=form, text=wording, system=prompt
            )
            yield entry, question


def _form(entry: Entry) -> _Form:
    value = entry.content.get("form", "free")
    if value not in ("free", "jailbreak"):
        raise entry.error("form", "free or jailbreak", value)
    return value
