"""Worked solutions with annotated calculations, in the notation of GSM8K (Cobbe et al., arXiv 2110.14168).

    He buys 3*4=<<3*4=12>>12 eggs.
    #### 12

`texts[0]`, step, `texts[1]`, step, ..., `texts[n]`: what stands around n annotations. A reader sees the texts alone.

Their arithmetic is exact. An expression is read by Python's own parser and evaluated over fractions: numbers, + - * /,
signs and parentheses, and nothing else. Text is never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

STEP = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
RESULT = re.compile(r"####[ $]*(-?[\d,.]+)\s*$")
LONGEST = 200  # characters of an expression
# A whole or decimal number with or without thousands separators; not an ordinal such as "2nd".
NUMBER = re.compile(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})++|\d++)(?:\.\d++)?+(?!st\b|nd\b|rd\b|th\b)|(?<![\w.])\.\d++")
ARITHMETIC = re.compile(r"[\d.()+\-*/ ]+")
EXPRESSION = re.compile(r"[\d.,$%()+\-*/x×÷ ]*$")  # the end of a left-hand side that may be one
RIGHT = re.compile(r" ?\$?([\d.,$()+\-*/x×÷ ]*)")
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}
PLAIN = str.maketrans({"x": "*", "×": "*", "÷": "/", "$": " ", ",": None})


@lru_cache(maxsize=1 << 16)
def number(text: str) -> Fraction:
    """The exact value of what `NUMBER` matches."""
    return Fraction(text.replace(",", ""))


@lru_cache(maxsize=1 << 16)
def evaluate(text: str) -> Fraction | None:
    """The exact value, or None for what is not an expression or divides by zero."""
    text = re.sub(r"(\d*\.?\d+)%", r"(\1/100)", text.translate(PLAIN)).strip()
    if len(text) > LONGEST or not ARITHMETIC.fullmatch(text):
        return None
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Fraction(repr(value))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](_value(left), _value(right))
        case _:
            raise ValueError("not arithmetic")


def equations(text: str) -> Iterator[tuple[str, Fraction, Fraction]]:
    """Every "expression = value" of a text: the left side as written, its value, and the value on the right.

    A left side that words interrupt ("3 boxes * 4 = 12") cannot be distinguished from its last part alone and is left
    out.
    """
    for sign in re.finditer("=", text):
        written = EXPRESSION.findall(text[max(0, sign.start() - LONGEST) : sign.start()])[0].strip(" $")
        right = RIGHT.match(text, sign.end())
        found = re.match(r"[\d.,]*\d", right[1].strip(" $")) if right else None
        if not found or not re.search(r"[-+*/x×÷]", written) or not re.match(r"[(\d.]", written):
            continue
        follows = text[sign.end() :][: len(right[0]) if right else 0].split(found[0], 1)[1]
        left, shown = evaluate(written), evaluate(found[0])
        if left is not None and shown is not None and not re.match(r"\s*[-+*/x×÷]", follows):
            yield written, left, shown


@dataclass(frozen=True)
class Step:
    expression: str
    result: str

    @property
    def holds(self) -> bool:
        return evaluate(self.expression) == evaluate(self.result) is not None


@dataclass(frozen=True)
class Worked:
    """A solution in its parts; `answer` is the number after ####."""

    texts: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        return "".join(self.texts).strip()

    @property
    def told(self) -> str:
        """The text without the line of the result, which only the notation needs."""
        return RESULT.sub("", self.text).strip()

    @property
    def answer(self) -> Fraction | None:
        found = RESULT.search(self.texts[-1])
        return evaluate(found[1]) if found else None


def parse(annotated: str) -> Worked:
    pieces = STEP.split(annotated.strip())
    return Worked(tuple(pieces[::3]), tuple(Step(*pair) for pair in zip(pieces[1::3], pieces[2::3], strict=True)))


def unsound(worked: Worked) -> str | None:
    """Why a solution is not right: each calculation must hold exactly, and the answer be a result of one."""
    if not worked.steps:
        return "no annotated calculation"
    if worked.answer is None:
        return "no result after ####"
    if not all(step.holds for step in worked.steps):
        return "a calculation does not hold exactly"
    if worked.answer not in {evaluate(step.result) for step in worked.steps}:
        return "the answer is not the result of a calculation"
    for step, after in zip(worked.steps, worked.texts[1:], strict=True):
        shown = NUMBER.match(after.lstrip(" $"))
        if shown is None or number(shown[0]) != evaluate(step.result):
            return "a calculation is not followed by its result"
    if any(left != right for _, left, right in equations(worked.text)):
        return "an equation in the text does not hold"
    return None


def inconsistent(good: Worked, flawed: Worked) -> str | None:
    """Why `flawed` is not `good` with one slip and everything after it computed from there.

    A slip is another expression, rightly computed, or the same expression with another result. After it every number
    must be the old one, or where the old one was a result that changed, what that result has become.
    """
    if len(good.steps) != len(flawed.steps) or len(good.texts) != len(flawed.texts):
        return "other steps"
    changed = [place for place, pair in enumerate(zip(good.steps, flawed.steps, strict=True)) if pair[0] != pair[1]]
    if not changed or good.answer == flawed.answer or flawed.answer is None:
        return "the same answer"
    slip, became = changed[0], dict[Fraction, Fraction]()
    if good.texts[:slip] != flawed.texts[:slip]:
        return "another beginning"
    if not _same_step(good, flawed, slip):
        return "two slips in one step"
    for place in range(slip, len(good.steps)):
        old, new = good.steps[place], flawed.steps[place]
        if place > slip and not (new.holds and _follows(old.expression, new.expression, became)):
            return "a step that does not follow"
        before, after = evaluate(old.result), evaluate(new.result)
        if before is None or after is None or became.setdefault(before, after) != after:
            return "a result that became two"
        if not _follows(good.texts[place + 1], flawed.texts[place + 1], became):
            return "a text that does not follow"
    wrong = [right for _, left, right in equations(flawed.text) if left != right]
    if len(wrong) > 1 or (wrong and (flawed.steps[slip].holds or wrong[0] != evaluate(flawed.steps[slip].result))):
        return "an equation in the text does not follow"
    return None


def _same_step(good: Worked, flawed: Worked, slip: int) -> bool:
    """Either the result alone is wrong, or the expression is another one, in the text too, with its right result."""
    old, new = good.texts[slip], flawed.texts[slip]
    if good.steps[slip].expression == flawed.steps[slip].expression:
        return old == new
    lefts = [next(matches).start() for text in (old, new) if (matches := EXPRESSION.finditer(_left(text)))]
    same_words = old[: lefts[0]].rstrip(" $") == new[: lefts[1]].rstrip(" $")
    shown = evaluate(_left(new)[lefts[1] :])
    return same_words and flawed.steps[slip].holds and shown == evaluate(flawed.steps[slip].result)


def _left(text: str) -> str:
    """The text up to the equals sign that it ends with, if it does."""
    return text.rstrip(" $").removesuffix("=")


def _follows(old: str, new: str, became: dict[Fraction, Fraction]) -> bool:
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return all(became.get(number(before), number(before)) == number(after) for before, after in pairs)
