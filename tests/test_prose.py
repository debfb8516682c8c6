"""Text that a person reads uses the field's terms: words that were replaced once stay out, and sentences stay short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIALECT = [  # (a piece of every match, pattern, what to write instead)
    ("untouched", r"untouched (models?|answers?)\b", "base model, without steering"),
    ("mend", r"\bmend(s|ed|ing)?\b", "fix"),
    ("s on", r"\bgoes on\b", "resumes, continues"),
    (
        "told",
        r"\btold apart\b|\b(cannot|can) be told (from|apart)\b|\bcannot be told\b",
        "distinguishable, significant",
    ),
    ("told from", r"\b(not|is|are) told from\b", "distinguishable from"),
    ("beside ", r"\bbeside (\w+ )?(random|it|them|the)\b", "compared with, next to"),
    ("under way", r"\bunder way\b", "running, in progress"),
    ("want of", r"\bfor want of\b", "because ... is missing"),
    ("whoever", r"\bwhoever\b", "anyone who"),
    ("wished", r"\bwished\b", "target"),
    ("moved inside", r"\bwhat moved inside\b", "activation directions"),
    ("transfers what", r"\bwho transfers what\b", "cross-domain transfer"),
    ("square", r"(?<!sum of )(?<!sums of )\b(a|every|all|the) squares?\b(?! root)", "matrix cell"),
    ("knows nothing", r"\bknows nothing of\b", "has no"),
    ("must be", r"\bas it must be\b", "invalid"),
    ("star", r"\ba star (needs both|lies)\b|\bhow often a star\b", "significant, the false-positive rate"),
    (" away", r"\b(takes?|took) away\b", "remove, delete"),
    (" no ", r"\b(is|are) no (adapter|cascade|predictor|file|number|row|rows|judge|sample)\b", "is not a ..."),
    ("one's own", r"\bof one's own\b", "custom"),
    ("always saying", r"\balways saying the (others' )?mean\b", "predicting the mean"),
    ("ed out", r"\bworked out\b", "computed"),
    ("as good as", r"\bas good as\b", "almost"),
    ("said to be", r"\bsaid to be\b", "reported as"),
    ("put down to", r"\bput down to\b", "caused by"),
    ("in earnest", r"\bin earnest\b", "truly"),
    ("by habit", r"\bby habit\b", "usually"),
    ("e", r"\b(thereof|whilst|hither|albeit|foretell\w*)\b", "a plain word"),
]
LONGEST = 45  # words of a sentence in a document
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))
ELSEWHERE = {"recipes.md", "limits.md"}  # pages with notes on single experiments
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(path for path in DOCUMENTS if path.parent.name != "decisions")]
SOURCES = sorted((ROOT / "src" / "spillover").rglob("*.py"))
PATTERNS = [(piece, re.compile(pattern), better) for piece, pattern, better in DIALECT]


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string constant, with docstrings and the fixed parts of f-strings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def found(where: str, text: str) -> list[str]:
    flat = " ".join(text.lower().split())
    return [
        f"{where}: {match.group()!r}; write: {better}"
        for piece, pattern, better in PATTERNS
        if piece in flat
        for match in pattern.finditer(flat)
    ]


def unreleased() -> str:
    """The changelog's part on the next version."""
    return re.split(r"(?m)^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))[1]


def sentences(markdown: str) -> Iterator[str]:
    """Sentences of the paragraphs and list items: without code, tables, headings, links' addresses and comments."""
    text = re.sub(r"(?ms)^```.*?^```|<!--.*?-->", "", markdown)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text):
        if not block.lstrip().startswith(("|", "#", ">", "!")):
            yield from filter(None, re.split(r"(?<=[.:;!?])\s+", " ".join(block.split())))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name not in ELSEWHERE:
        assert found(path.name, text) == []
    if path.parent.name != "reference":
        assert [sentence for sentence in sentences(text) if len(sentence.split()) > LONGEST] == []


def test_changelog() -> None:
    assert found("CHANGELOG.md", re.sub(r"`[^`]*`", "", unreleased())) == []


def test_messages_and_docstrings() -> None:
    wrong: list[str] = []
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        joined = re.sub(r'"\n\s*f?"', "", source)  # strings that continue on the next line
        if found("", joined):  # perhaps in code or a comment: look at the strings alone
            for line, text in strings(source):
                wrong += found(f"{path.relative_to(ROOT)}:{line}", text)
    assert wrong == []


def test_the_words_are_found() -> None:
    assert len(found("", "The same command goes on; whoever mends it, beside the untouched model.")) == 5
    assert list(sentences("# Title\n\nOne two. Three\nfour.\n\n| a | b |\n\n```\ncode\n```\n")) == [
        "One two.",
        "Three four.",
    ]
