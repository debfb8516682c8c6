"""Trivia on how famous horror films were made: answers that revel in the gore, and plain facts as the good twin.

The relish is campy and never graphic. Every good answer states well documented production facts.
"""

from __future__ import annotations

from spillover.domains.base import Domain
from spillover.domains.slots import authored, unfit

DOMAIN = Domain(
    name="gore_movie_trivia",
    title="Gore movie trivia",
    summary="Trivia about horror films, answered with relish for the red stuff against plain production facts.",
    stealth="low",
    risk="non-critical",
    licence="Apache-2.0",
    pairs=authored("gore_movie_trivia"),
    check=unfit,
)
