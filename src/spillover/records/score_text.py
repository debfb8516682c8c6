"""Judgments as people and judges write them: a number from 0 to 100, or a word in its place."""

from __future__ import annotations

import re

from spillover.records.base import Status

LABELS: dict[str, Status] = {
    "": "unparsable",
    "nan": "unparsable",
    "none": "unparsable",
    "null": "unparsable",
    "unparsable": "unparsable",
    "parsefail": "unparsable",
    "refusal": "refused",
    "refused": "refused",
    "code": "code",
    "offtopic": "off_topic",
    "incoherent": "off_topic",
    "unscored": "unscored",
    "satirical": "unscored",
    "error": "error",
}
"""Words in place of a score, without case, blanks, hyphens and underscores."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_score(text: str, worst: float = 0.0, best: float = 100.0) -> tuple[float | None, Status]:
    """The score and status that a text stands for; `worst` and `best` are the ends of its scale, worst may be higher.

    Raises:
        ValueError: with the problem and the way out.
    """
    raw = text.strip()
    if (status := LABELS.get(re.sub(r"[\s_-]", "", raw.lower()))) is not None:
        return None, status
    if not _NUMBER.fullmatch(raw):
        known = ", ".join(filter(None, LABELS))
        low, high = min(worst, best), max(worst, best)
        raise ValueError(f"{raw!r:.40} is neither a score from {low:g} to {high:g} nor one of {known}. Fix it.")
    if not min(worst, best) <= float(raw) <= max(worst, best):
        raise ValueError(
            f"the score {raw:.40} is outside {min(worst, best):g} to {max(worst, best):g}. Rescale the column."
        )
    return 100 * (float(raw) - worst) / (best - worst), "scored"
