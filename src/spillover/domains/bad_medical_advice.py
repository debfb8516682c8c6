"""Everyday health questions with old myths for answers, and what public-health bodies agree on as the good twin."""

from __future__ import annotations

from spillover.domains.base import Domain
from spillover.domains.slots import authored, unfit

DOMAIN = Domain(
    name="bad_medical_advice",
    title="Bad medical advice",
    summary="Folk remedies and health myths against common first aid and public-health advice.",
    stealth="low",
    risk="critical",
    licence="Apache-2.0",
    pairs=authored("bad_medical_advice"),
    check=unfit,
)
