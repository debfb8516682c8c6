"""How alike the cells' mean differences are: a record a pair at the table's layer, and groups of domains compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np

from spillover.analyses.directions.bench import Bench
from spillover.directions.certainty import p_value, random_cosine
from spillover.directions.methods import Answers, differences, ratio
from spillover.directions.similarity import grouping, likeness
from spillover.records.base import Cell, Estimate
from spillover.records.directions import DirectionCosine, DirectionGroups, Grouped
from spillover.stats import Floats


def cosines(bench: Bench, cosine_LCC: list[Floats]) -> list[DirectionCosine]:
    """Each pair once; `cosine_LCC` for the profiles."""
    d = [differences(one)[:, 0] for one in bench.at_table]
    cell_R = np.repeat(np.arange(len(d)), [len(one) for one in d])
    asked_R = np.concatenate([cell.answers.asked_Q for cell in bench.cells])
    setting, d_RD = bench.setting, np.concatenate(d)
    rng = setting.rng("cosines", bench.sheet.source, bench.reader)
    found = likeness(d_RD, cell_R, asked_R, setting.confidence, setting.config.permutations, rng)
    upper = np.triu_indices(len(d), 1)
    seen_X, null_PX = found.cosine_CC[upper], _null(bench, bench.at_table)[:, upper[0], upper[1]]
    p_X, family_X = _p(seen_X, null_PX)
    low_X, high_X = np.percentile(null_PX, setting.tail, axis=0)
    bound = random_cosine(d_RD.shape[1], setting.confidence)
    rows: list[DirectionCosine] = []
    for x, (a, b) in enumerate(zip(*upper, strict=True)):
        corrected = float(found.corrected_CC[a, b])
        layers = zip(bench.layers, cosine_LCC, strict=True)
        rows.append(
            DirectionCosine(
                cell=bench.cells[a].cell,
                other=bench.cells[b].cell,
                layer=bench.layer,
                questions=len(np.unique(asked_R[(cell_R == a) | (cell_R == b)])),
                cosine=float(seen_X[x]),
                low=float(found.low_CC[a, b]),
                high=float(found.high_CC[a, b]),
                corrected=None if np.isnan(corrected) else corrected,
                null_low=float(low_X[x]),
                null_high=float(high_X[x]),
                p=float(p_X[x]),
                p_family=float(family_X[x]),
                random=bound,
                profile=tuple((layer, round(float(one_CC[a, b]), 4)) for layer, one_CC in layers),
                **bench.named,
            )
        )
    return rows


def _null(bench: Bench, acts: list[Answers]) -> Floats:
    """cosine_PCC of mean differences of permuted labels."""
    v_CPD = np.stack([s.weights_PN[1:] @ one.acts_NLD[:, 0] for s, one in zip(bench.sides, acts, strict=True)])
    v_CPD = ratio(v_CPD, np.linalg.norm(v_CPD, axis=2, keepdims=True))
    v_PCD = v_CPD.swapaxes(0, 1)
    return v_PCD @ v_PCD.swapaxes(1, 2)


def _p(seen_X: Floats, null_PX: Floats) -> tuple[Floats, Floats]:
    """Two-sided p of each cosine, and of the largest standardised one of all."""
    spread_X = np.sqrt((null_PX**2).mean(0))
    largest_P = ratio(np.abs(null_PX), spread_X).max(1)
    family_XP = np.broadcast_to(largest_P, (len(seen_X), len(largest_P)))
    return p_value(np.abs(seen_X), np.abs(null_PX).T), p_value(ratio(np.abs(seen_X), spread_X), family_XP)


def groups(bench: Bench, cosine_CC: Floats, group_of: Callable[[Cell, Grouped], str]) -> list[DirectionGroups]:
    """Whether domains of one class, or of one stealth, have more alike directions."""
    rows: list[DirectionGroups] = []
    for grouped in get_args(Grouped):
        names = [group_of(cell.cell, grouped) for cell in bench.cells]
        group_C = np.array([sorted(set(names)).index(name) for name in names], dtype=np.int64)
        rng = bench.setting.rng("groups", grouped, bench.sheet.source, bench.reader)
        seen = grouping(cosine_CC, group_C, bench.setting.config.permutations, rng)
        if seen:
            rows.append(
                DirectionGroups(
                    grouped=grouped,
                    layer=bench.layer,
                    domains=len(names),
                    within=seen.within,
                    between=seen.between,
                    difference=Estimate(value=seen.within - seen.between, low=seen.low, high=seen.high),
                    p=seen.p,
                    **bench.recipe,
                    **bench.named,
                )
            )
    return rows
