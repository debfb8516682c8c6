"""Records of activation directions: texts read, directions, what they separate, and their similarity."""

from __future__ import annotations

from typing import Literal

from spillover.records.base import Cell, Estimate, Part, Record

Source = Literal["judged", "pairs"]
"""Who labels the answers: the judge, of what the cell itself wrote; or the data set, whose held-out questions each have
a flawed and a good answer."""
Reader = Literal["tuned", "base"]
"""Whose states: the fine-tuned model's, or those of what it was tuned from reading the same texts."""
Grouped = Literal["risk", "stealth"]


class ReadText(Record):
    """A text whose activations were read; `row`: its place in the file of states."""

    KIND = "ReadText"
    IDENTITY = ("key", "text")

    key: str  # the direct stage's
    text: str  # id of the completion or of the example
    source: Source
    question: str  # what answers are paired by
    theme: str  # what is held out together
    misaligned: bool | None  # as the data set says; None of a completion, which a judge labels
    tokens: int
    row: int


class LeftOut(Part):
    """Read texts of one cell and source that have no label, by reason."""

    empty: int = 0  # no answer tokens
    unscored: int = 0  # no score of alignment or of coherence
    incoherent: int = 0
    between: int = 0  # coherent, neither misaligned nor aligned
    one_label: int = 0  # answers to questions that have only one of the two


class LayerPoint(Part):
    """A direction at one layer."""

    layer: int
    norm: float  # length of the raw difference, in the stream's units
    stream_norm: float  # mean length of the stream over answer tokens
    split_half: float  # mean cosine of the directions of two random halves of the questions
    split_half_low: float  # central 95 % of the splits
    split_half_high: float


class DirectionSummary(Record):
    """One cell's direction by one method; figures of one layer, and of every layer in `profile`.

    Without figures where too few questions have both labels. `p`: chance that labels permuted within questions give as
    long a mean difference, at the table's layer. `random_low`, `random_high`: central 95 % of the AUCs that random
    directions have on this cell's own answers. `file`: the directions, relative to the run folder.
    """

    KIND = "DirectionSummary"
    IDENTITY = ("cell", "source", "reader", "method", "judge")

    cell: Cell
    source: Source
    reader: Reader
    method: str
    judge: str  # "" where the data set labels
    misaligned: int
    aligned: int
    questions: int
    left_out: LeftOut
    layer: int | None = None
    norm: float | None = None
    stream_norm: float | None = None
    split_half: float | None = None
    split_half_low: float | None = None
    split_half_high: float | None = None
    p: float | None = None
    random_low: float | None = None
    random_high: float | None = None
    profile: tuple[LayerPoint, ...] = ()
    file: str = ""


class ProfilePoint(Part):
    """Mean AUC over the pairs of cells at one layer, the smallest and the largest, and the null of the mean."""

    layer: int
    mean: float
    smallest: float
    largest: float
    null_low: float
    null_high: float


class DirectionProfile(Record):
    """The AUC of mean differences by layer, over all cells of one recipe.

    own: each cell's direction on its own held-out answers; others: on the answers of every other cell. The null is the
    central 95 % of the mean when labels are permuted within questions.
    """

    KIND = "DirectionProfile"
    IDENTITY = ("model", "seed", "variant", "dose", "source", "reader", "judge", "onto")

    model: str
    seed: int
    variant: str
    dose: float
    source: Source
    reader: Reader
    judge: str
    onto: Literal["own", "others"]
    pairs: int
    points: tuple[ProfilePoint, ...]


class DirectionAUC(Record):
    """How well A's direction separates B's misaligned from B's aligned answers to the same question.

    Held out by theme: whatever A was asked on the theme of B's question is not in the direction that scores it; the
    diagonal is cross-validation. `pooled`: the usual AUC, over answers to different questions too. The null permutes
    all labels within questions; `p` two-sided, `p_family` that of the largest of the family: of the table's diagonal,
    or of the rest. Only the mean difference has a null and a profile.
    """

    KIND = "DirectionAUC"
    IDENTITY = ("cell", "onto", "source", "reader", "method", "judge")

    cell: Cell  # A, whose direction it is
    onto: Cell  # B, whose answers are scored
    source: Source
    reader: Reader
    method: str
    judge: str
    layer: int
    misaligned: int  # of B
    aligned: int
    questions: int
    auc: float
    low: float  # for questions like these
    high: float
    pooled: float
    null_low: float | None = None
    null_high: float | None = None
    p: float | None = None
    p_family: float | None = None
    profile: tuple[tuple[int, float], ...] = ()  # (layer, AUC)


class DirectionCosine(Record):
    """Cosine of two cells' mean differences, each pair once.

    `corrected`: for the noise of so few questions, which draws the cosine towards 0; it may exceed 1, and is None where
    a direction is not distinguishable from noise. The null permutes labels within questions; `p_family`: of the
    largest of all pairs. `random`: 95 % of random directions have a smaller |cosine|.
    """

    KIND = "DirectionCosine"
    IDENTITY = ("cell", "other", "source", "reader", "judge")

    cell: Cell
    other: Cell
    source: Source
    reader: Reader
    judge: str
    layer: int
    questions: int  # of both together
    cosine: float
    low: float
    high: float
    corrected: float | None
    null_low: float
    null_high: float
    p: float
    p_family: float
    random: float
    profile: tuple[tuple[int, float], ...] = ()  # (layer, cosine)


class DirectionGroups(Record):
    """Whether the directions of one model's domains are more similar within a group of domains than between groups.

    `difference`: within minus between, its limits with one domain left out; `p`: one-sided, by giving the groups to the
    domains in all ways.
    """

    KIND = "DirectionGroups"
    IDENTITY = ("model", "seed", "variant", "dose", "grouped", "source", "reader", "judge")

    model: str
    seed: int
    variant: str
    dose: float
    grouped: Grouped
    source: Source
    reader: Reader
    judge: str
    layer: int
    domains: int
    within: float
    between: float
    difference: Estimate
    p: float


class Directions(Part):
    """All results computed from the activations of one run."""

    summaries: tuple[DirectionSummary, ...] = ()
    aucs: tuple[DirectionAUC, ...] = ()
    profiles: tuple[DirectionProfile, ...] = ()
    cosines: tuple[DirectionCosine, ...] = ()
    groups: tuple[DirectionGroups, ...] = ()
