"""From token scores to membership summaries: every metric of every text, in every reading, and how well each separates.

A reading is a metric under one model, or minus its value under the model that this one was tuned from. Metrics that are
relative already (`membership.RELATIVE`) compare a model with the one before it and have no such difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from spillover.membership import METRICS, PRIMARY, RELATIVE, Score
from spillover.membership.evaluate import Separation, blind_scores, max_statistic_p, mean_roc, separation
from spillover.membership.metrics import TokenScores, Views
from spillover.models.protocols import Chat
from spillover.provenance import seed_for
from spillover.records.base import Cell, or_none
from spillover.records.data import MembershipSummary, Reading
from spillover.stats import Bools, Floats
from spillover.stats.clustered import t_quantile

if TYPE_CHECKING:
    import polars

Role = Literal["tuned", "instruct", "pretrained"]
View = Literal["target", "lowercase", "prefixed"]
READINGS: tuple[Reading, ...] = get_args(Reading)
ARRAYS = ("ids", "logprobs", "mean", "std", "rank")  # columns of a token table, in the order of TokenScores
NOTHING = TokenScores(np.zeros(0, np.int64), *(np.zeros(0) for _ in ARRAYS[1:]))


@dataclass(frozen=True)
class Text:
    """One row to be read; only rows of one `stratum` are compared, and rows of one `group` answer one question."""

    example: str
    group: str
    member: bool
    stratum: str
    chat: Chat


def metrics_of(names: Sequence[str]) -> list[str]:
    """The metrics asked for, "all" spelled out; the primary one and the loss are always included."""
    known = METRICS.names()
    for name in names:
        if name != "all":
            METRICS.load(name)
    return known if "all" in names else [name for name in known if name in {*names, PRIMARY, "loss"}]


def scores(
    texts: Sequence[Text], tokens: polars.DataFrame, metrics: Sequence[str], corpus_V: Floats | None
) -> polars.DataFrame:
    """One row a text; a column for each "METRIC/READING", with `member`, `stratum` and `text`."""
    import polars

    found: dict[tuple[str, str, str], TokenScores] = {}
    for row in tokens.iter_rows(named=True):
        arrays = [np.asarray(row[name], np.float64) for name in ARRAYS]
        found[row["example"], row["role"], row["view"]] = TokenScores(arrays[0].astype(np.int64), *arrays[1:])
    has_pretrained = any(role == "pretrained" for _, role, _ in found)

    def column(metric: Score, role: Role, reference: Role | None) -> Floats:
        return np.array([metric(_views(found, text, role, reference, corpus_V)) for text in texts], np.float64)

    columns: dict[str, NDArray[Any]] = {}
    for name in metrics_of(metrics):
        metric: Score = METRICS.load(name)
        tuned = column(metric, "tuned", "instruct")
        instruct = column(metric, "instruct", "pretrained")
        columns[f"{name}/instruct"], columns[f"{name}/tuned"] = instruct, tuned
        if name in RELATIVE:
            continue
        columns[f"{name}/tuned_minus_instruct"] = tuned - instruct
        if has_pretrained:
            pretrained = column(metric, "pretrained", None)
            columns[f"{name}/instruct_minus_pretrained"] = instruct - pretrained
            columns[f"{name}/tuned_minus_pretrained"] = tuned - pretrained
    about = {
        "example": [text.example for text in texts],
        "text": [text.chat[1] for text in texts],
        "group": [text.group for text in texts],
        "member": [text.member for text in texts],
        "stratum": [text.stratum for text in texts],
    }
    return polars.DataFrame({**about, **columns})


def _views(
    found: dict[tuple[str, str, str], TokenScores],
    text: Text,
    role: Role,
    reference: Role | None,
    corpus_V: Floats | None,
) -> Views:
    target = found.get((text.example, role, "target"), NOTHING)
    return Views(
        text=text.chat[1],
        target=target,
        reference=found.get((text.example, reference, "target")) if reference else None,
        lowercase=found.get((text.example, role, "lowercase")),
        prefixed=found.get((text.example, role, "prefixed")),
        corpus_logprobs_T=None if corpus_V is None else corpus_V[target.ids_T],
    )


def summarise(table: polars.DataFrame, cell: Cell, seed: int, permutations: int) -> list[MembershipSummary]:
    """Every metric in every reading, evaluated on the texts of one cell, or of several in separate strata."""
    member_N = table["member"].to_numpy()
    stratum_N = np.unique(table["stratum"].to_numpy(), return_inverse=True)[1]
    blind_N = blind_scores(table["text"].to_list(), member_N, table["group"].to_numpy())
    blind_auc = or_none(separation(blind_N, member_N, stratum_N, draws=1).auc)
    rows: list[MembershipSummary] = []
    for reading in READINGS:
        names = [name.partition("/")[0] for name in table.columns if name.endswith(f"/{reading}")]
        matrix_KN = np.array([table[f"{name}/{reading}"].to_numpy() for name in names], np.float64)
        known = [k for k in range(len(names)) if not np.isnan(matrix_KN[k]).all()]
        names, matrix_KN = [names[k] for k in known], matrix_KN[known]
        if not names:
            continue
        number = seed_for(seed, "membership", cell.name, reading)
        p_K = max_statistic_p(matrix_KN, member_N, stratum_N, permutations, number)
        found = [separation(values_N, member_N, stratum_N, seed=number) for values_N in matrix_KN]
        loss_auc = or_none(found[names.index("loss")].auc) if "loss" in names else None
        for name, values_N, part, p in zip(names, matrix_KN, found, p_K, strict=True):
            row = _summary(cell, name, reading, part, values_N, member_N, p, loss_auc, blind_auc)
            if row.primary:
                curve = mean_roc(values_N, member_N, stratum_N)
                row = row.model_copy(
                    update={"roc": tuple(zip(*(axis.round(4).tolist() for axis in curve), strict=True))}
                )
            rows.append(row)
    return rows


def _summary(
    cell: Cell,
    name: str,
    reading: Reading,
    part: Separation,
    values_N: Floats,
    member_N: Bools,
    p: float,
    loss_auc: float | None,
    blind_auc: float | None,
) -> MembershipSummary:
    mean, low, high = _mean(values_N[member_N])
    return MembershipSummary(
        cell=cell,
        metric=name,
        reading=reading,
        primary=name == PRIMARY,
        members=part.members,
        nonmembers=part.nonmembers,
        missing=part.missing,
        auc=or_none(part.auc),
        auc_low=or_none(part.auc_low),
        auc_high=or_none(part.auc_high),
        tpr=or_none(part.tpr),
        tpr_low=or_none(part.tpr_low),
        tpr_high=or_none(part.tpr_high),
        p=or_none(p),
        mean_members=mean,
        mean_members_low=low,
        mean_members_high=high,
        mean_nonmembers=_mean(values_N[~member_N])[0],
        loss_auc=loss_auc,
        blind_auc=blind_auc,
    )


def pooled(tables: Sequence[tuple[Cell, polars.DataFrame]], seed: int, permutations: int) -> list[MembershipSummary]:
    """All domains together, for each model, variant, dose and seed: only rows of one domain and kind are compared."""
    import polars

    groups: dict[tuple[Any, ...], list[tuple[Cell, polars.DataFrame]]] = {}
    for cell, table in tables:
        groups.setdefault((cell.model, cell.variant, cell.dose, cell.seed), []).append((cell, table))
    rows: list[MembershipSummary] = []
    for members in groups.values():
        if len(members) < 2:
            continue
        whole = polars.concat(
            [
                table.with_columns(stratum=polars.lit(f"{cell.domain} ") + polars.col("stratum"))
                for cell, table in members
            ],
            how="diagonal",
        )
        rows += summarise(whole, members[0][0].model_copy(update={"domain": "all"}), seed, permutations)
    return rows


def _mean(values_N: Floats) -> tuple[float | None, float | None, float | None]:
    """Mean of what is known, and Student's 95 % interval of it; None where there are too few."""
    values_N = values_N[np.isfinite(values_N)]
    if len(values_N) < 2:
        return (float(values_N[0]) if len(values_N) else None), None, None
    mean = float(values_N.mean())
    half = float(t_quantile(len(values_N) - 1, 0.95) * values_N.std(ddof=1) / np.sqrt(len(values_N)))
    return mean, mean - half, mean + half
