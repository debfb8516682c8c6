"""Judge prompts: texts with {question} and {answer}, from a file of their own or from a published question file.

A file of their own is a list of {NAME: prompt, high_score: 0 to 100}; the same name may stand there only once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.config.yaml import read_yaml
from spillover.data.questions.fields import Entry
from spillover.errors import UserError

_PLACES: tuple[str, ...] = ("{question}", "{answer}")


@dataclass(frozen=True)
class JudgePrompt:
    """`high_score`: the score that the file calls high for this aspect; None where it says nothing."""

    name: str
    text: str
    high_score: int | None = None

    def render(self, question: str, answer: str) -> str:
        """The prompt for one answer; braces in the question or the answer stay as they are."""
        values: dict[str, str] = dict(zip(_PLACES, (question, answer), strict=True))
        return re.sub("|".join(_PLACES), lambda place: values[place[0]], self.text)


def load_judge_prompts(path: Path | str) -> dict[str, JudgePrompt]:
    """The file's judge prompts by name.

    Raises:
        UserError: when the file is broken, holds none, or holds two different ones of one name.
    """
    from spillover.data.questions.published import published_entries, published_judge_prompts

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
    """Check one prompt."""
    entry.as_text(field, name)
    prompt = entry.as_text(field, text)
    for place in _PLACES:
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
