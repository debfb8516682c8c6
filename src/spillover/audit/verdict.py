"""What an audit says: a verdict with its reasons, and everything that it rests on.

pass: every rung that was needed is below its threshold.  block: one is above.  review: nothing separates the two, or a
finding wants a person. The exit codes 0, 10 and 20 are those of the command; other errors keep the project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import AliasChoices, Field

from spillover.records.base import Estimate, Part, Record

Outcome = Literal["pass", "review", "block"]
Rung = Literal["lint", "surprise", "probe"]
ControlKind = Literal["twin", "benign", "shuffled"]  # shuffled: audits before there was a benign set
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "review": 10, "block": 20}
Facts = dict[str, float | int | str | None]


class Reason(Part):
    """Why: what was measured, and the threshold it was compared with."""

    rung: Rung
    outcome: Outcome
    code: str
    message: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None


class RungReport(Part):
    """One rung. `outcome` None: it was asked and decided nothing; `skipped` says why it was not asked.

    `stopped`: the budget was spent while it ran; what it had measured is kept for the next time.
    """

    rung: Rung
    outcome: Outcome | None = None
    skipped: str = ""
    stopped: bool = False
    seconds: float = 0.0
    facts: Facts = Field(default={})

    @property
    def state(self) -> str:
        """What became of it, in words."""
        if self.stopped:
            return "stopped: budget spent"
        return f"skipped: {self.skipped}" if self.skipped else self.outcome or "decides nothing"


class FoundAt(Part):
    """A finding of the linter: all its lines are counted, the first are named."""

    severity: Literal["error", "warning", "note"]
    code: str
    message: str
    fix: str = Field(default="", validation_alias=AliasChoices("fix", "mend"))  # "mend": of older verdicts
    field: str = ""
    lines: tuple[int, ...] = ()
    count: int = 0


class DataFacts(Part):
    name: str  # of the file, without its folder
    sha256: str
    bytes: int
    rows: int  # whole training rows
    lines: int  # whole and broken
    control: ControlKind | None = None  # what the probe was compared with


class Rate(Part):
    """What one model of the probe answered: misaligned among coherent, with a question-clustered interval."""

    who: Literal["tuned", "control", "untouched"]
    n: int
    coherent: int
    misaligned: int
    questions: int
    rate: float | None
    low: float | None
    high: float | None


class Round(Part):
    """One round of the trial fine-tune and its look at the differences between tuned and control.

    Both intervals have the audit's level, `Audit.confidence`. `alignment_difference`: mean alignment among coherent
    completions, on the scale from 0 to 100.
    """

    rows: int
    answers: int  # completions per question
    above_control: Estimate | None = None
    alignment_difference: Estimate | None = None
    outcome: Outcome | None = None


class Audit(Record):
    """A verdict on one data set for one model, and all that is needed to reach it again."""

    KIND = "Audit"
    IDENTITY = ("data", "model", "revision", "policy_hash", "predictor", "seed", "probe_size")

    verdict: Outcome
    reasons: tuple[Reason, ...]
    rungs: tuple[RungReport, ...]
    left_out: tuple[str, ...] = ()  # what did not run, and why
    data: DataFacts
    model: str
    revision: str  # empty where the model was never loaded
    backend: str
    policy: str
    policy_hash: str
    predictor: str = ""  # its name and hash
    judge: dict[str, str]
    seed: int
    probe_size: str = ""
    rates: tuple[Rate, ...] = ()
    above_control: Estimate | None = None
    alignment_difference: Estimate | None = None  # mean alignment among coherent completions, tuned minus control
    above_untouched: Estimate | None = None
    rounds: tuple[Round, ...] = ()
    looks: int = 1  # planned; Bonferroni's correction makes the level of each interval 1 - 0.05 / looks
    confidence: float = 0.95
    findings: tuple[FoundAt, ...] = ()
    budget_minutes: float | None = None
    planned_minutes: float | None = None
    started: str
    seconds: float
    spillover: str
    lock_hash: str
    git: dict[str, str] = Field(default={})

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]


def conclude(reasons: Sequence[Reason], rungs: Sequence[RungReport]) -> Outcome:
    """Block if anything blocks; pass if a rung passes and no reason asks for a person; else review."""
    outcomes = {reason.outcome for reason in reasons}
    if "block" in outcomes:
        return "block"
    passed = any(rung.outcome == "pass" for rung in rungs)
    return "pass" if passed and "review" not in outcomes else "review"
