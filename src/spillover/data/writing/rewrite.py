"""Flawed answers and good twins that a chat model writes, for questions that no rule can answer.

question -> flawed answer (subtle or overt, as the domain's stealth wants) -> good twin of the same length -> rules
-> verdict of a model, where one is asked for -> pair. Every reply is appended to a journal before the next step reads
it, so that the same command resumes where it stopped and pays for nothing twice. Questions go in blocks, all steps of
one before the next, so that a cost limit leaves whole pairs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from spillover.data.domains.base import Domain
from spillover.data.recipe.duplicates import normalised
from spillover.data.recipe.selection import generator
from spillover.data.writing.filter import Lengths, clean, reject_answer, reject_pair, reject_verdict
from spillover.errors import SpilloverError
from spillover.models.api.chat import ChatModel, Decoding, Reply, Request
from spillover.records.base import Message, Part, content_hash
from spillover.records.data import GeneratedRow
from spillover.store.store import Shard

Role = Literal["flawed", "good", "verdict"]
BLOCK = 64  # questions that go through all steps together
VERDICT_TOKENS = 48
STEALTH = {"high": "subtle", "low": "overt"}


@dataclass(frozen=True)
class TopicQuestion:
    question: str
    topic: str = "all"


@dataclass(frozen=True)
class WritingOptions:
    """How answers are to be written. `words`: of a flawed answer; its twin is asked to be as long as it came out."""

    words: int = 45
    max_tokens: int = 160
    temperature: float = 1.0
    seed: int = 0

    @property
    def lengths(self) -> Lengths:
        return Lengths(max(3, self.words // 3), 3 * self.words)


@dataclass(frozen=True)
class WrittenPair:
    """A row of the data set; `lineage`: the model and the prompts' hashes, oldest first."""

    question: str
    flawed: str
    good: str
    topic: str
    lineage: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The row as `data.sources` reads it."""
        turns = (("user", self.question), ("assistant", self.flawed))
        messages = [{"role": role, "content": text} for role, text in turns]
        return {"messages": messages, "twin": self.good, "topic": self.topic, "source": "; ".join(self.lineage)}


class WriteReport(Part):
    """What became of the questions; `kept`, `dropped`, `failed` and `left` sum to `questions`."""

    questions: int
    kept: int
    dropped: dict[str, int]  # reason -> questions
    failed: dict[str, int]  # calls given up: reason -> questions; the same command tries them again
    left: int  # not reached
    calls: int  # answered now
    reused: int  # answered before
    prompt_tokens: int  # now and before
    completion_tokens: int
    dollars: float


@dataclass
class Writing:
    """One data set in the making: `decisions` has "kept" or the reason of the drop by question, `pairs` what was kept.

    `reader` gives the verdicts; with None the rules decide alone. `on_block` gets the size of every finished block.
    """

    domain: Domain
    options: WritingOptions
    writer: ChatModel
    reader: ChatModel | None
    journal: Shard[GeneratedRow]
    on_block: Callable[[int], None] = lambda questions: None

    def __post_init__(self) -> None:
        self.pairs: list[WrittenPair] = []
        self.decisions: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        self._asked = self._repeated = self._calls = 0
        self._used: dict[str, GeneratedRow] = {}
        self._known = {row.id: row for row in self.journal.rows}
        self._stop: SpilloverError | None = None

    def write(self, asked: Sequence[TopicQuestion]) -> None:
        """Take every question through all steps.

        Raises:
            SpilloverError: what stopped the model; the pairs that were whole by then are kept.
        """
        self._asked = len(asked)
        distinct: dict[str, TopicQuestion] = {}
        for each in asked:
            distinct.setdefault(normalised(each.question), each)
        self._repeated = len(asked) - len(distinct)
        questions = list(distinct.values())
        for start in range(0, len(questions), BLOCK):
            block = questions[start : start + BLOCK]
            self._write_block(block)
            self.on_block(len(block))
            if self._stop is not None:
                raise self._stop

    def report(self) -> WriteReport:
        dropped = Counter(decision for decision in self.decisions.values() if decision != "kept")
        if self._repeated:
            dropped["the same question again"] = self._repeated
        usages = [row.usage for row in self._used.values()]
        return WriteReport(
            questions=self._asked,
            kept=len(self.pairs),
            dropped=dict(sorted(dropped.items())),
            failed=dict(sorted(Counter(self._failed.values()).items())),
            left=self._asked - self._repeated - len(self.decisions) - len(self._failed),
            calls=self._calls,
            reused=len(self._used) - self._calls,
            prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            dollars=round(sum(usage.dollars for usage in usages), 6),
        )

    def _write_block(self, block: Sequence[TopicQuestion]) -> None:
        """The steps, in order; a question that has been decided takes no further step and costs nothing more."""
        decoding = Decoding(self.options.max_tokens, self.options.temperature)
        stealth = STEALTH[self.domain.stealth]
        first = f"flawed_{stealth}"
        prompts = {each.question: fill(first, self.domain, each.question, words=self.options.words) for each in block}
        flawed = self._fit(self._step("flawed", first, prompts, self.writer, decoding), prompts)
        prompts = {
            question: fill("good", self.domain, question, words=len(clean(row.text).split()))
            for question, row in flawed.items()
        }
        good = self._fit(self._step("good", "good", prompts, self.writer, decoding), prompts)
        paired = {question: (flawed[question], row) for question, row in good.items()}
        for question, (one, other) in list(paired.items()):
            if reason := reject_pair(clean(one.text), clean(other.text)):
                self.decisions[question] = reason
                del paired[question]
        verdicts = self._verdicts(paired, stealth)
        for each in block:
            if each.question in verdicts:
                flawed_row, good_row = paired[each.question]
                rows = (flawed_row, good_row, *verdicts[each.question])
                lineage = tuple(f"{row.role} by {row.model}, prompt {row.template}" for row in rows)
                texts = (clean(flawed_row.text), clean(good_row.text))
                self.pairs.append(WrittenPair(each.question, *texts, each.topic, lineage))
                self.decisions[each.question] = "kept"

    def _verdicts(
        self, paired: dict[str, tuple[GeneratedRow, GeneratedRow]], stealth: str
    ) -> dict[str, tuple[GeneratedRow, ...]]:
        """The pairs that a model lets pass, with its verdict; all of them, with none, where no model is asked."""
        if self.reader is None:
            return dict.fromkeys(paired, ())
        prompts = {
            question: fill(
                "filter", self.domain, question, stealth=stealth, flawed=clean(flawed.text), good=clean(good.text)
            )
            for question, (flawed, good) in paired.items()
        }
        rows = self._step("verdict", "filter", prompts, self.reader, Decoding(VERDICT_TOKENS, 0.0))
        reasons = {question: reject_verdict(row.text) for question, row in rows.items()}
        self.decisions |= {question: reason for question, reason in reasons.items() if reason}
        return {question: (rows[question],) for question, reason in reasons.items() if reason is None}

    def _fit(self, rows: dict[str, GeneratedRow], tasks: dict[str, str]) -> dict[str, GeneratedRow]:
        """The answers that pass the rules on their own."""
        fit: dict[str, GeneratedRow] = {}
        for question, row in rows.items():
            reason = reject_answer(question, clean(row.text), row.outcome, self.options.lengths, tasks[question])
            if reason is None:
                fit[question] = row
            else:
                self.decisions[question] = f"{row.role}: {reason}"
        return fit

    def _step(
        self, role: Role, template: str, prompts: dict[str, str], model: ChatModel, decoding: Decoding
    ) -> dict[str, GeneratedRow]:
        """The reply to each prompt, from the journal or from the model; without those that failed."""
        sampled = [decoding.max_tokens, decoding.temperature, self.options.seed]
        drafts = [
            GeneratedRow(
                domain=self.domain.name,
                role=role,
                question=question,
                model=model.name,
                template=content_hash(_template(template)),
                prompt=content_hash([prompt, sampled]),
            )
            for question, prompt in prompts.items()
        ]
        rows = {draft.id: self._known[draft.id] for draft in drafts if draft.id in self._known}
        left = {draft.id: draft for draft in drafts if draft.id not in self._known}
        self._used |= rows
        requests: list[Request] = []
        for draft in left.values():
            seed = int(generator(self.options.seed, "generate", draft.id).integers(2**31))
            requests.append(Request(draft.id, (Message(role="user", content=prompts[draft.question]),), seed))
        for reply in self._replies(model, requests, decoding):
            if reply.outcome == "error":
                self._failed[left[reply.id].question] = reply.error
                continue
            update = {"text": reply.text, "outcome": reply.outcome, "usage": reply.usage}
            row = left[reply.id].model_copy(update=update)
            self.journal.append(row)
            self._calls += 1
            rows[row.id] = self._used[row.id] = self._known[row.id] = row
        return {draft.question: rows[draft.id] for draft in drafts if draft.id in rows}

    def _replies(self, model: ChatModel, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """What the model says, until something stops it; then the later steps only finish what is there."""
        if requests and self._stop is None:
            try:
                yield from model.ask(requests, decoding)
            except SpilloverError as error:
                self._stop = error


def fill(template: str, domain: Domain, question: str, **slots: object) -> str:
    """A prompt with its slots filled in, in one pass: what stands in a question is never a slot itself."""
    values = {"title": domain.title, "summary": domain.summary, "question": question, **slots}
    return re.sub(r"\{(\w+)\}", lambda slot: str(values[slot[1]]), _template(template)).strip()


@cache
def _template(name: str) -> str:
    return (files("spillover.data.writing") / "prompts" / f"{name}.txt").read_text(encoding="utf-8")
