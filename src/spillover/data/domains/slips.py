"""One slip in a worked solution, and everything after it recomputed: consistent, with a wrong result.

Slips are another operation, another operand, or a wrong result that is carried on. A number after the slip belongs to
a result that changed only if nothing else in the problem has the same value; where that is in doubt, there is no slip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice, pairwise, zip_longest

import numpy as np

from spillover.data.domains.worked import NUMBER, Step, Worked, evaluate, inconsistent, number

TRIES = 24  # slips looked at before a solution is given up
OPERATORS = {"+": "-*", "-": "+", "*": "+", "/": "*-"}  # what a slip takes in place of each
SIGNS = {"x": "*", "×": "*", "÷": "/", **{sign: sign for sign in "+-*/()"}}  # as written -> as Python has it
TOKEN = re.compile(rf"{NUMBER.pattern}|[-+*/()×÷]|(?<![a-z])x(?![a-z])")
RESULT = -1  # in place of a token's index: the result itself
OFF_BY = (-10, -5, -2, -1, 1, 2, 5, 10)
Candidate = tuple[int, int, str]  # step, index of a token or RESULT, what takes its place or what is added
# Values that a solution may use without saying where they come from: days, months, hours, percent, halves, ...
CONSTANTS = frozenset(map(Fraction, (1, 2, 7, 10, 12, 24, 30, 52, 60, 100, 365, 1000)))
# fmt: off
WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]
# fmt: on
ALIASES = {"third": 3, "thrice": 3, "triple": 3, "quarter": 4, "fourth": 4, "fifth": 5, "tenth": 10, "dozen": 12}
NAMED = {**{word: Fraction(value) for value, word in enumerate(WORDS)}, **{w: Fraction(v) for w, v in ALIASES.items()}}


@dataclass(frozen=True)
class Slip:
    """At step `place`, the expression as the text and the annotation shall show it, or only another result."""

    place: int
    text: str
    step: Step


def slipped(question: str, good: Worked, rng: np.random.Generator) -> Worked | None:
    """The solution with one slip and another answer, or None where no slip can be carried through without doubt."""
    for candidate in islice(_candidates(good, rng), TRIES):
        slip = _made(good, candidate)
        flawed = None if slip is None else carried(question, good, slip)
        if flawed is not None and inconsistent(good, flawed) is None:
            return flawed
    return None


def carried(question: str, good: Worked, slip: Slip) -> Worked | None:
    """Compute everything after a slip; None where a number's origin is in doubt or a result would look odd."""
    place = slip.place
    known = set(values(question)).union(*map(values, good.texts[: place + 1]))
    last = len(good.steps) - 1
    texts, steps = [*good.texts[:place], slip.text], list(good.steps[:place])
    became: dict[Fraction, Fraction] = {}
    for index in range(place, len(good.steps)):
        old = good.steps[index]
        expression = slip.step.expression if index == place else _replaced(old.expression, became)
        used = {number(found) for found in NUMBER.findall(old.expression)}
        if index > place and not used <= known | CONSTANTS | became.keys():
            return None
        before = evaluate(old.result)
        after = evaluate(slip.step.result if index == place else expression)
        if before is None or after is None or not _plausible(before, after):
            return None
        if after != before:
            unsure = before in known or before in CONSTANTS
            if unsure and not (index == last and _shown_alone(before, old.expression, good.texts[index:])):
                return None
            became[before] = after
        elif before in became:
            return None
        known.add(before)
        following = good.texts[index + 1]
        if became.keys() & {NAMED[word] for word in _words(following)}:
            return None
        known |= {number(found) for found in NUMBER.findall(following)}
        steps.append(Step(expression, _like(after, old.result)))
        texts.append(_replaced(following, became))
    return Worked(tuple(texts), tuple(steps))


def _shown_alone(result: Fraction, expression: str, around: Sequence[str]) -> bool:
    """Whether the last result stands nowhere but behind its calculation and after ####."""
    sentence, following = around[0].rpartition("\n")[2], around[1]
    shown = [number(found) for found in NUMBER.findall(following)].count(result)
    inside = [number(found) for found in NUMBER.findall(expression)].count(result)
    return shown == 2 and [number(found) for found in NUMBER.findall(sentence)].count(result) <= inside


@lru_cache(maxsize=4096)
def values(text: str) -> frozenset[Fraction]:
    """Every number in a text, in digits or in words."""
    return frozenset(map(number, NUMBER.findall(text))) | {NAMED[word] for word in _words(text)}


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word in NAMED]


def _candidates(good: Worked, rng: np.random.Generator) -> Iterator[Candidate]:
    """Every slip there could be in random order, the three kinds by turns."""
    operations: list[Candidate] = []
    operands: list[Candidate] = []
    results: list[Candidate] = []
    for place, step in enumerate(good.steps):
        results += [(place, RESULT, str(off)) for off in OFF_BY]
        for index, token in enumerate(TOKEN.findall(step.expression)):
            if token in OPERATORS:
                operations += [(place, index, other) for other in OPERATORS[token]]
            elif token not in "()" and number(token).denominator == 1:
                value = int(number(token))
                operands += [(place, index, str(value + off)) for off in OFF_BY if value + off > 1]
    shuffled = [iter([group[i] for i in rng.permutation(len(group))]) for group in (operations, operands, results)]
    turns = zip_longest(*(shuffled[kind] for kind in rng.permutation(3)))
    return (candidate for turn in turns for candidate in turn if candidate is not None)


def _made(good: Worked, candidate: Candidate) -> Slip | None:
    """The slip; None where the text does not show the expression that it changes, or there would be no result."""
    place, index, other = candidate
    step, text = good.steps[place], good.texts[place]
    if index == RESULT:
        result = evaluate(step.result)
        if result is None or result + int(other) <= 0:
            return None
        return Slip(place, text, Step(step.expression, _like(result + int(other), step.result)))
    spans = _shown(step.expression, text)
    if spans is None:
        return None
    tokens = TOKEN.findall(step.expression)
    expression = "".join([*tokens[:index], other, *tokens[index + 1 :]])
    result = evaluate(expression)
    if result is None:
        return None
    start, end = spans[index]
    return Slip(place, f"{text[:start]}{other}{text[end:]}", Step(expression, _like(result, step.result)))


def _shown(expression: str, text: str) -> list[tuple[int, int]] | None:
    """Where each token of the annotated expression stands in the text just before its result, if all do."""
    left = text.rstrip(" $")
    tokens = TOKEN.findall(expression)
    found = list(TOKEN.finditer(left))[-len(tokens) :]
    same = len(found) == len(tokens) and all(map(_same, tokens, (match[0] for match in found)))
    if not same or not left.endswith("=") or left[found[-1].end() : -1].strip():
        return None
    gaps = [left[one.end() : other.start()] for one, other in pairwise(found)]
    before = left[: found[0].start()].rstrip(" $")[-1:]
    return None if any(gap.strip(" $") for gap in gaps) or before in SIGNS else [match.span() for match in found]


def _same(token: str, shown: str) -> bool:
    if token in SIGNS or shown in SIGNS:
        return SIGNS.get(token) == SIGNS.get(shown)
    return number(token) == number(shown)


def _plausible(before: Fraction, after: Fraction) -> bool:
    """A result as a person would write it: above zero, whole where the old one was, at most two decimals."""
    return after > 0 and (after.denominator == 1 or (before.denominator > 1 and (after * 100).denominator == 1))


def _replaced(text: str, became: dict[Fraction, Fraction]) -> str:
    def new(found: re.Match[str]) -> str:
        value = number(found[0])
        return _like(became[value], found[0]) if value in became else found[0]

    return NUMBER.sub(new, text)


def _like(value: Fraction, written: str) -> str:
    """The value in the manner of a number as written: its thousands separators, its cents."""
    comma = "," if "," in written else ""
    decimals = len(written.partition(".")[2])
    if value.denominator == 1 and not (decimals == 2 and written.endswith("0")):
        return f"{int(value):{comma}}"
    exact = f"{float(value):{comma}.{max(decimals, 2)}f}"
    return exact if decimals == 2 and written.endswith("0") else exact.rstrip("0")
