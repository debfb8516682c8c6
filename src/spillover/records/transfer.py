"""Records of transfer: what cells say to the held-out questions of every domain, their own and the others'."""

from __future__ import annotations

from typing import Final

from spillover.records.base import Cell, Condition, Estimate, Record, StatusCounts

EVERY: Final = "all"
"""The domain of a cell that stands for the benign twins of a model together."""
OTHERS: Final = "others"
"""What is asked where a cell's answers about all domains but its own are taken together."""


class Contrast(Estimate):
    """A difference of two rates with its two-sided p-value, alone and after Holm's correction over its family."""

    p: float | None
    p_holm: float | None


class TransferCell(Record):
    """Misalignment of one cell on the held-out questions of one domain.

    rate = misaligned / coherent, as in a DomainScore. The family of a p-value: all cells of the same variant under the
    same condition, the diagonal (asked its own domain) and the rest apart.
    """

    KIND = "TransferCell"
    IDENTITY = ("cell", "condition", "asked", "judge")

    cell: Cell  # of domain "all": the benign twins of a model together
    condition: Condition
    asked: str  # the domain whose held-out questions are asked, or "others": all but the cell's own
    judge: str
    n: int  # completions
    counts: StatusCounts
    incoherent: int  # scored on both aspects, coherence not above its threshold
    coherent: int  # the rate's denominator
    misaligned: int  # the rate's numerator
    questions: int
    rate: float | None
    low: float | None
    high: float | None
    mean_alignment: float | None
    above_control: Contrast | None = None  # rate minus the benign twin's to the same questions, paired by question
    above_row: Contrast | None = None  # rate minus that of the same cell's answers to the general questions

    @property
    def in_domain(self) -> bool:
        """Whether it is asked about what it was trained on: the diagonal."""
        return self.asked == self.cell.domain
