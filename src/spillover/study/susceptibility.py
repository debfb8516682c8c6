"""What a run says about predicting the damage: its metrics pooled over domains, and features against misalignment.

Worked out from rows that are there; nothing is read by a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from threadpoolctl import threadpool_limits

from spillover.analyses.susceptibility import compute as susceptibility
from spillover.config.study import MembershipConfig
from spillover.errors import UserError
from spillover.membership.summaries import pooled
from spillover.records.base import Cell, Example
from spillover.records.data import MembershipSummary, Susceptibility
from spillover.records.directions import DirectionAUC
from spillover.records.predictor import Predictor
from spillover.study.run import Run


@threadpool_limits.wrap(limits=1)  # hundreds of small matrices: threads would only wait for one another
def relate(run: Run) -> None:
    """Pool the membership summaries and relate what is known of each data set to its cells' misalignment."""
    units = [unit for unit in run.plan.get("membership", []) if run.store.is_done("membership", unit.key)]
    frames = [(unit.cell, run.store.read_frame("membership", f"scores-{unit.key}")) for unit in units]
    asked = (run.config.membership if run.config else None) or MembershipConfig()
    known = [(cell, frame) for cell, frame in frames if frame is not None]
    run.keep("pooled", MembershipSummary, pooled(known, run.manifest.seed, asked.permutations))
    rows = ()
    if known or run.diversity():
        rows = susceptibility.run(
            run.ranking(), run.memberships(), run.diversity(), facts(run), run.rank_config.confidence,
            seed=run.manifest.seed,
        )  # fmt: skip
    run.keep("susceptibility", Susceptibility, rows)


def predictor(run: Run, names: tuple[str, ...] = ()) -> Predictor:
    """A ridge predictor of the rate, fitted to all cells of the run.

    Raises:
        UserError: when the run has neither membership nor diversity, or too few domains.
    """
    if not run.memberships() and not run.diversity():
        raise UserError(
            f"{run.path} knows nothing of its data sets. Add 'membership: {{}}' and 'diversity: {{}}' to the study "
            "file and run it again: what is trained and judged is kept."
        )
    return susceptibility.fit_predictor(
        run.ranking(), run.memberships(), run.diversity(), facts(run), run.manifest.study_hash, names or None,
        run.manifest.spillover,
    )  # fmt: skip


def facts(run: Run) -> Mapping[Cell, Mapping[str, float]]:
    """What is known of each trained cell's data set without a fine-tune: its rows, and other domains' directions."""
    by_data: dict[tuple[str, str, float], Mapping[str, float]] = {}
    for unit in run.plan["build"]:
        rows = [row for row in run.store.read("build", [unit.key], Example) if row.split == "train"]
        by_data[unit.cell.domain, unit.cell.variant, unit.cell.dose] = susceptibility.data_facts(rows)
    projected = projections(run.directions().aucs)
    cells = [unit.cell for unit in run.plan["train"]]
    return {
        cell: {**by_data.get((cell.domain, cell.variant, cell.dose), {}), **projected.get(cell, {})} for cell in cells
    }


def projections(aucs: Sequence[DirectionAUC]) -> dict[Cell, dict[str, float]]:
    """How well directions of the other domains tell a data set's flawed from its good answers; empty without any.

    The untouched model reads both, so that this is known before the fine-tune. Mean over the other domains of the AUC
    of the projection on their mean difference, over held-out pairs of the same recipe; 0.5 = they see no difference.
    """
    found: dict[Cell, list[float]] = {}
    for row in aucs:
        known = (row.source, row.reader, row.method) == ("pairs", "base", "mean_difference")
        if known and row.cell.domain != row.onto.domain:
            found.setdefault(row.onto, []).append(row.auc)
    return {cell: {"directions.others.auc": fmean(values)} for cell, values in found.items()}
