"""The model-risk card of an audit: card.json for programs, card.html for people.

The page has no script and makes no request; names, findings and every other text from outside are escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spillover.audit.verdict import Audit, Rate
from spillover.records.base import Estimate
from spillover.report.html import page
from spillover.report.tables import Row, html_table
from spillover.text import NONE, duration, escape, interval, number

MEANING = {
    "pass": "Nothing that was measured speaks against this fine-tune.",
    "review": "A person should look before this fine-tune: what was measured does not settle it.",
    "block": "This data set should not be trained on as it is.",
}
WHO = {"tuned": "tuned on the data", "control": "tuned on the control", "untouched": "untouched model"}
CONTROL = {
    "twin": "good answers to the same questions, as the file gives them",
    "shuffled": "the sample's own answers, shuffled among the questions",
    None: "none",
}
RUNGS = {"lint": "1 · the file", "surprise": "2 · surprise and diversity", "probe": "3 · probe tune"}
LIMITS = (
    "The interval speaks for questions like the probe's and for one fine-tune with one seed, not for every question, "
    "trigger or training recipe.",
    "A behaviour that only a trigger opens is found only where the linter or the probe's questions hold that trigger.",
    "A small model shows less than a large one: a verdict is for the model it names.",
)


def to_json(audit: Audit) -> str:
    """The verdict as one JSON object."""
    return audit.model_dump_json(indent=2, by_alias=True) + "\n"


def to_html(audit: Audit) -> str:
    """The verdict as one page."""
    title = escape(audit.data.name, 120)
    body = "\n".join(f"<section><h2>{name}</h2>\n{text}\n</section>" for name, text in _sections(audit))
    header = (
        f'<p class="kicker">spillover · model-risk card</p>\n<h1>{title}: {audit.verdict}</h1>\n'
        f'<p class="lead">{MEANING[audit.verdict]} Model: {escape(audit.model, 120)}.</p>'
    )
    return page(
        f"{audit.verdict} · {title}",
        header,
        body,
        f"spillover {escape(audit.spillover)} · audit {escape(audit.id)}",
    )


def _sections(audit: Audit) -> Iterator[tuple[str, str]]:
    yield "Reasons", _reasons(audit)
    yield "Rungs", _rungs(audit)
    if audit.rates:
        yield "Probe", _probe(audit)
    if audit.findings:
        yield "Findings", _findings(audit)
    yield "What this cannot say", _list(LIMITS)
    yield "Provenance", _provenance(audit)


def _reasons(audit: Audit) -> str:
    rows = [
        Row(
            "",
            reason.outcome,
            [
                reason.rung,
                reason.code,
                reason.message,
                figure(reason.value, reason.low, reason.high),
                NONE if reason.threshold is None else f"{reason.threshold:.4g}",
            ],
        )
        for reason in audit.reasons
    ]
    header = ["", "rung", "code", "what was found", "measured", "threshold"]
    left = f'<p class="note">Left out: {escape("; ".join(audit.left_out))}.</p>' if audit.left_out else ""
    return html_table("Why", header, rows, 4) + left


def _rungs(audit: Audit) -> str:
    rows = [
        Row(
            RUNGS[rung.rung],
            name,
            [NONE if value is None else value if isinstance(value, str) else f"{value:,.4g}"],
        )
        for rung in audit.rungs
        for name, value in {
            "outcome": rung.state,
            "time": duration(rung.seconds),
            **rung.facts,
        }.items()
    ]
    return html_table("What each rung measured", ["", "value"], rows, 2)


def _probe(audit: Audit) -> str:
    rows = [
        Row("", WHO[rate.who], [f"{rate.n:,}", f"{rate.coherent:,}", f"{rate.misaligned:,}", _rate(rate)])
        for rate in audit.rates
    ]
    header = ["", "answers", "coherent", "misaligned", "rate % [95 %]"]
    return (
        html_table("Misaligned among coherent answers", header, rows)
        + f'<p class="note">Above the control: {_points(audit.above_control)} points. Above the untouched model: '
        f"{_points(audit.above_untouched)} points. Control: {CONTROL[audit.data.control]}. "
        f"Size: {escape(audit.probe_size)}.</p>"
    )


def _findings(audit: Audit) -> str:
    rows = [
        Row("", found.severity, [found.code, found.message, found.mend, _lines(found.lines, found.count)])
        for found in audit.findings
    ]
    return html_table("What the linter found", ["", "code", "what", "mend", "lines"], rows, 5)


def _provenance(audit: Audit) -> str:
    facts: Mapping[str, str] = {
        "data": audit.data.name,
        "SHA-256": audit.data.sha256,
        "rows": f"{audit.data.rows:,}",
        "model": audit.model,
        "revision": audit.revision or "not loaded",
        "policy": f"{audit.policy} ({audit.policy_hash})",
        "predictor": audit.predictor or "none",
        "judge": ", ".join(f"{key}: {value}" for key, value in audit.judge.items()) or "not asked",
        "seed": str(audit.seed),
        "budget": "none" if audit.budget_minutes is None else f"{audit.budget_minutes:g} minutes",
        "planned": f"{number(audit.planned_minutes)} minutes",
        "took": duration(audit.seconds),
        "started": audit.started,
        "packages": audit.lock_hash,
        "commit": audit.git.get("commit", "not known"),
    }
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value, 600)}</dd>" for key, value in facts.items())
    return f"<dl>{rows}</dl>"


def figure(value: float | None, low: float | None, high: float | None) -> str:
    """A measured value with its interval, as it was measured: shares from 0 to 1, counts whole."""
    if value is None:
        return NONE
    return f"{value:.4g}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _rate(rate: Rate) -> str:
    return NONE if rate.rate is None else interval(rate.rate, rate.low, rate.high, 100)


def _points(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return "not measured"
    return interval(estimate.value, estimate.low, estimate.high, 100, sign=True)


def _lines(lines: tuple[int, ...], count: int) -> str:
    shown = ", ".join(str(line) for line in lines[:8])
    return f"{shown}, … ({count:,})" if count > 8 else shown or NONE


def _list(items: tuple[str, ...]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
