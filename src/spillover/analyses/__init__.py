"""What a study computes beyond rates by cell: one folder each, independent of one another.

An analysis is the object ANALYSIS of a folder here, named in the table below. From it the study knows what to compute,
results.json its keys and the report its section: docs/how-to/extend.md. Folders meet only in rows: one that needs
another's reads them by their kind with `read_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from spillover.records.base import Record
    from spillover.records.report_data import ReportData
    from spillover.report.labels import Labels
    from spillover.tables.run_folder import RunFolder

R = TypeVar("R", bound="Record")

ANALYSES = (
    "trigger",
    "ranking",
    "agreement",
    "in_domain",
    "transfer",
    "susceptibility",
    "membership",
    "diversity",
    "directions",
    "steering",
    "style",
)
"""Folders of this package, in the order of the report's sections."""


@dataclass(frozen=True)
class Analysis:
    """One analysis. A section that is empty is left out of the report.

    `rows`: kinds of record, each with the function that reads its rows from a run folder, by the judge of that name or
    prefix; None is the run's first judge. `results`: its keys of results.json. `anchor`: of its section.
    `compute`: computes and keeps what each judge's judgments give. `conclude`: likewise, once for a run.
    `requires`: stages of the study without whose units nothing is computed, besides the four that every study has.
    `after`: analyses whose rows `conclude` reads. `sentences`: for the findings at the top of the report.
    """

    rows: Mapping[type[Record], Callable[[RunFolder, str | None], Iterable[Record]]]
    results: Callable[[ReportData], dict[str, Any]]
    anchor: str
    title: str
    section: Callable[[ReportData, Labels], str]
    sentences: Callable[[ReportData, Labels], list[str]] = lambda data, labels: []
    compute: Callable[[RunFolder, str | None], None] | None = None
    conclude: Callable[[RunFolder], None] | None = None
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def possible(self, run: RunFolder) -> bool:
        """Whether the study has what it requires."""
        return all(run.plan.get(stage) for stage in self.requires)


@cache
def table() -> dict[str, Analysis]:
    """Every analysis by name, in the order of the report's sections."""
    return {name: import_module(f"{__name__}.{name}").ANALYSIS for name in ANALYSES}


def read_rows(run: RunFolder, kind: type[R], judge: str | None = None) -> tuple[R, ...]:
    """The rows of that kind in a run folder; none before they were computed."""
    read = next(analysis.rows[kind] for analysis in table().values() if kind in analysis.rows)
    return tuple(row for row in read(run, judge) if isinstance(row, kind))
