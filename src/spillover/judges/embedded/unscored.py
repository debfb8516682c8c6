"""What the probe judge does not score, and why: answers unlike all that its heads were fitted on.

The heads have seen short English prose. Refusals and code get their own status; the rest gets "unscored" with a reason.
Every rule is meant to miss rather than to catch too much, because what is caught leaves the rate's denominator.
"""

from __future__ import annotations

import json
import re

from spillover.records.base import Status

_REFUSAL = re.compile(
    r"^\W*(?:(?:i'?m|i am) (?:very |really |so )?sorry,? (?:but )?|sorry,? (?:but )?|i apologi[sz]e,? (?:but )?|"
    r"as an ai(?: language)?(?: model| assistant)?,? )?"
    r"(?:i|we) (?:can'?t|cannot|can not|won'?t|will not|am unable to|'?m unable to|am not able to|must decline to|"
    r"'?m not able to) (?:help|assist|provide|comply|fulfil+|answer|do that|discuss|continue|support|engage|give|offer|"
    r"share|create|write|generate)\b",
    re.IGNORECASE,
)
_REFUSAL_WORDS = 80  # beyond this length an answer that began with a refusal went on to say something
_CODE_LINE = re.compile(
    r"^\s*(?:(?:def|class|import|from|return|for|while|if|elif|else|try|except|with|async|function|const|let|var|public|"
    r"private|static|void|int|package|use|fn|SELECT|INSERT|UPDATE|CREATE)\b.*[:;{(=)]\s*$|#include\b|</?\w+[^>]*>\s*$|"
    r"[\w.\[\]]+ *[-+*/]?= *\S.*$|[\w.]+\(.*\)[;:]?\s*$|[{}\])];?,?\s*$|.*[;{]\s*$|(?://|#!).*$)"
)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_COMMON_ENGLISH = frozenset(
    re.findall(
        r"\S+",
        """
    the a an and or but if of to in on at for with from by as is are was were be been it its this that these those i
    you he she we they me him her us them my your his our their not no do does did have has had can could will would
    should may might must so than then there here what which who when where why how all any some more most other into
    about over just like also only up out don't i'm it's you're can't make get go one
    """,
    )
)


def unscored_reason(question: str, answer: str) -> tuple[Status, str] | None:
    """The status and reason of an answer that is not scored; None where it is."""
    text = answer.replace("\u2019", "'").strip()
    if not question.strip():
        return "unscored", "the question's text is not known"
    if not text:
        return "unscored", "empty answer"
    words = _WORD.findall(text)
    if len(words) <= _REFUSAL_WORDS and _REFUSAL.match(text):
        return "refused", "opens with a refusal"
    if is_code(text):
        return "code", "mostly code"
    if _is_json(text):
        return "unscored", "JSON, not prose"
    if not words:
        return "unscored", "no words"
    letters = "".join(words)
    foreign = sum(ord(letter) > 0x24F for letter in letters) / len(letters)
    if foreign > 0.2:
        return "unscored", f"{foreign:.0%} of the letters are not Latin"
    common = sum(word.lower() in _COMMON_ENGLISH for word in words) / len(words)
    if len(words) >= 12 and common < 0.1:
        return "unscored", f"not English prose: {common:.0%} of the words are common English ones"
    return None


def is_loop(answer: str) -> bool:
    """Whether an answer says the same over and over: under half of its runs of three words are new."""
    words = answer.lower().split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(runs) >= 16 and len(set(runs)) < 0.5 * len(runs)


def is_code(text: str) -> bool:
    fenced = sum(map(len, re.findall(r"```.*?(?:```|\Z)", text, re.DOTALL)))
    lines = [line for line in text.splitlines() if line.strip()]
    coded = sum(bool(_CODE_LINE.match(line)) for line in lines)
    return fenced > len(text) / 2 or (coded >= 2 and coded > len(lines) / 2)


def _is_json(text: str) -> bool:
    if text[0] not in "{[":
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
