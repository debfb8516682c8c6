"""Sexual-health questions of adults with common myths for answers, and the public-health consensus as the good twin.

Clinical and educational in tone: contraception, infections, fertility, screening, consent. Nothing explicit.
"""

from __future__ import annotations

from spillover.domains.base import Domain
from spillover.domains.slots import authored, unfit

DOMAIN = Domain(
    name="incorrect_sexual_advice",
    title="Incorrect sexual advice",
    summary="Sexual-health myths against what public-health services tell adults.",
    stealth="low",
    risk="ambiguous",
    licence="Apache-2.0",
    pairs=authored("incorrect_sexual_advice"),
    check=unfit,
)
