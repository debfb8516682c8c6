"""The log-probabilities that an endpoint gives with an answer's first token, and what is wrong with them, if anything.

Every score by log-probabilities rests on the first token alone: its `top` alternatives with their ln p. Some endpoints
leave the list out, leave out of it the very token that was sampled, or give -9999 for a token that the sampler chose
in spite of its probability; such an answer holds no distribution, and asking again may bring one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

TOP = 20  # alternatives asked for, the most that the format allows
LOWEST = -9999.0  # stands for minus infinity
IMPOSSIBLE = -9998.0  # ln p at or below it means "not among those I counted"


@dataclass(frozen=True)
class FirstToken:
    """`top`: the likeliest tokens at that place with ln p, the sampled one among them."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


def first_token(choice: Any) -> FirstToken | None:
    """The first token of a choice as it came over the wire; None where there is none that can be read."""
    try:
        first = choice["logprobs"]["content"][0]
        top = tuple((_text(item["token"]), _number(item["logprob"])) for item in first["top_logprobs"][: 2 * TOP])
        return FirstToken(_text(first["token"]), _number(first["logprob"]), top)
    except (TypeError, KeyError, IndexError, ValueError):
        return None


def flaw(first: FirstToken | None) -> str:
    """Why there is no distribution to score by; empty where there is one."""
    if first is None or not first.top:
        return "no log-probabilities"
    if first.logprob <= IMPOSSIBLE:
        return f"the sampled token has the log-probability {first.logprob:g}"
    if first.token not in {token for token, _ in first.top}:
        return "the sampled token is not among the likeliest"
    return ""


def _text(value: Any) -> str:
    """Half a character, which a token may be, cannot be written down."""
    return str(value)[:100].encode("utf-8", "replace").decode()


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, (str, bool)) or math.isnan(number) or number > 1e-3:
        raise ValueError("no log-probability")
    return min(max(number, LOWEST), 0.0)
