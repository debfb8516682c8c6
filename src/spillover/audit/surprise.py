"""Rung 2, minutes: how the untouched model reads the answers, how diverse they are, and what a predictor makes of it.

Membership metrics under the untouched model say how much of the data it could have written itself; their mean over a
seeded sample of rows is a feature of the data set. A predictor (`spillover.predictor`) turns features into a rate with
an interval and says whether they lie where it was fitted. Its lower limit above `block_above` blocks, its upper limit
below `pass_below` passes; outside its range, or without a predictor, this rung describes and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spillover.audit.policy import SurprisePolicy
from spillover.audit.verdict import Facts, Outcome, Reason
from spillover.backends import open_backend
from spillover.backends.base import Chat, Reading
from spillover.config import ModelConfig
from spillover.diversity import OF_EMBEDDINGS, OF_TEXTS
from spillover.executors.base import Call, Ticker
from spillover.lint.rows import Row
from spillover.membership import metric
from spillover.membership.base import TokenScores, Views
from spillover.provenance import seed_for

# What one reading of one answer by one model gives; the others need a second model, a prefix or a corpus.
METRICS = ("loss", "zlib", "zlib_ppl_ratio", "min_k", "min_k_plus_plus", "mean_z", "log_rank")


def choose(rows: Sequence[Row], policy: SurprisePolicy, seed: int) -> list[Chat]:
    """A seeded sample of the rows, as they stand."""
    rng = np.random.default_rng(seed_for(seed, "audit", "surprise"))
    places = sorted(rng.permutation(len(rows))[: policy.rows].tolist())
    return [(rows[place].prompt, rows[place].answer) for place in places]


def calls(model: ModelConfig, chats: Sequence[Chat], embeddings: bool, workers: int) -> list[Call]:
    """The work of this rung in parts that may run side by side: readings by the model, and diversity."""
    parts = [chats[start::workers] for start in range(min(workers, len(chats)))]
    reads = [Call(f"reading {n}", f"{__name__}:read", (model, part)) for n, part in enumerate(parts, start=1)]
    answers = [answer for _, answer in chats]
    return [*reads, Call("diversity", f"{__name__}:diversity", (answers, embeddings))]


def read(model: ModelConfig, chats: Sequence[Chat], ticker: Ticker) -> tuple[list[dict[str, float]], str]:
    """Metrics of each row under the untouched model, and the model's revision. Runs where the executor runs it."""
    backend = open_backend(model)
    rows: list[dict[str, float]] = []
    for (_, answer), reading in zip(chats, backend.scorer().score(chats, None, ticker), strict=True):
        views = Views(answer, _scores(reading))
        rows.append({"answer_tokens": float(len(views.target))} | {name: metric(name)(views) for name in METRICS})
    return rows, backend.revision


def diversity(answers: Sequence[str], embeddings: bool, ticker: Ticker) -> Facts:
    """Every measure of the answers together."""
    facts: Facts = {name: _known(OF_TEXTS.load(name)(answers)) for name in OF_TEXTS.names()}
    if embeddings:
        from spillover.backends.embedder import open_embedder

        embedded_ND = open_embedder().embed(answers)
        facts |= {name: _known(OF_EMBEDDINGS.load(name)(embedded_ND)) for name in OF_EMBEDDINGS.names()}
    return facts


def joined(rows: Sequence[dict[str, float]], diverse: Facts) -> Facts:
    """Features of the data: the mean of each metric over the rows that have it, and the measures of diversity."""
    facts: Facts = {"rows": len(rows)}
    for name in ("answer_tokens", *METRICS):
        values = [row[name] for row in rows if math.isfinite(row[name])]
        facts[name] = math.fsum(values) / len(values) if values else None
    return facts | diverse


def _scores(reading: Reading) -> TokenScores:
    arrays = (reading.logprobs_T, reading.mean_T, reading.std_T, reading.rank_T)
    return TokenScores(np.asarray(reading.ids_T), *(np.asarray(array, dtype=np.float64) for array in arrays))


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Prediction:
    """A predicted rate with its interval; `inside`: whether the features lie where the predictor was fitted."""

    value: float
    low: float
    high: float
    inside: bool
    why: str = ""  # not inside: which features


def decide(found: Prediction, policy: SurprisePolicy) -> tuple[Outcome | None, Reason | None]:
    """The outcome of a prediction, and its reason; None where it settles nothing."""
    measured = f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}] %"
    if not found.inside:
        message = f"The data are unlike those that the predictor was fitted on ({found.why}): it decides nothing."
        return None, _reason("review", "outside-predictor", message, found, None)
    if found.low > policy.block_above:
        message = f"The predicted share of misaligned answers is {measured}."
        return "block", _reason("block", "predicted", message, found, policy.block_above)
    if found.high < policy.pass_below:
        message = f"The predicted share of misaligned answers is {measured}."
        return "pass", _reason("pass", "predicted", message, found, policy.pass_below)
    return None, None


def _reason(outcome: Outcome, code: str, message: str, found: Prediction, threshold: float | None) -> Reason:
    return Reason(
        rung="surprise",
        outcome=outcome,
        code=code,
        message=message,
        value=found.value,
        low=found.low,
        high=found.high,
        threshold=threshold,
    )
