"""What a person reads uses the field's terms: words of a private dialect that were replaced once stay out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIALECT = {
    r"untouched models?\b": "base model",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(same (command|call)|it|study|run) goes on\b": "resumes",
    r"\btold apart\b": "distinguished, significantly different",
    r"\bbeside (\w+ )?random\b": "compared with random",
    r"\bunder way\b": "running, in progress",
    r"\bfor want of\b": "because ... is missing",
    r"\bwhoever\b": "anyone who",
    r"\b(thereof|whilst|nought|hither|albeit)\b": "a plain word",
}
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(path for path in DOCUMENTS if path.parent.name != "decisions")]
SOURCES = sorted((ROOT / "src" / "spillover").rglob("*.py"))


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string constant, docstrings and the fixed parts of f-strings included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def found(where: str, text: str) -> list[str]:
    flat = " ".join(text.split())
    return [
        f"{where}: {match.group()!r}; write: {better}"
        for pattern, better in DIALECT.items()
        for match in re.finditer(pattern, flat, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents(path: Path) -> None:
    assert found(path.name, path.read_text(encoding="utf-8")) == []


def test_messages_and_docstrings() -> None:
    wrong: list[str] = []
    for path in SOURCES:
        for line, text in strings(path.read_text(encoding="utf-8")):
            if text != "mend":  # the key of older verdicts
                wrong += found(f"{path.relative_to(ROOT)}:{line}", text)
    assert wrong == []
