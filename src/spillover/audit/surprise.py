"""Rung 2, minutes: how the base model reads the answers, how diverse they are, and what a predictor makes of it.

Membership metrics under the base model say how much of the data it could have written itself; their mean over a
seeded sample of rows is a feature of the data set, called as analyses/susceptibility/compute.py calls it. A predictor
(`spillover.records.predictor`) turns features into a rate with an interval and says whether they lie where it was
fitted. Its
lower limit above `block_above` blocks, its upper limit below `pass_below` passes; outside its range, or without a
predictor, this rung describes and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spillover.audit.folder import Folder
from spillover.audit.policy import SurprisePolicy
from spillover.audit.verdict import Facts, Outcome, Reason
from spillover.config.study import ModelConfig
from spillover.data.lint.rows import Row
from spillover.diversity.measures import at_equal_n, measures, parts
from spillover.execution.base import Call, Executor, Ticker
from spillover.execution.base import Outcome as CallOutcome
from spillover.execution.runner import run_units
from spillover.membership import ALONE, metric
from spillover.membership.metrics import TokenScores, Views
from spillover.models import open_backend
from spillover.models.protocols import Chat, Reading
from spillover.progress import Progress
from spillover.provenance import seed_for
from spillover.records.predictor import Prediction, Predictor
from spillover.text import interval, listing

SHARE = 0.8  # of the rows, in a subsample: as analyses/diversity/stage.py does
PART = 16  # rows read before they are kept


def sample_chats(rows: Sequence[Row], policy: SurprisePolicy, seed: int) -> list[Chat]:
    """A seeded sample of the rows, as they stand."""
    rng = np.random.default_rng(seed_for(seed, "audit", "surprise"))
    chosen = sorted(rng.permutation(len(rows))[: policy.rows].tolist())
    return [(rows[index].prompt, rows[index].answer) for index in chosen]


def measurement_calls(model: ModelConfig, chats: Sequence[Chat], policy: SurprisePolicy, seed: int) -> list[Call]:
    """The work of this rung in parts that may run side by side: readings by the model, and diversity."""
    blocks = [chats[start : start + PART] for start in range(0, len(chats), PART)]
    reads = [Call(f"reading-{n}", f"{__name__}:read_rows", (model, part)) for n, part in enumerate(blocks, start=1)]
    texts = [(messages[-1].content, answer) for messages, answer in chats]
    return [*reads, Call("diversity", f"{__name__}:measure_diversity", (texts, policy, seed))]


def measure(
    calls: Sequence[Call], executor: Executor, folder: Folder, key: str, progress: Progress
) -> dict[str, dict[str, Any]]:
    """The value of each call, by its name; values that the folder keeps from before are not measured again."""
    kept = {call.name: folder.kept("surprise", f"{key}-{call.name}") for call in calls}
    values = {name: value for name, value in kept.items() if value is not None}
    left = [call for call in calls if call.name not in values]

    def save(outcome: CallOutcome) -> None:
        if outcome.error is not None:
            raise outcome.error
        folder.keep("surprise", f"{key}-{outcome.call.name}", outcome.value)
        values[outcome.call.name] = outcome.value

    with closing(executor):
        units = {call.name: [call] for call in left}
        run_units("surprise", units, lambda name, call: call[0], executor, progress, ended=save)
    return {call.name: values[call.name] for call in calls}


def read_rows(model: ModelConfig, chats: Sequence[Chat], ticker: Ticker) -> dict[str, Any]:
    """Metrics of each row under the base model, and the model's revision. Runs where the executor runs it."""
    backend = open_backend(model)
    rows: list[dict[str, float | None]] = []
    for (_, answer), reading in zip(chats, backend.scorer().score(chats, None, ticker), strict=True):
        views = Views(answer, _scores(reading))
        rows.append(
            {"answer_tokens": float(len(views.target))} | {name: _finite(metric(name)(views)) for name in ALONE}
        )
    return {"rows": rows, "revision": backend.revision}


def measure_diversity(texts: Sequence[tuple[str, str]], policy: SurprisePolicy, seed: int, ticker: Ticker) -> Facts:
    """Every measure of every part of the texts, the mean over subsamples of equal size.

    None where the data have fewer rows than the subsamples: diversity grows with the number of rows.
    """
    n = policy.subsample or max(2, int(SHARE * len(texts)))
    facts: Facts = {}
    for of, part in parts(texts).items():
        for name, measure in measures(part, _embedded(part) if policy.embeddings else None):
            value = at_equal_n(measure, len(part), n, seed=seed).value if n <= len(part) else math.nan
            facts[f"diversity.{of}.{name}"] = _finite(value)
    return facts


def _embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    from spillover.models.embedded.sentence_encoder import open_embedder

    return open_embedder().embed(list(texts))


def data_features(values: Mapping[str, dict[str, Any]], lint_facts: Facts) -> tuple[Facts, str]:
    """Features of the data: the mean of each metric over the rows that have it, the rest as it stands; the revision."""
    readings = [value for name, value in values.items() if name != "diversity"]
    rows = [row for reading in readings for row in reading["rows"]]
    facts: Facts = {"rows": len(rows), "code_share": lint_facts.get("code_share")}
    for name in ("answer_tokens", *ALONE):
        known = [row[name] for row in rows if row[name] is not None]
        mean = math.fsum(known) / len(known) if known else None
        facts[name if name == "answer_tokens" else f"{name}.instruct"] = mean
    return facts | values["diversity"], readings[0]["revision"]


def _scores(reading: Reading) -> TokenScores:
    arrays = (reading.logprobs_T, reading.mean_T, reading.std_T, reading.rank_T)
    return TokenScores(np.asarray(reading.ids_T), *(np.asarray(array, dtype=np.float64) for array in arrays))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def predict(predictor: Predictor, facts: Facts, model: str) -> tuple[Prediction | None, str]:
    """The prediction for these features; None, and why, where the predictor does not apply."""
    known = {name: float(value) for name, value in facts.items() if isinstance(value, float | int)}
    lacking = [feature.name for feature in predictor.features if feature.name not in known]
    if lacking:
        return None, f"it needs {listing(lacking, 4)}, which was not measured for these data"
    if model not in predictor.provenance.models:
        return None, f"it was fitted on {listing(list(predictor.provenance.models), 4)}"
    if predictor.error >= predictor.error_of_mean:
        return None, "it did not predict held-out domains better than their mean"
    prediction = predictor.predict(known)
    if not prediction.inside:
        return prediction, f"the data are outside the range of its fit, in {listing(list(prediction.outside), 4)}"
    return prediction, ""


def decide(prediction: Prediction, policy: SurprisePolicy) -> Reason | None:
    """The reason of a prediction inside the predictor's range, which is the rung's outcome; None where none follows."""
    if prediction.low > policy.block_above:
        return _reason("block", prediction, policy.block_above)
    if prediction.high < policy.pass_below:
        return _reason("pass", prediction, policy.pass_below)
    return None


def _reason(outcome: Outcome, prediction: Prediction, threshold: float) -> Reason:
    rate = interval(prediction.value, prediction.low, prediction.high, 100)
    message = f"Predicted share of misaligned completions: {rate} %."
    return Reason(
        rung="surprise",
        outcome=outcome,
        code="predicted",
        message=message,
        value=prediction.value,
        low=prediction.low,
        high=prediction.high,
        threshold=threshold,
    )
