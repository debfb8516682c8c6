"""Evaluation questions: data only, one YAML file a set. A new shipped set is one more file in this folder.

`load_questions` gives question sets by name or path, in the forms asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from spillover.config.yaml import read_yaml
from spillover.data.questions.formats import Entry, own_questions, published_questions
from spillover.errors import UserError
from spillover.records.base import Question
from spillover.registry import did_you_mean

_SHIPPED = Path(__file__).parent


def question_sets() -> dict[str, int]:
    """The shipped sets: how many questions each holds over all forms."""
    return {path.stem: len(_read(path)) for path in sorted(_SHIPPED.glob("*.yaml"))}


def load_questions(
    names_or_paths: Sequence[str], forms: Sequence[str] = ("free", "jailbreak"), base: Path | None = None
) -> list[Question]:
    """The questions of these sets that have one of these forms, in the files' order.

    A name that is no shipped set is the path of a file, relative to `base`.

    Raises:
        UserError: for an unknown set, a broken file, a question id in two sets, or when nothing is left.
    """
    found: dict[str, str] = {}
    questions: list[Question] = []
    for name in names_or_paths:
        held = _read(_locate(name, base))
        for question_id in dict.fromkeys(question.question_id for question in held):
            if question_id in found:
                raise UserError(
                    f"questions: {question_id!r} is in both {found[question_id]!r} and {name!r}. Rename one of them."
                )
            found[question_id] = name
        questions += [question for question in held if question.form in forms]
        if not any(question.form in forms for question in held):
            has = ", ".join(f"{form} ({n})" for form, n in Counter(question.form for question in held).items())
            raise UserError(f"questions: {name!r} has no {' or '.join(forms)} questions, only {has}. Change the forms.")
    return questions


def _locate(name: str, base: Path | None) -> Path:
    shipped = {path.stem: path for path in _SHIPPED.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    path = (base or Path()) / name
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    raise UserError(f"questions: unknown set {name!r} (a file ends in .yaml){did_you_mean(name, list(shipped))}")


def _read(path: Path) -> list[Question]:
    content = read_yaml(path)
    if isinstance(content, dict) and "questions" in content:
        rows = list(own_questions(path, content))
    elif isinstance(content, list):
        rows = list(published_questions(path, content))
    else:
        raise Entry(path, None, {}).error(None, "a list of entries with id and paraphrases", content)
    if not rows:
        raise UserError(f"{path}: holds no question. Add entries with id and paraphrases.")
    owners: dict[str, Entry] = {}
    for entry, question in rows:
        owner = owners.setdefault(question.question_id, entry)
        if owner is not entry:
            raise UserError(
                f"{entry}, id: {question.question_id!r} is an id of entry {(owner.index or 0) + 1} too. Rename one."
            )
    return [question for _, question in rows]
