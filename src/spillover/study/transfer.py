"""The matrix of trained by asked domain over a run: what was asked and judged so far, column by column."""

from __future__ import annotations

from spillover.analyses.transfer import compute as transfer
from spillover.records.base import Completion, Judgment
from spillover.study.run import Run
from spillover.tables.columns import read
from spillover.tables.counts import Rows, rows_of


def cross(run: Run, judge: str | None = None) -> None:
    """Work the matrix out from the rows that are there, and keep it; nothing where the study asks for none.

    `judge`: by whose verdicts; the study's own when None, and nothing where another has judged none of the answers.
    """
    domains = sorted({unit.asked or "" for unit in run.plan.get("ask", [])})
    keys = {domain: run.asked_keys(domain, judge) for domain in domains}
    if any(graded for _, graded in keys.values()):
        asked = {domain: _rows(run, *shards) for domain, shards in keys.items()}
        run.keep_transfer(transfer.run(asked, run.rows(judge), run.rank_config), judge)


def _rows(run: Run, asked: list[str], graded: list[str]) -> Rows:
    columns = read(run.store, asked, graded, ("ask", "grade"))
    if columns is not None:
        return columns.rows()
    return rows_of(run.store.read("ask", asked, Completion), run.store.read("grade", graded, Judgment))
