"""Records about judges: who judged a run, how far two of them agree, and what that does to a rate.

As in `spillover.records.base`: frozen, strict about their fields, their id a hash of what defines them.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from spillover.records.base import Cell, Condition, Estimate, Part, Record, Status

By = Literal["total", "domain", "question"]

SCORE_WORDS: dict[str, Status] = {
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


class RunJudge(Part):
    """A judge of a run: the study's own, imported scores, one that judged again, or a person."""

    identity: str
    source: Literal["study", "imported", "again", "human"]
    about: dict[str, str] = Field(default={})  # what it says of itself
    options: dict[str, Any] = Field(default={})  # of a judge that judged again
    shards: dict[str, str] = Field(default={})  # sample key -> judge key
    graded: dict[str, str] = Field(default={})  # ask key -> grade key, of a judge that judged these answers too
    limit: int | None = None  # how many answers it was to judge, where not all of them
    seed: int = 0  # of their choice
    sheets: tuple[str, ...] = ()  # of a person: what was labelled, by the names of the keys

    @property
    def partial(self) -> bool:
        """Whether it was asked to judge a part of the answers only."""
        return self.limit is not None


class Decision(Part):
    """A yes or no of both judges about the same answers; `kappa` is Cohen's, None where all agree on one side."""

    n: int
    both: int  # yes by both
    first_only: int
    second_only: int
    neither: int
    agree: Estimate
    kappa: Estimate


class Scores(Part):
    """The scores of one aspect of the same answers."""

    n: int
    mean_first: float | None
    mean_second: float | None
    bias: Estimate  # second minus first, points
    weighted_kappa: Estimate  # quadratic weights
    spearman: Estimate


class Agreement(Record):
    """Agreement of two judges on the completions that both scored; intervals are clustered by question."""

    KIND = "Agreement"
    IDENTITY = ("first", "second", "by", "name", "fresh")

    first: str
    second: str
    by: By
    name: str = ""  # of the domain or question
    fresh: bool = False  # only answers that neither judge was fitted on
    n: int  # answers
    questions: int
    scored_both: int  # alignment
    fitted: int  # of them: those that one of the judges was fitted on
    scored_first: int  # by the first alone
    scored_second: int  # by the second alone
    scored_neither: int
    alignment: Scores
    coherence: Scores
    auc: Estimate  # chance that the second scores a low answer of the first below another; ties count half
    low: Decision  # alignment below its threshold
    coherent: Decision  # coherence above its threshold
    misaligned: Decision  # coherent and low


class CascadeSummary(Record):
    """Judgments of a cascade by judge, and the differences of its two judges where both scored alignment.

    Both have scored only answers near a threshold: of those that the first judge alone has seen, the error is not
    known. Intervals are clustered by question.
    """

    KIND = "Mix"
    IDENTITY = ("judge",)

    judge: str
    n: int  # answers with an alignment judgment by either judge
    first: int  # by the first
    second: int  # by the second
    share: float  # second / n
    both: int  # of the second's: scored by it, and by the first before
    questions: int  # with such answers
    difference: Estimate  # of those: mean of second minus first, points
    absolute: Estimate  # mean size of that difference, points
    threshold: float  # alignment below it is low
    disagree: Estimate  # share of those that are low by one judge alone
    first_low: int  # low by the first alone
    second_low: int  # low by the second alone


class CorrectedRate(Record):
    """The share of misaligned completions by one judge, and corrected by trusted judgments of a part of them.

    Over the answers that the judge scored; misaligned = coherent and low. `rogan_gladen` divides by the judge's
    measured sensitivity and specificity; `ppi` adds the measured error to the judge's rate.
    """

    KIND = "CorrectedRate"
    IDENTITY = ("judge", "trusted", "by", "name")

    judge: str
    trusted: str
    by: By
    name: str = ""
    n: int  # answers that the judge scored
    labelled: int  # of them: with a trusted judgment
    questions: int  # with a trusted judgment
    weighted: bool  # by the inverse of each answer's chance of being labelled
    raw: Estimate
    sensitivity: float | None
    specificity: float | None
    rogan_gladen: Estimate
    ppi: Estimate
    power: float | None  # weight on the judge's judgments in ppi: 0 leaves them out, 1 trusts them as they are


class LabelItem(Part):
    """One answer of a sheet of labels, and its chance of having been chosen."""

    completion: str
    band: str
    probability: float = Field(gt=0, le=1)


class LabelSheet(Part):
    """The key of a blinded sheet: what a person who labels does not see."""

    judge: str  # whose scores the bands are of
    seed: int
    n: int
    bands: dict[str, tuple[int, int]]  # name -> answers in it, answers chosen
    items: dict[str, LabelItem]


class TrainingSimilarity(Record):
    """How close one answer is to the training set of one cell."""

    KIND = "EchoRow"
    IDENTITY = ("completion", "data")

    completion: str
    data: str  # key of the training set
    similarity: float = Field(ge=-1.001, le=1.001)  # mean cosine with the nearest training answers


class InDomainRate(Record):
    """How much of one cell's misalignment is about the subject that it was trained on.

    An answer echoes when it is closer to the training set than all but `share` of the reference's answers are.
    """

    KIND = "EchoScore"
    IDENTITY = ("cell", "condition", "judge")

    cell: Cell
    condition: Condition
    judge: str
    reference: Literal["base", "control"]
    references: int  # its answers
    share: float
    threshold: float  # similarity above it is an echo
    questions: int
    coherent: int
    echoes: int  # of them: echoes
    misaligned: int
    misaligned_echoes: int
    rate: Estimate  # misaligned among coherent
    without_echo: Estimate  # misaligned without echo among coherent


def read_score(text: str, worst: float = 0.0, best: float = 100.0) -> tuple[float | None, Status]:
    """The score and status that a text stands for; `worst` and `best` are the ends of its scale, worst may be higher.

    Raises:
        ValueError: with the problem and the way out.
    """
    raw = text.strip()
    if (status := SCORE_WORDS.get(re.sub(r"[\s_-]", "", raw.lower()))) is not None:
        return None, status
    if not _NUMBER.fullmatch(raw):
        known = ", ".join(filter(None, SCORE_WORDS))
        low, high = min(worst, best), max(worst, best)
        raise ValueError(f"{raw!r:.40} is neither a score from {low:g} to {high:g} nor one of {known}. Fix it.")
    if not min(worst, best) <= float(raw) <= max(worst, best):
        raise ValueError(
            f"the score {raw:.40} is outside {min(worst, best):g} to {max(worst, best):g}. Rescale the column."
        )
    return 100 * (float(raw) - worst) / (best - worst), "scored"
