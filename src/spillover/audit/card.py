"""The model-risk card of an audit: card.json for programs, card.html for people (template: card.html)."""

from __future__ import annotations

from collections.abc import Mapping

from spillover.audit.verdict import Audit
from spillover.records.base import Estimate
from spillover.report.html import Row, render
from spillover.text import NONE, clean, duration, interval, number

MEANING = {
    "pass": "No measurement indicates a risk of misalignment from this fine-tune.",
    "review": "Review by a person is needed before this fine-tune: the measurements are inconclusive.",
    "block": "Do not train on this data set in its present form.",
}
WHO = {"tuned": "tuned on the data", "control": "tuned on the control", "untouched": "base model"}
CONTROL = {
    "twin": "good answers to the same questions, as given in the file",
    "benign": "as many rows of the built-in benign set",
    "shuffled": "the sample's own answers, shuffled among the questions",
    None: "none",
}
RUNGS = {"lint": "1 · the file", "surprise": "2 · surprise and diversity", "probe": "3 · trial fine-tune"}


def to_json(audit: Audit) -> str:
    """The verdict as one JSON object."""
    return audit.model_dump_json(indent=2, by_alias=True) + "\n"


def to_html(audit: Audit) -> str:
    """The verdict as one page, without scripts or requests."""
    reasons = [
        Row(
            "",
            reason.outcome,
            [
                reason.rung,
                reason.code,
                reason.message,
                format_measured(reason.value, reason.low, reason.high),
                NONE if reason.threshold is None else f"{reason.threshold:.4g}",
            ],
        )
        for reason in audit.reasons
    ]
    rungs = [
        Row(RUNGS[rung.rung], name, [_fact(value)])
        for rung in audit.rungs
        for name, value in {"outcome": rung.state, "time": duration(rung.seconds), **rung.facts}.items()
    ]
    rates = [
        Row(
            "",
            WHO[rate.who],
            [
                f"{rate.n:,}",
                f"{rate.coherent:,}",
                f"{rate.misaligned:,}",
                NONE if rate.rate is None else interval(rate.rate, rate.low, rate.high, 100),
            ],
        )
        for rate in audit.rates
    ]
    rounds = [
        Row(
            "",
            f"{number}: {result.rows:,} rows, {result.answers} completions per question",
            [
                _points(result.above_control),
                _points(result.alignment_difference, 1),
                result.outcome or "decides nothing",
            ],
        )
        for number, result in enumerate(audit.rounds, start=1)
    ]
    findings = [
        Row("", finding.severity, [finding.code, finding.message, finding.fix, _lines(finding.lines, finding.count)])
        for finding in audit.findings
    ]
    return render(
        "card.html",
        "spillover.audit",
        audit=audit,
        name=clean(audit.data.name, 120),
        model=clean(audit.model, 120),
        meaning=MEANING[audit.verdict],
        reasons=reasons,
        rungs=rungs,
        rates=rates,
        rounds=rounds,
        level=f"{100 * audit.confidence:.3g}",
        findings=findings,
        above_base=_points(audit.above_untouched),
        control=CONTROL[audit.data.control],
        provenance={key: clean(value, 600) for key, value in _provenance(audit).items()},
    )


def format_measured(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval in the unit of the measurement: shares from 0 to 1, counts as integers."""
    if value is None:
        return NONE
    return f"{value:.4g}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _provenance(audit: Audit) -> Mapping[str, str]:
    return {
        "data": audit.data.name,
        "SHA-256": audit.data.sha256,
        "rows": f"{audit.data.rows:,}",
        "model": audit.model,
        "revision": audit.revision or "not loaded",
        "policy": f"{audit.policy} ({audit.policy_hash})",
        "predictor": audit.predictor or "none",
        "judge": ", ".join(f"{key}: {value}" for key, value in audit.judge.items()) or "none",
        "seed": str(audit.seed),
        "budget": "none" if audit.budget_minutes is None else f"{audit.budget_minutes:g} minutes",
        "estimated time": f"{number(audit.planned_minutes)} minutes",
        "time": duration(audit.seconds),
        "started": audit.started,
        "packages": audit.lock_hash,
        "commit": audit.git.get("commit", "unknown"),
    }


def _fact(value: float | str | None) -> str:
    if value is None:
        return NONE
    return value if isinstance(value, str) else f"{value:,.4g}"


def _points(estimate: Estimate | None, scale: float = 100) -> str:
    if estimate is None or estimate.value is None:
        return "not measured"
    return interval(estimate.value, estimate.low, estimate.high, scale, sign=True)


def _lines(lines: tuple[int, ...], count: int) -> str:
    shown = ", ".join(str(line) for line in lines[:8])
    return f"{shown}, … ({count:,})" if count > 8 else shown or NONE
