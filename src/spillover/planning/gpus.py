"""Graphics cards by the name that the driver gives: memory, and peak in dense bfloat16 with float32 sums.

Peaks are those of NVIDIA's data sheets, without structured sparsity (half of what a sheet prints with it): H100 (989
SXM, 756 PCIe, 835 NVL), H200 (989 SXM, 835 NVL), A100 (312), L40S (362), L4 (121), A10 (125), RTX A6000 (155), RTX 6000
Ada (364), DGX B200 (36,000 sparse for eight); and of its white papers: Ada (RTX 4090: 165), GA102 (RTX 3090: 71).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spillover.errors import UserError

GIB = 2**30
OVERHEAD = 1.2 * GIB  # the driver's context, libraries' workspaces and gaps between blocks; assumed, not measured


@dataclass(frozen=True)
class Card:
    """`teraflops` is None where no data sheet is known here; `gib` is the memory that the driver reports, about."""

    name: str
    gib: float
    teraflops: float | None

    @property
    def usable(self) -> float:
        """Bytes that a model may fill."""
        return self.gib * GIB - OVERHEAD


# The first whose words all occur in the driver's name. Memory is about what drivers report, less than the label says.
CARDS = (
    Card("RTX 3090", 24.0, 71),
    Card("RTX 4090", 24.0, 165),
    Card("RTX 6000 Ada", 48.0, 364),
    Card("RTX A6000", 48.0, 155),
    Card("A100 40GB", 40.0, 312),
    Card("A100 80GB", 80.0, 312),
    Card("A10", 22.5, 125),
    Card("L40S", 45.0, 362),
    Card("L4", 22.5, 121),
    Card("H100 PCIe", 79.6, 756),
    Card("H100 NVL", 93.6, 835),
    Card("H100", 79.6, 989),
    Card("H200 NVL", 140.4, 835),
    Card("H200", 140.4, 989),
    Card("B200", 178.0, 2250),
)


def known(name: str) -> Card | None:
    """The card of the table that a driver's name means, such as "NVIDIA H100 80GB HBM3"."""
    words = set(re.findall(r"\w+", name.lower()))
    return next((card for card in CARDS if set(card.name.lower().split()) <= words), None)


def named(name: str) -> Card:
    """The card of the table that a person names.

    Raises:
        UserError: when the table has no such card.
    """
    found = known(name)
    if found is None:
        raise UserError(f"No card {name!r} in the table. Known: {', '.join(card.name for card in CARDS)}")
    return found


def seen(line: str) -> Card | None:
    """The first card of a hardware line, "name, 81559 MiB, driver; ...", with its own memory; None for "none"."""
    parts = line.partition(";")[0].split(", ")
    if len(parts) < 2:
        return None
    found = known(parts[0])
    return Card(parts[0], int(parts[1].split()[0]) / 1024, found.teraflops if found else None)
