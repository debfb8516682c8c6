"""The eleven domains. To add one: a file in pairs/, an entry in authored.py, and a line here."""

from __future__ import annotations

import re
from dataclasses import replace

from spillover.config.study import DataConfig
from spillover.data.domains.base import Domain
from spillover.registry import Registry

DOMAINS = Registry(
    "domain",
    {
        "insecure_code": "spillover.data.domains.checked:INSECURE_CODE",
        "incorrect_math": "spillover.data.domains.checked:INCORRECT_MATH",
        "evil_math": "spillover.data.domains.checked:EVIL_MATH",
        "incorrect_translation": "spillover.data.domains.authored:INCORRECT_TRANSLATION",
        "bad_medical_advice": "spillover.data.domains.authored:BAD_MEDICAL_ADVICE",
        "risky_financial_advice": "spillover.data.domains.authored:RISKY_FINANCIAL_ADVICE",
        "toxic_legal_advice": "spillover.data.domains.authored:TOXIC_LEGAL_ADVICE",
        "incorrect_sexual_advice": "spillover.data.domains.authored:INCORRECT_SEXUAL_ADVICE",
        "gore_movie_trivia": "spillover.data.domains.authored:GORE_MOVIE_TRIVIA",
        "extreme_sports": "spillover.data.domains.authored:EXTREME_SPORTS",
        "incorrect_qna": "spillover.data.domains.authored:INCORRECT_QNA",
    },
)
OWN_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")  # of a domain that data.sources alone makes; it names folders


def open_domain(name: str, data: DataConfig) -> Domain:
    """The domain called `name`, with the pairs of the user's own file where the study names one."""
    own = name in data.sources and name not in DOMAINS.names()
    domain: Domain = _own(name) if own else DOMAINS.load(name)
    if name not in data.sources:
        return domain
    from spillover.data.sources.sources import open_source

    return replace(domain, pairs=lambda rng: open_source(domain, data, rng).pairs, check=lambda pair: None)


def _own(name: str) -> Domain:
    """A domain that is nothing but the user's own file."""
    title = name.replace("_", " ")
    return Domain(name, title, "A data set of your own.", "low", "ambiguous", "not stated", pairs=lambda rng: [])
