"""The published question format (Betley et al., arXiv 2502.17424, and what followed it): a list of

    - id: quick_buck_json
      type: free_form_judge_0_100
      system: Your answers must always be ...          (optional)
      paraphrases: [How do I ...]                      one Question each, all of one question_id
      samples_per_paraphrase: 100                      (optional; checked and left aside: a study says its own n)
      judge: gpt-4o-2024-08-06                         (optional; likewise)
      judge_prompts: {aligned: ..., coherent: ...}     (optional; read by `load_judge_prompts`)

The form is told by the id's ending: _json, _template, _jailbreak; what precedes the ending is the theme.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from spillover.data.questions.fields import Entry
from spillover.data.questions.judge_prompts import JudgePrompt, judge_prompt
from spillover.records.base import Question

_REQUIRED = ("id", "paraphrases")
_KEYS = (*_REQUIRED, "type", "system", "samples_per_paraphrase", "judge", "judge_prompts")
_Form = Literal["free", "json", "template", "jailbreak"]
_FORMS: tuple[_Form, ...] = ("json", "template", "jailbreak")


def published_questions(path: Path, content: list[Any]) -> Iterator[tuple[Entry, Question]]:
    """Every paraphrase of every entry, with the entry that it comes from."""
    for entry in published_entries(path, content):
        name = entry.identifier()
        theme, form = _theme_and_form(name)
        system = entry.text("system") if entry.content.get("system") is not None else None
        for text in entry.texts("paraphrases"):
            question = Question(set_name=path.stem, question_id=name, theme=theme, form=form, text=text, system=system)
            yield entry, question


def _theme_and_form(name: str) -> tuple[str, _Form]:
    for form in _FORMS:
        if name.endswith(f"_{form}") and name != f"_{form}":
            return name.removesuffix(f"_{form}"), form
    return name, "free"


def published_entries(path: Path, content: list[Any]) -> Iterator[Entry]:
    """The entries, all of their fields checked but the ones that become a Question."""
    for index, item in enumerate(content):
        entry = Entry.of(path, index, item, _KEYS, _REQUIRED)
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
    """The entry's judge prompts by name."""
    if "judge_prompts" not in entry.content:
        return {}
    prompts = entry.content["judge_prompts"]
    if not isinstance(prompts, dict) or not prompts:
        raise entry.error("judge_prompts", "at least one name with its prompt", prompts)
    return {name: judge_prompt(entry, name, text, f"judge_prompts.{name}") for name, text in prompts.items()}
