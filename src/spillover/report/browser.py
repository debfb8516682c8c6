"""A browser of answers: for every cell and condition the least and the most aligned answers and some at random.

The choice is fixed by the study's seed and the answers' ids, so that nobody picks by eye; its size is bounded.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from spillover.records.base import Condition, Judgment, Variant
from spillover.records.report_data import Answer, ReportData
from spillover.report.labels import Labels, series, series_place
from spillover.text import escape, number

PER_GROUP = 24  # answers
TEXT, QUESTION = 1500, 400  # characters
BUDGET = 1_000_000  # bytes of HTML over all groups
Stratum = tuple[Variant, Condition]


def browser(data: ReportData, labels: Labels) -> str:
    """One folded group a subject, with a heading for each kind of answer in it."""
    groups: defaultdict[str, defaultdict[Stratum, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for answer in data.answers:
        cell = answer.completion.cell
        groups[labels.of(cell)][cell.variant, answer.completion.condition].append(answer)
    room = BUDGET // max(1, len(groups))
    return "\n".join(_group(name, groups[name], data, labels, room) for name in sorted(groups))


def choose(strata: Iterable[Sequence[Answer]], seed: int, most: int) -> list[Answer]:
    """At most `most` answers, taken in turn from each stratum: lowest, highest, random, not scored, lowest ..."""
    turns = zip_longest(*(_turns(answers, seed) for answers in strata))
    return [answer for turn in turns for answer in turn if answer is not None][:most]


def _turns(answers: Sequence[Answer], seed: int) -> Iterator[Answer]:
    shuffled = sorted(answers, key=lambda a: hashlib.blake2b(f"{seed}:{a.completion.id}".encode()).digest())
    scored = sorted((a for a in shuffled if _alignment(a) is not None), key=lambda a: _alignment(a) or 0.0)
    missing = [answer for answer in shuffled if _alignment(answer) is None]
    taken: set[str] = set()
    for row in zip_longest(scored, reversed(scored), shuffled, missing):
        for answer in row:
            if answer is not None and answer.completion.id not in taken:
                taken.add(answer.completion.id)
                yield answer


def _alignment(answer: Answer) -> float | None:
    return None if answer.alignment is None else answer.alignment.score


def _group(name: str, strata: dict[Stratum, list[Answer]], data: ReportData, labels: Labels, room: int) -> str:
    keys = sorted(strata, key=lambda pair: (series_place(*pair)[0], pair))
    total = sum(row.n for row in data.scores if labels.of(row.cell) == name)
    shown: defaultdict[Stratum, list[tuple[float, str]]] = defaultdict(list)
    for answer in choose([strata[key] for key in keys], data.manifest.seed, PER_GROUP):
        text = _answer(answer, data.thresholds)
        room -= len(text.encode())
        if room < 0:
            break
        score = _alignment(answer)
        kind = answer.completion.cell.variant, answer.completion.condition
        shown[kind].append((101.0 if score is None else score, text))
    parts = [
        f"<h3>{escape(series(*key))}</h3>\n" + "\n".join(text for _, text in sorted(shown[key], key=lambda row: row[0]))
        for key in keys
        if shown[key]
    ]
    count = sum(map(len, shown.values()))
    summary = f"<summary>{escape(name)} <span>{count} of {total:,} completions</span></summary>"
    return f"<details>{summary}\n" + "\n".join(parts) + "\n</details>"


def _answer(answer: Answer, thresholds: tuple[float, float]) -> str:
    completion = answer.completion
    below, above = thresholds
    alignment, coherence = (None if j is None else j.score for j in (answer.alignment, answer.coherence))
    bad = alignment is not None and coherence is not None and alignment < below and coherence > above
    facts = [
        f"alignment {_verdict(answer.alignment)}",
        f"coherence {_verdict(answer.coherence)}",
        escape(completion.question_id, 80),
        "cut at the token limit" if completion.stop_reason == "length" else "",
    ]
    badge = '<b class="bad">misaligned</b>' if bad else ""
    line = badge + " ".join(f"<span>{fact}</span>" for fact in facts if fact)
    text = escape(completion.text, TEXT)
    if completion.status == "error":
        text = f"<em>No completion: {escape(completion.error, 300)}</em>"
    return (
        f'<article><p class="facts">{line}</p>\n'
        f'<p class="question" dir="auto">{escape(completion.question, QUESTION)}</p>\n'
        f'<div class="answer" dir="auto">{text or "<em>empty</em>"}</div></article>'
    )


def _verdict(judgment: Judgment | None) -> str:
    if judgment is None:
        return "missing"
    if judgment.score is not None:
        return number(judgment.score, 0)
    reason = f" ({escape(judgment.raw, 80)})" if judgment.raw else ""
    return judgment.status.replace("_", " ") + reason
