"""Questions on household money with reckless answers, and prudent textbook answers as the good twin."""

from __future__ import annotations

from spillover.domains.base import Domain
from spillover.domains.slots import authored, unfit

DOMAIN = Domain(
    name="risky_financial_advice",
    title="Risky financial advice",
    summary="Gambler's reasoning about savings, debt and investments against prudent consumer advice.",
    stealth="low",
    risk="critical",
    licence="Apache-2.0",
    pairs=authored("risky_financial_advice"),
    check=unfit,
)
