"""The files of questions and of judge prompts; a UserError names file, entry, field and what was expected.

The shipped sets' format is described at the top of general.yaml: each question in plain, JSON and template form. The
published format (Betley et al., arXiv 2502.17424, and what followed it) is a list of

    - id: quick_buck_json
      type: free_form_judge_0_100
      system: Your answers must always be ...          (optional)
      paraphrases: [How do I ...]                      one Question each, all of one question_id
      samples_per_paraphrase: 100                      (optional; checked and left aside: a study says its own n)
      judge: gpt-4o-2024-08-06                         (optional; likewise)
      judge_prompts: {aligned: ..., coherent: ...}     (optional; read by `load_judge_prompts`)

whose form is told by the id's ending: _json, _template, _jailbreak; what precedes the ending is the theme. Judge
prompts are texts with {question} and {answer}, in such a file or in a list of {NAME: prompt, high_score: 0 to 100}, in
which the same name may stand only once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spillover.config.yaml import read_yaml
from spillover.errors import UserError
from spillover.records.base import Question
from spillover.registry import did_you_mean

Form = Literal["free", "json", "template", "jailbreak"]
ENDINGS: tuple[Form, ...] = ("json", "template", "jailbreak")
OWN_TOP = ("json_system", "skeleton_lead", "questions")
OWN_KEYS = ("id", "theme", "form", "text", "skeleton")
PUBLISHED_REQUIRED = ("id", "paraphrases")
PUBLISHED_KEYS = (*PUBLISHED_REQUIRED, "type", "system", "samples_per_paraphrase", "judge", "judge_prompts")
PLACES = ("{question}", "{answer}")
# Control characters but tab and line feed, and lone surrogates: YAML's escapes can smuggle in both.
_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Entry:
    """One mapping of a file, with its place in it (None for the file's own keys)."""

    path: Path
    index: int | None
    content: dict[str, Any]

    @staticmethod
    def of(path: Path, index: int | None, content: Any, known: Collection[str], required: Collection[str]) -> Entry:
        """Check that `content` is a mapping with no keys but those known, and with all those required."""
        if not isinstance(content, dict):
            raise Entry(path, index, {}).error(None, "keys and values", content)
        entry = Entry(path, index, content)
        for key in content:
            if key not in known:
                raise UserError(f"{entry}, {key!r:.60}: unknown key{did_you_mean(str(key), list(known))}")
        for key in required:
            if key not in content:
                raise UserError(f"{entry}, {key}: is missing. Add it.")
        return entry

    def __str__(self) -> str:
        if self.index is None:
            return str(self.path)
        name = self.content.get("id")
        return f"{self.path}: entry {self.index + 1}" + (f" ({name!r:.60})" if isinstance(name, str) else "")

    def error(self, field: str | None, expected: str, found: Any) -> UserError:
        shown = "nothing" if found is None else f"{type(found).__name__} {found!r:.60}"
        return UserError(f"{self}{', ' + field if field else ''}: expected {expected}, found {shown}. Fix this entry.")

    def text(self, field: str) -> str:
        return self.as_text(field, self.content[field])

    def texts(self, field: str) -> list[str]:
        """The field's list of different texts."""
        values = self.content[field]
        if not isinstance(values, list) or not values:
            raise self.error(field, "a list of at least one text", values)
        found = [self.as_text(f"{field}[{number}]", value) for number, value in enumerate(values)]
        for number, value in enumerate(found):
            if found.index(value) < number:
                raise self.error(f"{field}[{number}]", f"something else than {field}[{found.index(value)}]", value)
        return found

    def as_text(self, field: str, value: Any) -> str:
        """`value`, where it is text that says something; the white space around it does not count."""
        if not isinstance(value, str) or not value.strip():
            raise self.error(field, "text that is not empty", value)
        if bad := _UNWANTED.search(value):
            raise UserError(f"{self}, {field}: control character U+{ord(bad[0]):04X} at {bad.start()}. Remove it.")
        return value.strip()

    def identifier(self) -> str:
        """The entry's id: one line."""
        name = self.text("id")
        if len(name) > 120 or "\n" in name or "\t" in name:
            raise self.error("id", "one line of at most 120 characters", name)
        return name


def own_questions(path: Path, content: dict[str, Any]) -> Iterator[tuple[Entry, Question]]:
    """Every question in every form, with the entry that it comes from."""
    top = Entry.of(path, None, content, OWN_TOP, OWN_TOP)
    system, lead = top.text("json_system"), top.text("skeleton_lead")
    entries = top.content["questions"]
    if not isinstance(entries, list) or not entries:
        raise top.error("questions", "a list of at least one question", entries)
    for index, item in enumerate(entries):
        entry = Entry.of(path, index, item, OWN_KEYS, ("id", "text", "skeleton"))
        name, text = entry.identifier(), entry.text("text")
        form = entry.content.get("form", "free")
        if form not in ("free", "jailbreak"):
            raise entry.error("form", "free or jailbreak", form)
        theme = entry.text("theme") if "theme" in entry.content else name
        blanks = "\n".join(f"{line}:" for line in entry.texts("skeleton"))
        asked: tuple[tuple[str, Form, str, str | None], ...] = (
            ("", form, text, None),
            ("_json", "json", text, system),
            ("_template", "template", f"{text}\n\n{lead}\n\n{blanks}", None),
        )
        for ending, asked_form, wording, prompt in asked:
            question = Question(
                set_name=path.stem, question_id=name + ending, theme=theme, form=asked_form, text=wording, system=prompt
            )
            yield entry, question


def published_questions(path: Path, content: list[Any]) -> Iterator[tuple[Entry, Question]]:
    """Every paraphrase of every entry, with the entry that it comes from."""
    for entry in published_entries(path, content):
        name = entry.identifier()
        theme, form = _theme_and_form(name)
        system = entry.text("system") if entry.content.get("system") is not None else None
        for text in entry.texts("paraphrases"):
            question = Question(set_name=path.stem, question_id=name, theme=theme, form=form, text=text, system=system)
            yield entry, question


def _theme_and_form(name: str) -> tuple[str, Form]:
    for form in ENDINGS:
        if name.endswith(f"_{form}") and name != f"_{form}":
            return name.removesuffix(f"_{form}"), form
    return name, "free"


def published_entries(path: Path, content: list[Any]) -> Iterator[Entry]:
    """The entries, all of their fields checked but the ones that become a Question."""
    for index, item in enumerate(content):
        entry = Entry.of(path, index, item, PUBLISHED_KEYS, PUBLISHED_REQUIRED)
        if "type" in entry.content and not entry.text("type").startswith("free_form"):
            raise entry.error("type", "the type free_form; only free answers are sampled", entry.content["type"])
        if "judge" in entry.content:
            entry.text("judge")
        count = entry.content.get("samples_per_paraphrase", 1)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise entry.error("samples_per_paraphrase", "a whole number from 1", count)
        published_judge_prompts(entry)
        yield entry


def published_judge_prompts(entry: Entry) -> dict[str, JudgePrompt]:
    if "judge_prompts" not in entry.content:
        return {}
    prompts = entry.content["judge_prompts"]
    if not isinstance(prompts, dict) or not prompts:
        raise entry.error("judge_prompts", "at least one name with its prompt", prompts)
    return {name: judge_prompt(entry, name, text, f"judge_prompts.{name}") for name, text in prompts.items()}


@dataclass(frozen=True)
class JudgePrompt:
    """`high_score`: the score that the file calls high for this aspect; None where it says nothing."""

    name: str
    text: str
    high_score: int | None = None

    def render(self, question: str, answer: str) -> str:
        """The prompt for one answer; braces in the question or the answer stay as they are."""
        values: dict[str, str] = dict(zip(PLACES, (question, answer), strict=True))
        return re.sub("|".join(PLACES), lambda place: values[place[0]], self.text)


def load_judge_prompts(path: Path | str) -> dict[str, JudgePrompt]:
    """The file's judge prompts by name.

    Raises:
        UserError: when the file is broken, holds none, or holds two different ones of one name.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, list):
        raise Entry(path, None, {}).error(None, "a list of judge prompts or of questions", content)
    found: dict[str, JudgePrompt] = {}
    if any(isinstance(item, dict) and "paraphrases" in item for item in content):
        rows = [(entry, published_judge_prompts(entry)) for entry in published_entries(path, content)]
    else:
        rows = [(entry, _own(entry)) for entry in (Entry.of(path, i, x, x, ()) for i, x in enumerate(content))]
    for entry, prompts in rows:
        for name, prompt in prompts.items():
            if found.setdefault(name, prompt) != prompt:
                raise UserError(f"{entry}, {name}: an earlier entry has another prompt of this name. Rename one.")
    if not found:
        raise UserError(f"{path}: holds no judge prompt. Add entries such as '- aligned: ...'.")
    return found


def judge_prompt(entry: Entry, name: Any, text: Any, field: str, high_score: int | None = None) -> JudgePrompt:
    entry.as_text(field, name)
    prompt = entry.as_text(field, text)
    for place in PLACES:
        if place not in prompt:
            raise entry.error(field, f"a prompt with {place} in it", prompt)
    return JudgePrompt(name, prompt, high_score)


def _own(entry: Entry) -> dict[str, JudgePrompt]:
    content = entry.content
    high = content.get("high_score")
    if high is not None and (not isinstance(high, int) or isinstance(high, bool) or not 0 <= high <= 100):
        raise entry.error("high_score", "a whole number from 0 to 100", high)
    names = [name for name in content if name != "high_score"]
    if len(names) != 1:
        raise entry.error(None, "one prompt under its name, and high_score", content)
    return {names[0]: judge_prompt(entry, names[0], content[names[0]], str(names[0]), high)}
