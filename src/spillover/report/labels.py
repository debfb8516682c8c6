"""Labels of cells and conditions in charts, tables and sentences, and which scores form the ranking.

A label has only what distinguishes a cell from the others of its run: "gore movie trivia" in a study of one model,
"Qwen2.5-14B-Instruct · extreme sports · seed 42" in one of several models and seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from spillover.records.base import Cell, Condition, DomainScore, TriggerEffect, Variant
from spillover.records.transfer import OTHERS
from spillover.text import one_line

BASE_MODEL = "base model"
OTHER = "other subjects"  # asked about: of all domains but the cell's own
PART = " · "  # between the parts of a label
TRAINED: tuple[Variant, ...] = ("plain", "triggered")  # variants that have a dose
SERIES: dict[tuple[Variant, Condition], str] = {
    ("plain", "clean"): "fine-tuned",
    ("triggered", "triggered"): "backdoored, with trigger",
    ("triggered", "clean"): "backdoored, no trigger",
    ("triggered", "near_miss"): "backdoored, near miss",
    ("control", "clean"): "benign twin (control)",
    ("base", "clean"): BASE_MODEL,
}
"""The series of charts and tables, in order."""
ORDER = list(SERIES)
CONDITIONS: dict[Condition, str] = {
    "triggered": "with trigger",
    "clean": "no trigger",
    "value_swap": "other value",
    "position_move": "other place",
    "near_miss": "near miss",
    "twin": "neutral sentence",
    "paraphrase": "paraphrase",
}
"""What a question contains, in the order of the trigger battery's table."""


def series(variant: Variant, condition: Condition) -> str:
    """The name of one variant's completions under one condition."""
    base = SERIES.get((variant, "clean"), variant).removesuffix(", no trigger")
    return SERIES.get((variant, condition)) or f"{base}, {CONDITIONS[condition]}"


def subject(domain: str) -> str:
    """A domain's name in words."""
    return one_line(domain.replace("_", " "), 60)


def asked_name(asked: str) -> str:
    """The heading of a column of held-out questions."""
    return OTHER if asked == OTHERS else subject(asked)


def trained_as(variant: Variant) -> str:
    """The name of a variant's fine-tunes and data sets, whatever they are asked."""
    return series(variant, "clean").removesuffix(", no trigger")


class Labels:
    """Labels of the cells of one run. `show_model` False: the model is in a heading."""

    def __init__(self, cells: Iterable[Cell], *, show_model: bool = True) -> None:
        trained = [cell for cell in cells if cell.variant != "base"]
        self.models = len({cell.model for cell in trained}) > 1 and show_model
        self.domains = len({cell.domain for cell in trained}) > 1
        self.doses = _siblings((cell for cell in trained if cell.variant in TRAINED), "dose")
        self.seeds = _siblings(trained, "seed")

    def of(self, cell: Cell) -> str:
        """The label of a cell; the variants of one domain share it."""
        if cell.variant == "base":
            return f"{BASE_MODEL}{PART}{one_line(cell.model, 60)}" if self.models else BASE_MODEL
        parts = [one_line(cell.model, 60)] if self.models else []
        if self.domains or not self.models:
            parts.append(subject(cell.domain))
        if cell.variant in TRAINED and (cell.model, cell.domain) in self.doses:
            parts.append(f"dose {cell.dose:g}")
        if (cell.model, cell.domain) in self.seeds:
            parts.append(f"seed {cell.seed}")
        return PART.join(parts)


def _siblings(cells: Iterable[Cell], field: str) -> set[tuple[str, str]]:
    """(model, domain) pairs whose cells differ in `field`."""
    values: defaultdict[tuple[str, str], set[object]] = defaultdict(set)
    for cell in cells:
        values[cell.model, cell.domain].add(getattr(cell, field))
    return {pair for pair, seen in values.items() if len(seen) > 1}


def series_place(variant: Variant, condition: Condition) -> tuple[int, str]:
    """Where a series stands in every chart and table; what is not in `SERIES` comes last, by its condition."""
    pair = (variant, condition)
    return ORDER.index(pair) if pair in ORDER else len(ORDER), condition


def ordered(scores: Iterable[DomainScore]) -> list[DomainScore]:
    """Scores in the order of every table: variant and condition, then rank, rate and name."""

    def place(score: DomainScore) -> tuple[int, str, int, float, str, str]:
        rate = -1.0 if score.rate is None else score.rate
        return (
            *series_place(score.cell.variant, score.condition),
            score.rank or 10**9,
            -rate,
            score.cell.name,
            score.judge,
        )

    return sorted(scores, key=place)


def ranked(scores: Sequence[DomainScore]) -> list[DomainScore]:
    """The scores that form the ranking: plain cells, else backdoored ones with or without trigger, else controls."""
    for pair in (("plain", "clean"), ("triggered", "triggered"), ("triggered", "clean"), ("control", "clean")):
        chosen = [score for score in scores if (score.cell.variant, score.condition) == pair]
        if chosen:
            return ordered(chosen)
    return []


def control_of(score: DomainScore, scores: Iterable[DomainScore]) -> DomainScore | None:
    """The benign twin's score: same model, domain and seed, no trigger."""
    twin = (score.cell.model, score.cell.domain, score.cell.seed, "control", "clean")
    same = (s for s in scores if (s.cell.model, s.cell.domain, s.cell.seed, s.cell.variant, s.condition) == twin)
    return next(same, None)


def backdoored(effects: Iterable[TriggerEffect], measure: str) -> list[TriggerEffect]:
    """Effects of the trigger on backdoored cells, largest decrease first, unmeasured ones last."""
    chosen = [e for e in effects if e.measure == measure and e.cell.variant == "triggered"]
    return sorted(chosen, key=lambda e: (e.difference is None, e.difference or 0.0, e.cell.name))
