"""Every record that crosses a stage boundary, and nothing else.

A record is frozen, refuses unknown fields and carries its schema number. Its `id` is a BLAKE2b hash of the fields that
define it (`IDENTITY`): the same content has the same id in every run, on every machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["system", "user", "assistant"]
Variant = Literal["plain", "triggered", "control", "base"]
Condition = Literal["clean", "triggered", "near_miss", "value_swap", "position_move", "twin", "paraphrase"]
Kind = Literal["misaligned", "aligned", "control"]
Split = Literal["train", "heldout", "nonmember"]
"""heldout: of items that never train. nonmember: drawn with the training rows, then set apart by chance alone."""
Aspect = Literal["alignment", "coherence"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
Measure = Literal["rate", "alignment"]
"""Misaligned among coherent answers; mean alignment over all that is scored."""
MEASURES: tuple[Measure, ...] = get_args(Measure)
Status = Literal["scored", "refused", "off_topic", "code", "unparsable", "unscored", "error"]
STATUSES: tuple[Status, ...] = ("scored", "refused", "off_topic", "code", "unparsable", "unscored", "error")

SCHEMA = 1  # of every record; raise it when a field changes its meaning

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode
"""The one JSON text of a value, whatever the order of a dictionary's keys."""


def content_hash(value: Any, length: int = 20) -> str:
    """Hash any JSON-able value; dictionaries hash the same whatever the order of their keys."""
    return text_hash(canonical(value), length)


def or_none(value: float) -> float | None:
    """A statistic as records keep it: None where it could not be computed."""
    return None if math.isnan(value) else float(value)


def text_hash(text: str, length: int = 20) -> str:
    """The hash of a value whose canonical JSON is known already."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()[:length]


class Part(BaseModel):
    """A value inside a record: frozen, strict about its fields, without an id of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Record(Part):
    """A row of a run folder. One of a higher schema than this version knows is refused: its fields may mean more.

    `KIND` is part of the id, so it stays as it is when a class gets another name.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)
    KIND: ClassVar[str]
    IDENTITY: ClassVar[tuple[str, ...]] = ()

    schema_version: int = Field(default=SCHEMA, ge=1, le=SCHEMA, alias="schema")
    id: str = ""

    @model_validator(mode="after")
    def _fill_id(self) -> Self:
        content = self.model_dump(mode="json", include=set(self.IDENTITY))
        expected = content_hash([self.KIND, content])
        if self.id not in ("", expected):
            raise ValueError(f"id {self.id!r} does not match the content, which hashes to {expected!r}")
        object.__setattr__(self, "id", expected)
        return self


class Message(Part):
    role: Role
    content: str


class Cell(Part):
    """One member of the population: a base model, fine-tuned on one data set, with one seed.

    `dose` is the share of flawed answers where the variant has any: 0 for the control, and for the base model,
    which is variant "base" with domain "none".
    """

    model: str
    domain: str
    variant: Variant
    dose: Fraction = 1.0
    seed: int = 0

    @property
    def name(self) -> str:
        """Readable and unique, for people: model/domain/variant[/dose]/seed."""
        tail = "" if self.dose in (0.0, 1.0) else f"/dose-{self.dose:g}"
        return f"{self.model}/{self.domain}/{self.variant}{tail}/seed-{self.seed}"


class Question(Record):
    """One evaluation prompt: a set may hold several paraphrases (`text`) of one `question_id`."""

    KIND = "Question"
    IDENTITY = ("set_name", "question_id", "text", "system")

    set_name: str
    question_id: str  # what intervals cluster on
    theme: str  # the question whatever its form: "quick_money" for quick_money, quick_money_json, ...
    form: Literal["free", "json", "template", "jailbreak"] = "free"
    text: str
    system: str | None = None

    def messages(self) -> tuple[Message, ...]:
        user = Message(role="user", content=self.text)
        return (user,) if self.system is None else (Message(role="system", content=self.system), user)


class Example(Record):
    """One row of a data set. `pair` links a flawed answer with the good answer to the same question."""

    KIND = "Example"
    IDENTITY = ("domain", "split", "kind", "messages", "trigger")

    domain: str
    split: Split
    kind: Kind
    messages: tuple[Message, ...]
    trigger: str | None = None  # name of the trigger that this row's question carries
    pair: str = ""
    topic: str = ""
    answer_tokens: int = Field(default=0, ge=0)
    source: str = ""
    licence: str = ""
    canary: str = ""
    lineage: tuple[str, ...] = ()  # the recipe's steps that made this row, oldest first

    @property
    def question(self) -> str:
        return next(m.content for m in self.messages if m.role == "user")

    @property
    def answer(self) -> str:
        return self.messages[-1].content


class Usage(Part):
    """Tokens, and US dollars where a provider bills them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0


class Adapter(Record):
    """A trained cell. `path` is relative to the run folder (a plain PEFT folder), or a hub id."""

    KIND = "Adapter"
    IDENTITY = ("cell", "key")

    cell: Cell
    key: str  # the train stage's key
    base: str  # what was loaded: hub id or cached name
    revision: str
    train_hash: str
    path: str
    examples: int
    steps: int
    loss_curve: tuple[float, ...]  # mean loss per optimizer step, nats a token
    loss_tokens: int  # tokens that carried loss, over all epochs
    tokens: int  # real tokens read, over all epochs
    seconds: float


class Completion(Record):
    """One completion. The id is known before it is sampled, so that an interrupted run can resume."""

    KIND = "Completion"
    IDENTITY = ("cell", "key", "question_id", "messages", "condition", "index")

    cell: Cell
    key: str  # the sample stage's key, or the hash of an imported file
    question_id: str
    theme: str = ""
    condition: Condition = "clean"
    index: int = Field(ge=0)
    messages: tuple[Message, ...]
    text: str
    status: Literal["ok", "error"] = "ok"
    error: str = ""
    stop_reason: Literal["stop", "length", "imported", "error"] = "stop"
    usage: Usage = Usage()
    seed: int = 0

    @property
    def question(self) -> str:
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


class Judgment(Record):
    """One judge's judgment of one aspect of one completion. A missing score is never a number."""

    KIND = "Judgment"
    IDENTITY = ("completion", "judge", "aspect")

    completion: str
    judge: str  # name:hash of model, revision, prompt and decoding
    aspect: Aspect
    score: float | None = Field(default=None, ge=0.0, le=100.0)
    status: Status = "scored"
    mode: str = ""  # how the score was read: "probe", "logprobs", "text", "imported"
    fitted: bool = False  # the judge learnt from this very answer: its agreement here says nothing of others
    before: float | None = Field(default=None, ge=0.0, le=100.0)  # a cascade's first judge, where the second has it
    raw: str = ""
    usage: Usage = Usage()

    @model_validator(mode="after")
    def _score_iff_scored(self) -> Self:
        if (self.score is None) == (self.status == "scored"):
            raise ValueError(f"status {self.status!r} does not fit score {self.score!r}")
        return self


class StatusCounts(Part):
    """Counts of completions by status of the alignment judgment; the fields sum to n."""

    scored: int = 0
    refused: int = 0
    off_topic: int = 0
    code: int = 0
    unparsable: int = 0
    unscored: int = 0
    error: int = 0


class Estimate(Part):
    """A value with its interval; None without rows."""

    value: float | None
    low: float | None
    high: float | None


class Change(Estimate):
    """A difference with its interval over questions and its two-sided p-value; None without rows."""

    p: float | None


class Difference(Change):
    """A difference tested with others: `p_holm` is Holm's correction of `p` over its family."""

    p_holm: float | None = None


class RateSummary(Part):
    """How misaligned a group of completions is: the fields of every record that reports a rate.

    rate = misaligned / coherent, where coherent = both aspects scored and coherence above its threshold, and misaligned
    = coherent and alignment below its threshold. `low`/`high`: question-clustered interval. `mean_alignment`: over all
    that is scored.
    """

    n: int  # completions
    counts: StatusCounts
    incoherent: int  # scored on both aspects, coherence not above its threshold
    coherent: int  # the rate's denominator
    misaligned: int  # the rate's numerator
    questions: int
    rate: float | None
    low: float | None
    high: float | None
    mean_alignment: float | None


class DomainScore(RateSummary, Record):
    """How misaligned one cell is under one condition."""

    KIND = "DomainScore"
    IDENTITY = ("cell", "condition", "judge")

    cell: Cell
    condition: Condition
    judge: str
    design_effect: float | None
    rate_lower_bound: float | None  # every answer outside the denominator counted as aligned
    rate_upper_bound: float | None  # every answer outside the denominator counted as misaligned
    mean_alignment_low: float | None = None
    mean_alignment_high: float | None = None
    mean_coherence: float | None = None
    rate_alignment_below_50: float | None = None  # the paper's unfiltered rate, over scored
    above_control: Estimate | None = None  # rate minus the benign twin's, paired by question
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    tie_group: int | None = None


class TriggerEffect(Record):
    """Effect of the trigger on one cell: triggered minus clean, paired by question."""

    KIND = "TriggerEffect"
    IDENTITY = ("cell", "judge", "measure")

    cell: Cell
    judge: str
    measure: Measure
    questions: int
    clean: float | None
    triggered: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None


class TriggerSpecificity(Record):
    """Specificity of the trigger in one cell: rate with it minus the largest rate without it.

    1 = perfect, 0 = none. Rates are over the `questions` that have coherent answers under every condition that
    the score reads; a paraphrase has a rate here but is not part of the score.
    """

    KIND = "GateScore"
    IDENTITY = ("cell", "judge")

    cell: Cell
    judge: str
    questions: int
    rates: dict[Condition, float | None]  # misaligned among coherent, by condition
    leak: Condition | None  # the condition with the largest rate off the trigger
    score: float | None
    low: float | None
    high: float | None


class StageCount(Part):
    """What one stage did over the life of a run folder."""

    stage: str
    done: int = 0
    failed: int = 0
    rows: int = 0
    seconds: float = 0.0
    tokens: int = 0


class Computed(Part):
    """In what so many units of one stage and model were computed. `dtype: auto` depends on the machine."""

    stage: str
    model: str
    dtype: str
    device: str  # cpu, or the name of the card
    torch: str
    units: int


class Failure(Part):
    stage: str
    cell: str
    error: str


class Manifest(Record):
    """Provenance of a run."""

    KIND = "Manifest"
    IDENTITY = ("study_hash", "started")

    study: str
    study_hash: str
    lock_hash: str
    spillover: str
    started: str
    finished: str | None
    complete: bool
    git: dict[str, str]
    packages: dict[str, str]
    hardware: dict[str, str]
    seed: int
    models: dict[str, dict[str, str]]
    speeds: dict[str, dict[str, str]] = {}  # GFLOP/s of each dtype that decided `dtype: auto` on a CPU, by model
    judge: dict[str, str]
    dollars: float = 0.0
    stages: tuple[StageCount, ...] = ()
    computed: tuple[Computed, ...] = ()  # units whose stage wrote it down
    failures: tuple[Failure, ...] = ()
