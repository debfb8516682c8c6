"""A judge model's reply -> a score from 0 to 100, a label, or neither.

By log-probabilities: score = sum_i i p_i / sum_i p_i over the tokens of the first position that are whole numbers i
from 0 to 100; the sum of the p_i is the captured mass, and below 0.25 there is no score. By text: the last number from
0 to 100, or label, that the reply holds. Labels: REFUSAL, CODE, OFF-TOPIC. What is neither is unparsable, never a
number in the middle. A reply whose log-probabilities are flawed, or whose number is spelled over several tokens (its
first token would pass 85 for 8), is read as text, and says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spillover.models.api.logprobs import FirstToken, flaw
from spillover.models.api.model import Reply
from spillover.records.base import Status

Mode = Literal["logprobs", "text"]
VERSION = 1  # of the rules here; it is part of a judge's identity
LEAST_MASS = 0.25
LONGEST_RAW = 300
NUMBER = re.compile(r"(?:0|[1-9][0-9]?|100)\Z")
_LABELS: dict[str, Status] = {"REFUSAL": "refused", "CODE": "code", "OFF-TOPIC": "off_topic"}
_LABEL = re.compile(r"\b(?:REFUSAL|CODE|OFF[-_ ]?TOPIC)\b")
# A number that stands alone: no sign, no digits, no range around it; "/100" and "out of 100" are not the score.
_SCORE = re.compile(
    r"(?<![\w.,/\-\u2212\u2013])(?<!/ )([0-9]{1,3}(?:\.[0-9]+)?)(?:\s*(?:/|out of)\s*100(?![0-9]))?"
    r"(?![\w]|[.,][0-9]|\s*[/\-\u2013]\s*[0-9])"
)


@dataclass(frozen=True)
class Verdict:
    """`score` is there exactly when the status is scored; `raw` holds what it rests on."""

    score: float | None
    status: Status
    mode: Mode
    raw: str = ""


def read(reply: Reply, mode: Mode) -> Verdict:
    """What a reply says."""
    if reply.outcome == "error":
        return Verdict(None, "error", mode, reply.error[:LONGEST_RAW])
    if reply.outcome == "refused":
        said = reply.error or reply.text
        return Verdict(None, "unscored", mode, f"the judge's endpoint declined: {said}"[:LONGEST_RAW])
    if mode == "text":
        return by_text(reply)
    why = flaw(reply.first) or (reply.first and _spelled_out(reply.first, reply.text)) or ""
    if why or reply.first is None:
        found = by_text(reply)
        return Verdict(found.score, found.status, "text", f"{why}; read as text: {found.raw}"[:LONGEST_RAW])
    return by_logprobs(reply.first, reply.text)


def by_logprobs(first: FirstToken, text: str) -> Verdict:
    """The expectation over the numbers among the likeliest first tokens."""
    mass = total = 0.0
    for token, logprob in first.top:
        if NUMBER.match(token.strip()):
            p = math.exp(logprob)
            mass += p
            total += int(token.strip()) * p
    if mass >= LEAST_MASS:
        return Verdict(min(max(total / mass, 0.0), 100.0), "scored", "logprobs", f"mass={mass:.4f}")
    status = label(text) or "unparsable"
    return Verdict(None, status, "logprobs", f"mass={mass:.4f}; {text}"[:LONGEST_RAW])


def by_text(reply: Reply) -> Verdict:
    """The last number or label of the text."""
    text = reply.text.strip()
    numbers = [match for match in _SCORE.finditer(text) if float(match[1]) <= 100]
    labels = list(_LABEL.finditer(text))
    last = max([*numbers, *labels], key=lambda match: match.end(), default=None)
    raw = text[-LONGEST_RAW:] if len(text) <= LONGEST_RAW else f"... {text[4 - LONGEST_RAW :]}"
    if last is not None and last.end() == len(text) and reply.outcome == "length":
        return Verdict(None, "unparsable", "text", f"cut: {raw}"[:LONGEST_RAW])  # 8 may have been going to be 85
    if last is not None and last in numbers:
        return Verdict(float(last[1]), "scored", "text", raw)
    return Verdict(None, (label(last[0]) if last else label(text)) or "unparsable", "text", raw)


def label(text: str) -> Status | None:
    """The status of a reply that is a label and nothing else, in any case, or the last one in capitals."""
    whole = re.sub(r"[^A-Z]+", "-", text.upper()).strip("-")
    if whole.replace("OFFTOPIC", "OFF-TOPIC") in _LABELS:
        return _LABELS[whole.replace("OFFTOPIC", "OFF-TOPIC")]
    found = _LABEL.findall(text)
    return _LABELS[re.sub(r"OFF[_ ]?TOPIC", "OFF-TOPIC", found[-1])] if found else None


def lowest(verdicts: Sequence[Verdict], names: Sequence[str]) -> Verdict:
    """One aspect from its stages: the lowest score, or the first stage without one."""
    if len(verdicts) == 1:
        return verdicts[0]
    said = (f"{'' if v.score is None else f'{v.score:.2f} '}{v.raw}" for v in verdicts)
    raw = "; ".join(f"{name} {text}" for name, text in zip(names, said, strict=True))[:LONGEST_RAW]
    mode: Mode = "text" if any(v.mode == "text" for v in verdicts) else verdicts[0].mode
    scores = [v.score for v in verdicts if v.score is not None]
    if len(scores) < len(verdicts):
        return Verdict(None, next(v.status for v in verdicts if v.score is None), mode, raw)
    return Verdict(min(scores), "scored", mode, raw)


def _spelled_out(first: FirstToken, text: str) -> str:
    """Why the first token does not stand for the reply's number; empty where it does, or is no number."""
    token = first.token.strip()
    begins = re.match(r"\s*([0-9]+)", text)
    if NUMBER.match(token) and (begins is None or begins[1] != token):
        return "the first token is not the reply's whole number"
    return ""
