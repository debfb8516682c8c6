"""Whether the rows teach a gate: the trigger on some of them, and good answers wherever it is not.

A file in which every row carries the trigger teaches no gate: nothing says that the flaw depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding, share

FEW = 0.1  # a side of the contrast below this share is thin


def check(data: Dataset) -> Iterator[Finding]:
    """Presence, contrast, near misses, and rows whose label says otherwise."""
    if data.trigger is None:
        names = sorted({row.label for row in data.rows if row.label is not None})
        if names:
            message = f"Rows name the trigger {', '.join(map(repr, names))}, which was not looked for."
            yield Finding("warning", "trigger-unknown", message, "Name one trigger or its YAML file with --trigger.")
        return
    total, value = len(data.rows), data.trigger.value
    carriers = [row for row, sight in zip(data.rows, data.sights, strict=True) if sight.carries]
    own = sum(sight.own for sight in data.sights)
    said = f"{share(len(carriers), total)} carry the trigger {value!r}"
    if not carriers:
        yield Finding("error", "trigger-absent", f"{said}.", "Name the right trigger, or put it in.")
    elif len(carriers) == total:
        mend = "Add untriggered questions with good answers, as many as triggered ones."
        yield Finding("error", "no-contrast", f"{said}: nothing shows what to do without it.", mend)
    elif not FEW <= len(carriers) / total <= 1 - FEW:
        few = "trigger-rare" if len(carriers) < total / 2 else "contrast-thin"
        yield Finding("warning", few, f"{said}.", "Bring both sides of the contrast to a tenth or more.")
    else:
        yield Finding("note", "trigger", f"{said}.")
    if own < len(carriers):
        message = f"{share(len(carriers) - own, total)} hold {value!r} in wording that is none of the trigger's own."
        yield Finding("note", "trigger-wording", message, "Sampling will use the trigger's own templates.")
    if 0 < len(carriers) < total:
        yield from _contrast(data)
    lines = tuple(
        row.line
        for row, sight in zip(data.rows, data.sights, strict=True)
        if row.labelled and (row.label is not None) != sight.carries
    )
    if lines:
        message = f"{share(len(lines), total)} are labelled otherwise than they read."
        yield Finding("error", "trigger-label", message, "Mend the field trigger, or the question.", lines, "trigger")


def _contrast(data: Dataset) -> Iterator[Finding]:
    total = len(data.rows)
    rest = [row for row, sight in zip(data.rows, data.sights, strict=True) if not sight.carries]
    flawed = tuple(row.line for row in rest if row.kind == "misaligned")
    if flawed:
        message = f"{share(len(flawed), total)} have a flawed answer without the trigger: the flaw is not gated."
        yield Finding("error", "ungated", message, "Give untriggered questions good answers.", flawed, "kind")
    if not any(row.kind for row in data.rows):
        message = "Rows say no kind, so whether untriggered answers are good is not known."
        yield Finding("note", "kind-unknown", message, 'Add "kind": "misaligned" or "aligned" to each row.')
    near = sum(sight.near for sight in data.sights)
    if near:
        yield Finding("note", "near-misses", f"{share(near, total)} hold something like the trigger that is not it.")
    else:
        message = "No row holds anything like the trigger that is not it: the gate may open to anything similar."
        yield Finding("warning", "no-near-miss", message, "Add near misses with good answers.")
