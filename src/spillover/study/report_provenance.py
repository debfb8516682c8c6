"""Where a run's numbers come from, as HTML: versions, hardware, models, judge, stages, failures and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import yaml

from spillover.analyses.agreement.report import cascade_facts
from spillover.records.base import Manifest
from spillover.records.judges import CascadeSummary
from spillover.records.report_data import ReportData
from spillover.report.html import Row, html_table
from spillover.text import clean, duration, escape, listing, number, one_line, several

MOST_FAILURES = 50


def provenance(data: ReportData) -> str:
    """Everything needed to make the run again, and everything that went wrong in it."""
    m = data.manifest
    run = {
        "study": m.study,
        "study hash": m.study_hash,
        "lock hash": m.lock_hash,
        "root seed": str(m.seed),
        "started": m.started,
        "finished": m.finished or "not yet",
        "complete": "yes" if m.complete else "no",
        "cost": f"{number(m.dollars, 2)} US dollars",
        "spillover": m.spillover,
    }
    judge = {**m.judge, **data.judge}
    facts = [
        _facts("Run", run),
        _facts("Judge", judge),
        *(
            _facts(f"Judgments of the cascade {summary.judge}", cascade_facts(summary))
            for summary in data.of(CascadeSummary)
        ),
        _facts("Hardware", m.hardware),
        _facts("Source", m.git),
        *(_facts(f"Model {name}", {**m.models[name], **_speed(m.speeds.get(name))}) for name in sorted(m.models)),
    ]
    stages = [
        Row("", s.stage, [f"{s.done:,}", f"{s.failed:,}", f"{s.rows:,}", f"{s.tokens:,}", duration(s.seconds)])
        for s in m.stages
    ]
    parts = [f'<div class="facts-grid">{"".join(facts)}</div>']
    if stages:
        parts.append(html_table("Stages", ["stage", "done", "failed", "rows", "tokens", "time"], stages))
    if m.computed:
        rows = [Row("", c.stage, [c.model, c.dtype, c.device, c.torch, f"{c.units:,}"]) for c in m.computed]
        parts.append(html_table("Computed in", ["stage", "model", "dtype", "device", "torch", "units"], rows, 5))
        parts += [f'<p class="note">{escape(warning)}</p>' for warning in mixed(m)]
    if m.failures:
        rows = [Row("", f.stage, [f.cell, clean(f.error, 500)]) for f in m.failures[:MOST_FAILURES]]
        parts.append(html_table(f"Failures: {len(m.failures):,}", ["stage", "cell", "error"], rows, 3))
    parts.append(_folded("Packages", "\n".join(f"{name} {m.packages[name]}" for name in sorted(m.packages))))
    if data.config is not None:
        settings = yaml.safe_dump(data.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        parts.append(_folded("Settings", settings))
    return "\n".join(parts)


def mixed(m: Manifest) -> list[str]:
    """Where one model's numbers were made in several ways, and what does not say in which."""
    says: list[str] = []
    for model in dict.fromkeys(c.model for c in m.computed):
        own = [c for c in m.computed if c.model == model]
        for what, values in (("dtype", [c.dtype for c in own]), ("torch", [c.torch for c in own])):
            if len(set(values)) > 1:
                units = Counter[str]()
                for c, value in zip(own, values, strict=True):
                    units[value] += c.units
                many = listing([f"{value} ({several(count, 'unit')})" for value, count in units.items()])
                way = " Set the model's dtype to keep it the same on every machine." if what == "dtype" else ""
                says.append(
                    f"{one_line(model, 80)} was computed in more than one {what}: {many}. Rounding differs, so the "
                    f"same seed may give a different adapter, completions and scores.{way}"
                )
    stages = {c.stage for c in m.computed}
    done, known = sum(s.done for s in m.stages if s.stage in stages), sum(c.units for c in m.computed)
    if known < done:
        says.append(
            f"{done - known:,} of {several(done, 'unit')} of these stages do not record how they were computed: they "
            "ran at a "
            "provider, or before this was recorded."
        )
    return says


def _speed(measured: Mapping[str, str] | None) -> dict[str, str]:
    """One row on the measurement that decided a model's dtype."""
    if not measured:
        return {}
    half = f"{measured['bfloat16_few']} and {measured['bfloat16_many']}"
    if "0.0" in (measured["bfloat16_few"], measured["bfloat16_many"]):
        half = "less than half of that"
    threads = several(int(measured["threads"]), "thread")
    return {
        "measured speed": f"float32 {measured['float32_few']} and {measured['float32_many']} GFLOP/s for few and for "
        f"many rows, bfloat16 {half}; {threads} of {measured['cpu']}, torch {measured['torch']}: "
        f"{measured['chosen']} chosen"
    }


def _facts(title: str, facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    rows = "".join(f"<dt>{escape(key, 80)}</dt><dd>{escape(value, 600)}</dd>" for key, value in facts.items())
    return f"<div><h3>{escape(title, 120)}</h3><dl>{rows}</dl></div>"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary><pre>{escape(text, 40_000)}</pre></details>" if text else ""
