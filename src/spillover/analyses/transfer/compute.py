"""transfer: every cell's answers to the held-out questions of every domain -> the matrix of trained by asked domain.

One column is one domain's questions, the same for all cells, so a cell is set against its benign twin question by
question (`stats.rate_differences`). Its general questions are other questions, so a row is set against its own general
rate as two independent samples of questions. Both are tested over all cells of a family at once (Holm): the family is
the cells of one variant under one condition, those asked their own domain (the diagonal) apart from the others.

The benign twins of a model stand together in one more row, the cell of domain "all"; the questions of all domains but a
cell's own together in one more column, "others".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spillover.config.study import RankConfig
from spillover.records.base import Cell, Difference, content_hash, or_none
from spillover.records.transfer import EVERY, OTHERS, TransferCell
from spillover.stats import clustered as stats
from spillover.stats.clustered import Differences, Rates
from spillover.tables.counts import Counts, Key, Rows, count_by_question, match_twins
from spillover.tables.run_folder import RunFolder

FAMILIES = ("above_control", "above_row")


def keep(folder: RunFolder, judge: str | None = None) -> None:
    """Compute the matrix from the rows that are there, and keep it; nothing where the judge has judged none of them."""
    domains = sorted({unit.asked or "" for unit in folder.plan.get("ask", [])})
    if any(folder.asked_keys(domain, judge)[1] for domain in domains):
        asked = {domain: folder.asked_rows(domain, judge) for domain in domains}
        folder.keep(_name(folder, judge), TransferCell, transfer_matrix(asked, folder.rows(judge), folder.rank_config))


def kept(folder: RunFolder, judge: str | None = None) -> tuple[TransferCell, ...]:
    """The matrix by that judge."""
    return folder.kept(_name(folder, judge), TransferCell)


def _name(folder: RunFolder, judge: str | None) -> str:
    who = folder.judge(judge)
    if who is None or not who.shards:
        return f"transfer-{folder.data_key}"
    return f"transfer-{content_hash([folder.judge_key(judge), who.graded], length=16)}"


def transfer_matrix(asked: Mapping[str, Rows], general: Rows, config: RankConfig) -> tuple[TransferCell, ...]:
    """The matrix by one judge's judgments, by column; sorted by asked domain, cell and condition.

    Args:
        asked: answers to the held-out questions of each domain.
        general: answers of the same cells to the study's general questions.
        config: thresholds and confidence.
    """
    rows = count_by_question(_with_all_twins(general), config)
    asked = {**asked, OTHERS: _others(asked)}
    columns = (
        _column(domain, count_by_question(_with_all_twins(asked[domain]), config), rows, asked[domain].judges, config)
        for domain in sorted(asked)
    )
    return _adjusted([cell for column in columns for cell in column])


def _column(
    domain: str, table: Counts, general: Counts, judges: Sequence[str], config: RankConfig
) -> list[TransferCell]:
    rates = table.rates(range(len(table.keys)))
    means = table.means(range(len(table.keys)))
    summaries = table.rate_summaries(range(len(table.keys)), rates, means, config.confidence)
    against_twin, against_row = _against_twins(table, config), _against_rows(table, rates, general, config)
    return [
        TransferCell(
            cell=cell,
            condition=condition,
            asked=domain,
            judge=next(iter(judges), ""),
            **dict(summaries[g]),
            above_control=against_twin.get(g),
            above_row=against_row.get(g),
        )
        for g, (cell, condition) in enumerate(table.keys)
    ]


def _against_twins(table: Counts, config: RankConfig) -> dict[int, Difference]:
    """Over the questions to which both have a coherent answer; the others are left out of both rates."""
    pairs = match_twins(table.keys)
    groups = [list(pairs), list(pairs.values())]
    shared_PQ = (table.coherent_GQ[groups[0]] > 0) & (table.coherent_GQ[groups[1]] > 0)
    cells, controls = (
        stats.clustered_rates(table.misaligned_GQ[rows] * shared_PQ, table.coherent_GQ[rows] * shared_PQ)
        for rows in groups
    )
    return _contrasts(groups[0], stats.paired_rate_differences(cells, controls, config.confidence, moderated=True))


def _against_rows(table: Counts, rates: Rates, general: Counts, config: RankConfig) -> dict[int, Difference]:
    index = {key: row for row, key in enumerate(general.keys)}
    known = [g for g, key in enumerate(table.keys) if key in index]
    row = general.rates([index[table.keys[g]] for g in known])
    return _contrasts(known, stats.independent_rate_differences(rates.take(known), row, config.confidence))


def _contrasts(groups: Sequence[int], d: Differences) -> dict[int, Difference]:
    values = zip(groups, d.value_CC, d.low_CC, d.high_CC, d.p_CC, strict=True)
    return {
        g: Difference(value=or_none(value), low=or_none(low), high=or_none(high), p=or_none(p), p_holm=None)
        for g, value, low, high, p in values
    }


def _adjusted(cells: list[TransferCell]) -> tuple[TransferCell, ...]:
    """With Holm's p-values over each family; a cell that has nothing to compare belongs to none."""
    for name in FAMILIES:
        families: dict[tuple[object, ...], list[tuple[int, Difference, float]]] = {}
        for i, cell in enumerate(cells):
            contrast: Difference | None = getattr(cell, name)
            if contrast is not None and contrast.p is not None:
                kind = (cell.cell.variant, cell.condition, cell.cell.domain == EVERY)
                family = (*kind, cell.in_domain, cell.asked == OTHERS)
                families.setdefault(family, []).append((i, contrast, contrast.p))
        for members in families.values():
            for (i, contrast, _), p_holm in zip(members, stats.holm([p for _, _, p in members]), strict=True):
                cells[i] = cells[i].model_copy(update={name: contrast.model_copy(update={"p_holm": p_holm})})
    return tuple(cells)


def _others(asked: Mapping[str, Rows]) -> Rows:
    """Answers about all domains but the cell's own, as to one set of questions."""
    parts = [
        rows.take_groups([g for g, (cell, _) in enumerate(rows.keys) if cell.domain != domain])
        for domain, rows in sorted(asked.items())
    ]
    keys = list(dict.fromkeys(key for part in parts for key in part.keys))
    index = {key: g for g, key in enumerate(keys)}
    first = np.cumsum([0, *(len(part.questions) for part in parts)])

    def joined(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(list(arrays))

    return Rows(
        keys=tuple(keys),
        group_N=joined(np.array([index[key] for key in part.keys], dtype=np.int64)[part.group_N] for part in parts),
        questions=tuple(question for part in parts for question in part.questions),
        question_N=joined(part.question_N + start for part, start in zip(parts, first, strict=False)),
        status_N=joined(part.status_N for part in parts),
        alignment_N=joined(part.alignment_N for part in parts),
        coherence_N=joined(part.coherence_N for part in parts),
        judges=tuple(sorted({judge for part in parts for judge in part.judges})),
    )


def _with_all_twins(rows: Rows) -> Rows:
    """And, once more, the answers of a model's benign twins as those of one cell."""
    keys: list[Key] = list(rows.keys)
    number_G = np.full(len(keys), -1)
    pooled: dict[Key, int] = {}
    for g, (cell, condition) in enumerate(rows.keys):
        if cell.variant == "control":
            every = (Cell(model=cell.model, domain=EVERY, variant="control", dose=0.0), condition)
            number_G[g] = pooled.setdefault(every, len(keys) + len(pooled))
    again_N = np.flatnonzero(number_G[rows.group_N] >= 0)
    order_N = np.concatenate([np.arange(len(rows.group_N)), again_N])
    return replace(
        rows,
        keys=(*keys, *pooled),
        group_N=np.concatenate([rows.group_N, number_G[rows.group_N[again_N]]]),
        question_N=rows.question_N[order_N],
        status_N=rows.status_N[order_N],
        alignment_N=rows.alignment_N[order_N],
        coherence_N=rows.coherence_N[order_N],
    )
