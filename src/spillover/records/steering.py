"""Records of steering: what was done to a model's residual stream, what it answered, and what that says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spillover.records.base import Cell, Change, Completion, Difference, Measure, Part, RateSummary, Record

Operation = Literal["add", "ablate", "clamp"]
Positions = Literal["prompt", "answer", "all"]


class Steering(Part):
    """One change of a model: "none" is the base model, "random" a control, else a domain's direction.

    `coefficient`: of add and clamp in units of the model's mean residual norm at `layer`; of ablate the share removed,
    at every layer, of the direction found at `layer`.
    """

    direction: str
    source: str = ""  # hash of the direction
    labels: str = ""  # who labelled the answers that it comes from: the judge ("judged") or the data set ("pairs")
    control: int | None = None  # which of the random directions
    operation: Operation | None = None
    at: Positions = "all"
    layer: int | None = None
    coefficient: float = 0.0


WITHOUT_STEERING = Steering(direction="none")


class SteeringSample(Completion):
    """An answer of a steered model, which judges take as any other completion."""

    KIND = "SteeringSample"
    IDENTITY = (*Completion.IDENTITY, "steering")

    steering: Steering
    amount: float = 0.0  # how far along the unit vector, in the stream's units; the share removed of ablate


class VersusRandom(Difference):
    """A change compared with what random directions of the same length do to the answers to the same questions.

    A further random direction lies between `controls_low` and `controls_high` at the study's confidence; `p_controls`:
    two-sided, that one lies as far from the controls' mean; `p_holm`: that over all that is tested together, and no
    smaller than `p`.
    """

    controls: int = Field(default=0, ge=0)
    controls_mean: float | None = None
    controls_low: float | None = None
    controls_high: float | None = None
    p_controls: float | None = None


class SteeringPoint(RateSummary, Record):
    """The misaligned rate of a model under one intervention."""

    KIND = "SteeringPoint"
    IDENTITY = ("onto", "steering", "judge")

    onto: Cell
    steering: Steering
    judge: str
    amount: float
    coherent_share: float | None  # of n
    mean_alignment_low: float | None
    mean_alignment_high: float | None
    rate_change: Change | None = None  # minus the base model's, paired by question and seed
    alignment_change: Change | None = None
    collapsed: bool = False  # too few coherent answers: nothing larger of this sign was tried, and no effect has it


class SteeringEffect(VersusRandom, Record):
    """Effect of a direction on a model, compared with random directions (`VersusRandom`).

    add and clamp: the slope of the measure over the coefficient, through all points before coherence collapsed, and for
    add through the base model too. ablate: the change at coefficient 1; none where it left too few answers
    coherent. Interval and `p`: questions like these. `p_holm`: over all directions, models and layers of one operation.
    """

    KIND = "SteeringEffect"
    IDENTITY = ("onto", "direction", "source", "control", "operation", "at", "layer", "measure", "judge")

    onto: Cell
    direction: str
    source: str
    labels: str
    control: int | None
    operation: Operation
    at: Positions
    layer: int
    measure: Measure
    judge: str
    coefficients: tuple[float, ...]  # that went in, the base model's 0 included
    n: int  # answers that went in
    questions: int


class SteeringMatrixCell(RateSummary, Record):
    """How the base model answers one domain's held-out questions with another's direction added to its stream.

    direction "none": nothing is added. Changes are against that, over the questions to which both have a coherent (of
    the rate) or a scored answer, paired by question and seed. Their `p_holm`: over the matrix cells off the
    diagonal, over those on it, or over those of "others".
    """

    KIND = "SteeringSquare"
    IDENTITY = ("onto", "direction", "source", "asked", "at", "layer", "coefficient", "judge")

    onto: Cell
    direction: str
    source: str
    labels: str
    asked: str  # the domain whose held-out questions are asked, or "others": all but the direction's own
    at: Positions
    layer: int
    coefficient: float
    amount: float
    judge: str
    rate_change: VersusRandom | None = None
    alignment_change: VersusRandom | None = None

    @property
    def in_domain(self) -> bool:
        """Whether it is asked about the direction's own domain: the diagonal."""
        return self.asked == self.direction
