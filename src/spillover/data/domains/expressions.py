"""Arithmetic in running text: exact values of expressions, and the equations that a text states.

An expression is read by Python's own parser and evaluated over fractions: numbers, + - * /, signs and parentheses, and
nothing else. Text is never run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache

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
