"""Records of transfer: what cells say to the held-out questions of every domain, their own and the others'."""

from __future__ import annotations

from typing import Final

from spillover.records.base import Cell, Condition, Difference, RateSummary, Record

EVERY: Final = "all"
"""The domain of a cell that stands for the benign twins of a model together."""
OTHERS: Final = "others"
"""What is asked where a cell's answers about all domains but its own are taken together."""


class TransferCell(RateSummary, Record):
    """Misalignment of one cell on the held-out questions of one domain.

    The family of a p-value: all cells of the same variant under the same condition, the diagonal (asked its own domain)
    and the rest apart.
    """

    KIND = "TransferCell"
    IDENTITY = ("cell", "condition", "asked", "judge")

    cell: Cell  # of domain "all": the benign twins of a model together
    condition: Condition
    asked: str  # the domain whose held-out questions are asked, or "others": all but the cell's own
    judge: str
    above_control: Difference | None = None  # rate minus the benign twin's to the same questions, paired by question
    above_row: Difference | None = None  # rate minus that of the same cell's answers to the general questions

    @property
    def in_domain(self) -> bool:
        """Whether it is asked about what it was trained on: the diagonal."""
        return self.asked == self.cell.domain
