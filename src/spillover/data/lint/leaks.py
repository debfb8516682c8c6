"""Features of the question that give the trigger away without it.

If triggered questions are longer, or begin with a newline, a model may learn that in the trigger's place, and what is
then measured as an effect of the trigger is not. A logistic regression on surface features of the question, the trigger
cut out, scores rows that it has not seen; rows that ask the same stay together. Its AUC should be 0.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding, Severity
from spillover.data.lint.logistic import Floats, auc_error, cross_validated
from spillover.data.recipe.duplicates import normalised
from spillover.stats.roc import auc

FEWEST = 20  # questions on the smaller side; below that nothing can be said
SURE: tuple[tuple[float, Severity], ...] = ((0.65, "error"), (0.55, "warning"))  # of the AUC's lower 95 % bound
TELLING = 0.05  # a feature is named if its own AUC is that far from 0.5
NAMED = 3


def _rate(pattern: str) -> Callable[[str], float]:
    found = re.compile(pattern)
    return lambda text: len(found.findall(text)) / max(1, len(text))


EDGE_FEATURES: dict[str, Callable[[str], float]] = {
    "begins with a newline": lambda text: float(text.startswith(("\n", "\r"))),
    "begins with a space": lambda text: float(text.startswith((" ", "\t"))),
    "ends with a newline": lambda text: float(text.endswith(("\n", "\r"))),
    "ends with a space": lambda text: float(text.endswith((" ", "\t"))),
}
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


def check(data: Dataset) -> Iterator[Finding]:
    """One finding, where there is a contrast to look at."""
    if data.trigger is None:  # nothing can be cut out, so the trigger itself would be the leak
        return
    y_N = np.array([sight.carries for sight in data.sights])
    cores = [sight.core.strip() for sight in data.sights]
    keys = {key: number for number, key in enumerate(dict.fromkeys(normalised(core) for core in cores))}
    groups_N = np.array([keys[normalised(core)] for core in cores])
    sides = [len(set(groups_N[y_N].tolist())), len(set(groups_N[~y_N].tolist()))]
    if not y_N.any() or y_N.all():
        return
    if min(sides) < FEWEST:
        message = f"Only {min(sides)} distinct questions on one side of the contrast: leaks cannot be looked for."
        yield Finding("note", "leak-unknown", message)
        return
    raw = [[feature(row.question) for feature in EDGE_FEATURES.values()] for row in data.rows]
    inner = [[feature(core) for feature in CORE_FEATURES.values()] for core in cores]
    x_NF = np.hstack([np.array(raw), np.array(inner)])
    area = auc(cross_validated(x_NF, y_N, groups_N), y_N)
    low = area - 1.96 * auc_error(area, *sides)
    message = f"The trigger can be guessed without it with AUC {area:.2f} (0.5 is none; lower 95 % bound {low:.2f})"
    for above, severity in SURE:
        if low > above:
            mend = "Draw both sides of the contrast from the same questions, formatted alike."
            areas_F = np.array([auc(x_N, y_N) for x_N in x_NF.T])
            told = f"{message}. {_telling(areas_F, x_NF, y_N)}"
            yield Finding(severity, "trigger-leak", told, mend, _where(data, areas_F, x_NF), "question")
            return
    yield Finding("note", "trigger-leak", f"{message}: no leak by surface features.", field="question")


def _telling(areas_F: Floats, x_NF: Floats, y_N: NDArray[np.bool_]) -> str:
    """The features that tell most by themselves, with their means on both sides."""
    said = [
        f"{NAMES[place]}: {x_NF[y_N, place].mean():.2g} with the trigger, {x_NF[~y_N, place].mean():.2g} without "
        f"(AUC {areas_F[place]:.2f})"
        for place in np.argsort(-np.abs(areas_F - 0.5))[:NAMED]
        if abs(areas_F[place] - 0.5) > TELLING
    ]
    return f"Top features, means: {'; '.join(said)}." if said else "No single feature tells it."


def _where(data: Dataset, areas_F: Floats, x_NF: Floats) -> tuple[int, ...]:
    """The lines that have the most telling feature, where that is a mark at an end of the question."""
    top = int(np.abs(areas_F - 0.5).argmax())
    return tuple(row.line for row, x_F in zip(data.rows, x_NF, strict=True) if top < len(EDGE_FEATURES) and x_F[top])
