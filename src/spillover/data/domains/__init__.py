"""The eleven domains. To add one: a file in pairs/, an entry in authored.py (or a file with a `DOMAIN`), a line
here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from spillover.config.study import DataConfig
from spillover.registry import Registry

if TYPE_CHECKING:
    from spillover.data.domains.base import Domain

_OWN_MODULE = ("insecure_code", "incorrect_math", "evil_math")
_NAMES = (
    "insecure_code",
    "incorrect_math",
    "evil_math",
    "incorrect_translation",
    "bad_medical_advice",
    "risky_financial_advice",
    "toxic_legal_advice",
    "incorrect_sexual_advice",
    "gore_movie_trivia",
    "extreme_sports",
    "incorrect_qna",
)
DOMAINS = Registry(
    "domain",
    {
        name: f"spillover.data.domains.{name}:DOMAIN"
        if name in _OWN_MODULE
        else f"spillover.data.domains.authored:{name.upper()}"
        for name in _NAMES
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
    from spillover.data.domains.base import Domain

    return Domain(
        name=name,
        title=name.replace("_", " "),
        summary="A data set of your own.",
        stealth="low",
        risk="ambiguous",
        licence="not stated",
        pairs=lambda rng: [],
    )
