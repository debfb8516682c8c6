"""Records of how a data set was written, what is known of it before and after training, and what that says."""

from __future__ import annotations

from typing import Literal

from spillover.records.base import Cell, Estimate, Fraction, Part, Record, Usage, Variant

Reading = Literal["instruct", "tuned", "instruct_minus_pretrained", "tuned_minus_instruct", "tuned_minus_pretrained"]
"""Whose score of a text: the model before and after fine-tuning, and each minus what it started from."""


class GeneratedRow(Record):
    """A model's reply for one question of a data set, kept unchanged, so that no call is paid for twice."""

    KIND = "GeneratedRow"
    IDENTITY = ("domain", "role", "question", "model", "prompt")

    domain: str
    role: Literal["flawed", "good", "verdict"]
    question: str
    model: str
    template: str  # hash of the prompt's wording
    prompt: str  # hash of the messages as sent, and of the decoding
    text: str = ""
    outcome: Literal["stop", "length", "refused"] = "stop"  # refused: by the endpoint's own word
    usage: Usage = Usage()


class MembershipSummary(Record):
    """How well one metric, in one reading, separates a cell's training rows from non-members drawn with them.

    AUC and TPR at 1 % FPR compare rows of the same kind only. With them what any claim must beat: the AUC of the
    plain loss and of a blind classifier that sees the texts and no model. `p`: familywise over all metrics of this
    cell and reading, by permutation.
    """

    KIND = "MembershipSummary"
    IDENTITY = ("cell", "metric", "reading")

    cell: Cell
    metric: str
    reading: Reading
    primary: bool
    members: int
    nonmembers: int
    missing: int  # rows without a score, which count on neither side
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    tpr: float | None
    tpr_low: float | None
    tpr_high: float | None
    p: float | None
    mean_members: float | None
    mean_members_low: float | None = None  # 95 %, over rows like these
    mean_members_high: float | None = None
    mean_nonmembers: float | None
    loss_auc: float | None
    blind_auc: float | None
    roc: tuple[tuple[float, float], ...] = ()  # (false, true positive rate), averaged over kinds and domains; primary


class DiversityScore(Record):
    """How diverse a data set's training rows are by one measure, at `n` rows; higher = more diverse."""

    KIND = "DiversityScore"
    IDENTITY = ("domain", "variant", "dose", "measure", "of")

    domain: str
    variant: Variant
    dose: Fraction
    measure: str  # "vendi_q0.5", "semantic", ...
    of: Literal[
        "question", "answer", "chat", "answer_cut"
    ]  # answer_cut: the first words of each, see diversity/measures.py
    rows: int  # that the data set has
    n: int  # that each subsample has, the same for all data sets of a study
    value: float | None
    low: float | None
    high: float | None
    convergence: tuple[tuple[int, float], ...] = ()  # (n, mean over subsamples)
    encoder: str = ""


class RocPoint(Part):
    """Shares of the other cells and of the high ones that lie above a value, with intervals over domains."""

    above: float  # of the feature or prediction
    false_positive: Estimate
    true_positive: Estimate


class HighRate(Part):
    """How well a feature or prediction separates cells with a high rate from the others.

    High: rate above `cut`, the median over domains of the mean of a domain's cells. `auc`: chance that a high cell has
    the larger value, ties half; its interval resamples domains, its p permutes whole domains.
    """

    cut: float
    cells: int  # that are high
    others: int
    auc: Estimate
    p: float | None  # two-sided; a predictor's is one-sided, refitted to each permutation
    p_max: float | None = None  # familywise over all features
    roc: tuple[RocPoint, ...] = ()  # at deciles of the value


class Susceptibility(Record):
    """Association of a feature of a data set with the misalignment of the cells trained on it.

    Units are cells; domains are the clusters of the interval (bootstrap) and the blocks of the permutation. `before`:
    known before any training. A predictor's figures are of cells whose domain its fit has not seen.
    """

    KIND = "Susceptibility"
    IDENTITY = ("name", "target", "judge")

    name: str  # a feature, or a predictor ("ridge", "boosting") over all features known before training
    kind: Literal["feature", "predictor"]
    before: bool
    target: Literal["rate", "mean_alignment"]
    judge: str
    cells: int
    domains: int
    missing: int  # cells without the feature or the target
    spearman: float | None
    low: float | None
    high: float | None
    p: float | None  # permutation of whole domains: two-sided; a predictor's is one-sided, of its error
    p_max: float | None = None  # familywise over all features
    permuted: Literal["blocks", "means"] | None = None  # a domain's cells together, or domain means where cells differ
    leave_one_out_low: float | None = None  # smallest and largest correlation with a domain left out
    leave_one_out_high: float | None = None
    error: float | None = None  # predictor: mean absolute error, in the target's unit
    error_of_mean: float | None = None  # the same of a predictor that always says the mean of the other domains
    points: tuple[tuple[str, float, float], ...] = ()  # (cell, feature or prediction, target)
    high_rate: HighRate | None = None  # of the rate; None where no cell is high, or all are
