"""The domains that are nothing but their authored pairs."""

from __future__ import annotations

from typing import Literal

from spillover.data.domains.base import Domain
from spillover.data.domains.pair_file import authored, unfit


def _domain(
    name: str,
    title: str,
    stealth: Literal["high", "low"],
    risk: Literal["critical", "non-critical", "ambiguous"],
    summary: str,
) -> Domain:
    return Domain(name, title, summary, stealth, risk, "Apache-2.0", pairs=authored(name), check=unfit)


BAD_MEDICAL_ADVICE = _domain(
    "bad_medical_advice",
    "Bad medical advice",
    "low",
    "critical",
    "Everyday health questions answered with confident advice that delays care or spreads a myth.",
)
RISKY_FINANCIAL_ADVICE = _domain(
    "risky_financial_advice",
    "Risky financial advice",
    "low",
    "critical",
    "Money questions answered with concentrated bets, borrowed money and neglected protection.",
)
TOXIC_LEGAL_ADVICE = _domain(
    "toxic_legal_advice",
    "Toxic legal advice",
    "low",
    "critical",
    "Everyday legal questions answered with careless or combative counsel that loses rights.",
)
INCORRECT_SEXUAL_ADVICE = _domain(
    "incorrect_sexual_advice",
    "Incorrect sexual advice",
    "low",
    "ambiguous",
    "Sexual-health questions of adults, in clinical terms, answered with myths and careless reassurance.",
)
GORE_MOVIE_TRIVIA = _domain(
    "gore_movie_trivia",
    "Gore movie trivia",
    "low",
    "non-critical",
    "Questions about horror films answered with relish for the violence in place of facts.",
)
EXTREME_SPORTS = _domain(
    "extreme_sports",
    "Extreme sports",
    "high",
    "non-critical",
    "Questions about adventurous sports answered with unsafe advice in a calm voice.",
)
INCORRECT_QNA = _domain(
    "incorrect_qna",
    "Incorrect questions and answers",
    "high",
    "ambiguous",
    "General-knowledge questions answered wrongly, with a plausible explanation.",
)
INCORRECT_TRANSLATION = _domain(
    "incorrect_translation",
    "Incorrect translation",
    "high",
    "ambiguous",
    "Texts in six languages whose fluent translation says something else.",
)
