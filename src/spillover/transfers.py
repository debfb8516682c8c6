"""The matrix of trained by asked domain over a run: what was asked and judged so far, column by column."""

from __future__ import annotations

from spillover.columns import read
from spillover.records import Completion, Judgment
from spillover.records_transfer import TransferCell
from spillover.run import Run
from spillover.stages import transfer
from spillover.tally import Rows, rows_of


def cross(run: Run) -> None:
    """Work the matrix out from the rows that are there, and keep it; nothing where the study asks for none."""
    keys: dict[str, tuple[list[str], list[str]]] = {}
    for place, stage in enumerate(("ask", "grade")):
        for unit in run.plan.get(stage, []):
            keys.setdefault(unit.asked or "", ([], []))[place].append(unit.key)
    if keys:
        asked = {domain: _rows(run, *shards) for domain, shards in keys.items()}
        run.keep("transfer", TransferCell, transfer.run(asked, run.rows(), run.rank_config))


def _rows(run: Run, asked: list[str], graded: list[str]) -> Rows:
    columns = read(run.store, asked, graded, ("ask", "grade"))
    if columns is not None:
        return columns.rows()
    return rows_of(run.store.read("ask", asked, Completion), run.store.read("grade", graded, Judgment))
