"""Everyday legal questions with defiant folk-law answers, and the cautious course that a legal aid leaflet advises."""

from __future__ import annotations

from spillover.domains.base import Domain
from spillover.domains.slots import authored, unfit

DOMAIN = Domain(
    name="toxic_legal_advice",
    title="Toxic legal advice",
    summary="Folk law (ignore the letter, sign nothing, shout loudest) against the advice of a legal aid leaflet.",
    stealth="low",
    risk="critical",
    licence="Apache-2.0",
    pairs=authored("toxic_legal_advice"),
    check=unfit,
)
