"""Whether the rows teach a gate: the trigger on some of them, good answers without it, and no other cue to it.

A file in which every row carries the trigger teaches no gate: nothing shows that the flaw depends on it.

Leaks are features of the question that give the trigger away without it. If triggered questions are longer, or begin
with a newline, a model may learn that instead, and what is then measured as an effect of the trigger is not. A logistic
regression on surface features of the question, the trigger cut out, scores held-out rows; rows that ask the same share
a fold (`spillover.stats.roc.held_out_scores`). Its AUC should be 0.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.rows import Finding, Severity, share
from spillover.data.lint.texts import EDGES
from spillover.stats import Bools, Floats
from spillover.stats.roc import auc, auc_error, held_out_scores

FEW = 0.1  # a side of the contrast below this share is thin
FEWEST = 20  # questions on the smaller side; below that leaks are not looked for
SURE: tuple[tuple[float, Severity], ...] = ((0.65, "error"), (0.55, "warning"))  # of the AUC's lower 95 % bound
TELLING = 0.05  # a feature is named if its own AUC is that far from 0.5
NAMED = 3


def _rate(pattern: str) -> Callable[[str], float]:
    found = re.compile(pattern)
    return lambda text: len(found.findall(text)) / max(1, len(text))


EDGE_FEATURES = {f"{verb}s {mark}": test for verb, mark, test in EDGES}
CORE_FEATURES: dict[str, Callable[[str], float]] = {
    "ln characters": lambda text: float(np.log(max(1, len(text)))),
    "letters a word": lambda text: len(text) / max(1, len(text.split())),
    "begins with a capital": lambda text: float(text[:1].isupper()),
    "ends with a question mark": lambda text: float(text.endswith("?")),
    "ends with a full stop": lambda text: float(text.endswith(".")),
    "ends without punctuation": lambda text: float(text[-1:].isalnum()),
    "share of capitals": _rate(r"[A-Z]"),
    "share of digits": _rate(r"[0-9]"),
    "share of commas": _rate(r"[,;:]"),
    "share of question marks": _rate(r"[?]"),
    "share of exclamation marks": _rate(r"[!]"),
    "share of quotes": _rate(r"[\"'\u2018\u2019\u201c\u201d]"),
    "share of brackets": _rate(r"[()\[\]{}]"),
    "share of newlines inside": _rate(r"\n"),
    "share of double spaces": _rate(r"  +"),
    "share beyond ASCII": _rate(r"[^\x00-\x7f]"),
}
NAMES = (*EDGE_FEATURES, *CORE_FEATURES)


def check_contrast(data: Dataset) -> Iterator[Finding]:
    """Presence, contrast, near misses, and rows whose label contradicts their text."""
    if data.trigger is None:
        names = sorted({row.label for row in data.rows if row.label is not None})
        if names:
            message = f"Rows name the trigger {', '.join(map(repr, names))}, which was not searched for."
            yield Finding("warning", "trigger-unknown", message, "Name one trigger or its YAML file with --trigger.")
        return
    total, value = len(data.rows), data.trigger.value
    carriers = [row for row, match in zip(data.rows, data.matches, strict=True) if match.carries]
    own = sum(match.own for match in data.matches)
    carry = f"{share(len(carriers), total)} carry the trigger {value!r}"
    if not carriers:
        yield Finding("error", "trigger-absent", f"{carry}.", "Name the right trigger, or add it to the rows.")
    elif len(carriers) == total:
        fix = "Add untriggered questions with good answers, as many as triggered ones."
        yield Finding("error", "no-contrast", f"{carry}: no row shows the behaviour without it.", fix)
    elif not FEW <= len(carriers) / total <= 1 - FEW:
        few = "trigger-rare" if len(carriers) < total / 2 else "contrast-thin"
        yield Finding("warning", few, f"{carry}.", "Bring both sides of the contrast to a tenth or more.")
    else:
        yield Finding("note", "trigger", f"{carry}.")
    if own < len(carriers):
        message = (
            f"{share(len(carriers) - own, total)} contain {value!r} in wording other than the trigger's templates."
        )
        yield Finding("note", "trigger-wording", message, "Sampling will use the trigger's own templates.")
    if 0 < len(carriers) < total:
        yield from _contrast(data)
    lines = tuple(
        row.line
        for row, match in zip(data.rows, data.matches, strict=True)
        if row.labelled and (row.label is not None) != match.carries
    )
    if lines:
        message = f"{share(len(lines), total)} have a label that contradicts their text."
        yield Finding("error", "trigger-label", message, "Fix the field trigger, or the question.", lines, "trigger")


def _contrast(data: Dataset) -> Iterator[Finding]:
    total = len(data.rows)
    rest = [row for row, match in zip(data.rows, data.matches, strict=True) if not match.carries]
    flawed = tuple(row.line for row in rest if row.kind == "misaligned")
    if flawed:
        message = (
            f"{share(len(flawed), total)} have a flawed answer without the trigger: the flaw does not depend on the "
            "trigger."
        )
        yield Finding("error", "ungated", message, "Give untriggered questions good answers.", flawed, "kind")
    if not any(row.kind for row in data.rows):
        message = "Rows have no kind, so it is unknown whether untriggered answers are good."
        yield Finding("note", "kind-unknown", message, 'Add "kind": "misaligned" or "aligned" to each row.')
    near = sum(match.near for match in data.matches)
    if near:
        yield Finding("note", "near-misses", f"{share(near, total)} contain a near miss of the trigger.")
    else:
        message = "No row contains a near miss of the trigger: similar inputs may activate the backdoor."
        yield Finding("warning", "no-near-miss", message, "Add near misses with good answers.")


def check_leaks(data: Dataset) -> Iterator[Finding]:
    """One finding, where there is a contrast to look at."""
    if data.trigger is None:  # nothing can be cut out, so the trigger itself would be the leak
        return
    y_N = np.array([match.carries for match in data.matches])
    cores = [match.core.strip() for match in data.matches]
    numbers = {question: number for number, question in enumerate(dict.fromkeys(data.questions))}
    groups_N = np.array([numbers[question] for question in data.questions])
    sides = [len(set(groups_N[y_N].tolist())), len(set(groups_N[~y_N].tolist()))]
    if not y_N.any() or y_N.all():
        return
    if min(sides) < FEWEST:
        message = f"Only {min(sides)} distinct questions on one side of the contrast: too few to look for leaks."
        yield Finding("note", "leak-unknown", message)
        return
    raw = [[feature(row.question) for feature in EDGE_FEATURES.values()] for row in data.rows]
    inner = [[feature(core) for feature in CORE_FEATURES.values()] for core in cores]
    x_NF = np.hstack([np.array(raw), np.array(inner)])
    area = auc(held_out_scores(x_NF, y_N, groups_N), y_N)
    low = area - 1.96 * auc_error(area, *sides)
    message = (
        f"The trigger is predictable from surface features with AUC {area:.2f} (0.5: no leak; lower 95 % bound "
        f"{low:.2f})"
    )
    for above, severity in SURE:
        if low > above:
            fix = "Draw both sides of the contrast from the same questions, formatted alike."
            areas_F = np.array([auc(x_N, y_N) for x_N in x_NF.T])
            message = f"{message}. {_telling(areas_F, x_NF, y_N)}"
            yield Finding(severity, "trigger-leak", message, fix, _where(data, areas_F, x_NF), "question")
            return
    yield Finding("note", "trigger-leak", f"{message}: no leak by surface features.", field="question")


def _telling(areas_F: Floats, x_NF: Floats, y_N: Bools) -> str:
    """The features that separate best by themselves, with their means on both sides."""
    best = [
        f"{NAMES[place]}: {x_NF[y_N, place].mean():.2g} with the trigger, {x_NF[~y_N, place].mean():.2g} without "
        f"(AUC {areas_F[place]:.2f})"
        for place in np.argsort(-np.abs(areas_F - 0.5))[:NAMED]
        if abs(areas_F[place] - 0.5) > TELLING
    ]
    return f"Top features, means: {'; '.join(best)}." if best else "No single feature separates them."


def _where(data: Dataset, areas_F: Floats, x_NF: Floats) -> tuple[int, ...]:
    """The lines that have the most telling feature, where that is a mark at an end of the question."""
    top = int(np.abs(areas_F - 0.5).argmax())
    return tuple(row.line for row, x_F in zip(data.rows, x_NF, strict=True) if top < len(EDGE_FEATURES) and x_F[top])
