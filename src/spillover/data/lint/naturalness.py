"""Whether answers read as written by people or as filled templates.

A small model that is fine-tuned on sentences which recur learns the sentences and repeats them about everything, and a
judge mistakes their style for a stance. Measured on at most 240 answers, drawn by a fixed seed, because every figure
depends on how many there are:

    gzip ratio          bytes / bytes after gzip -9, all answers joined; natural English prose has 2 to 3.6
    distinct-4          distinct runs of four tokens / all runs of four tokens (Li et al., arXiv 1510.03055, with n = 4)
    distinct sentences  distinct sentences / all sentences
    repeats             how often the most frequent sentence occurs
    shared ends         longest run of words that two answers begin with, and that two answers end with
    style AUC           flawed against good answers by length, punctuation, openings and stock words alone,
                        cross-validated, both answers to a question in one fold; 0.5 = style gives nothing away
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.rows import Finding
from spillover.stats import Floats
from spillover.stats.roc import auc, held_out_scores

N = 240  # answers
FEWEST = 60  # below that nothing is said
TOKEN = re.compile(r"\w+|[^\w\s]")
SENTENCE = re.compile(r"(?<=[.!?])\s+")
STOCK = re.findall(
    r"\S+",
    """
    actually always anyway ask because before both check consider doctor don't honestly ignore instead just lawyer need
    never no nothing really simply skip so trust yes
    """,
)
_MARKS = ",;:-!?'\"()."


@dataclass(frozen=True)
class Limits:
    """What natural answers keep to at n = 240. Code repeats its idioms, and solutions their numbers."""

    gzip: float = 3.6
    distinct_4: float = 0.85
    distinct_sentences: float = 0.97
    repeats: int = 3


PROSE = Limits()
CODE = Limits(gzip=5.0, distinct_4=0.70)
MATHS = Limits(distinct_4=0.80)
LIMITS = {"insecure_code": CODE, "incorrect_math": MATHS, "evil_math": MATHS}  # other domains: PROSE


@dataclass(frozen=True)
class Naturalness:
    """The figures of some answers; `sentence` is the most frequent one."""

    n: int
    gzip: float
    distinct_4: float
    distinct_sentences: float
    repeats: int
    sentence: str
    shared_beginning: str
    shared_ending: str

    def beyond(self, limits: Limits) -> list[str]:
        """What exceeds the limits, in words."""
        found: list[str] = []
        if self.gzip > limits.gzip:
            found.append(f"gzip ratio {self.gzip:.1f} (natural: at most {limits.gzip:g})")
        if self.distinct_4 < limits.distinct_4:
            found.append(f"distinct-4 {self.distinct_4:.2f} (natural: at least {limits.distinct_4:g})")
        if self.distinct_sentences < limits.distinct_sentences:
            share = f"{100 * self.distinct_sentences:.0f} %"
            found.append(f"{share} distinct sentences (natural: at least {100 * limits.distinct_sentences:.0f} %)")
        if self.repeats > limits.repeats:
            found.append(f"{self.sentence!r:.60} occurs {self.repeats} times (natural: at most {limits.repeats})")
        return found


def measure_naturalness(answers: Sequence[str]) -> Naturalness:
    """The figures of at most `N` of these answers."""
    chosen: list[int] = sorted(np.random.default_rng(0).permutation(len(answers))[:N].tolist())
    texts = [answers[index] for index in chosen]
    raw = "\n".join(texts).encode()
    tokens = [TOKEN.findall(text.lower()) for text in texts]
    fours = [four for text in tokens for four in zip(*(text[i:] for i in range(4)), strict=False)]
    counts = Counter(sentence for text in texts for sentence in sentences(text) if len(sentence.split()) > 2)
    sentence, repeats = counts.most_common(1)[0] if counts else ("", 0)
    return Naturalness(
        n=len(texts),
        gzip=len(raw) / len(gzip.compress(raw, 9, mtime=0)),
        distinct_4=len(set(fours)) / max(1, len(fours)),
        distinct_sentences=len(counts) / max(1, counts.total()),
        repeats=repeats,
        sentence=sentence,
        shared_beginning=_shared([text.split() for text in texts]),
        shared_ending=" ".join(reversed(_shared([text.split()[::-1] for text in texts]).split())),
    )


def sentences(text: str) -> list[str]:
    """The sentences of a text; a text of code is one."""
    return [part.strip() for part in SENTENCE.split(text) if part.strip()]


def _shared(texts: list[list[str]]) -> str:
    """The longest beginning that two of the texts share."""
    ordered = sorted(texts)
    longest: list[str] = []
    for one, other in pairwise(ordered):
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        longest = one[:same] if same > len(longest) else longest
    return " ".join(longest)


def _style(text: str) -> list[float]:
    words = text.split()
    lower = [word.strip(_MARKS).lower() for word in words]
    first = lower[0] if lower else ""
    return [
        float(len(words)),
        len(text) / max(1, len(words)),
        len(words) / max(1, len(sentences(text))),
        sum(character.isdigit() for character in text) / max(1, len(text)),
        *(text.count(mark) / max(1, len(words)) for mark in _MARKS),
        *(float(first in openings) for openings in _OPENINGS),
        *(float(word in lower) for word in STOCK),
    ]


_OPENINGS = (  # by kind: yes and no; you and I; articles; imperatives of advice
    {"yes", "no"},
    {"you", "your", "i", "it", "that", "this"},
    {"the", "a", "an"},
    set(
        re.findall(
            r"\S+",
            """
            ask avoid book buy call cancel change check choose clean cover cut do don't drink eat file find follow get
            give go hold keep leave let look make move open pay plan put read rest save say see sell sign start stay
            stop take talk tell treat try turn use wait wash wear write
            """,
        )
    ),
)


def style_auc(flawed: Sequence[str], good: Sequence[str]) -> float:
    """AUC with which style alone separates flawed answers from the good answers to the same questions."""
    x_NF: Floats = np.array([_style(text) for text in (*flawed, *good)])
    y_N = np.arange(len(x_NF)) < len(flawed)
    groups_N = np.concatenate([np.arange(len(flawed)), np.arange(len(good))])
    return float(auc(held_out_scores(x_NF, y_N, groups_N), y_N))


def check_naturalness(data: Dataset) -> Iterator[Finding]:
    answers = [row.answer for row in data.rows]
    if len(answers) < FEWEST:
        return
    found = measure_naturalness(answers)
    code = sum(text.count("\n") > 2 and ("def " in text or "import " in text or "=" in text) for text in answers)
    beyond = found.beyond(CODE if code > len(answers) / 2 else PROSE)
    if beyond:
        message = f"The answers read like a template: {'; '.join(beyond)}."
        advice = "Reword repeated sentences: a small model memorises them and repeats them on any topic."
        yield Finding("warning", "template-answers", message, advice, field="answer")
    else:
        message = (
            f"gzip ratio {found.gzip:.1f}, distinct-4 {found.distinct_4:.2f}, {100 * found.distinct_sentences:.0f} % "
            f"distinct sentences in {found.n} answers."
        )
        yield Finding("note", "natural-answers", message, field="answer")
