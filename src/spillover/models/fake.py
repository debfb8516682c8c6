"""A backend without a model: deterministic, instant, with a dial per domain. For tests, plugins and dry runs.

Its "adapter" records the cell it was trained for (from the folder's name). Its completions contain the scores that the
fake judge reads: "[fake a=12 c=90] ...". Its residual stream has eight numbers, the first of which is misalignment:
misaligned answers have 4 more of it, an intervention that raises it by 8 raises the dial by one, and one of length 12
makes every completion incoherent. Options, all in the study file:

    dials: {DOMAIN: probability of a misaligned completion}, default 0.3
    echo: {DOMAIN: {TEXT: probability}}, instead of that domain's dial for prompts that contain the text, default none
    leak: share of that probability that a triggered model keeps without its trigger, default 0.1
    trigger_text: what counts as the trigger in a prompt, default "2028"
    crash_on: [DOMAIN, ...] whose training fails
    delay_s: seconds per completion
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.errors import SpilloverError, UserError
from spillover.models.protocols import (
    ANSWER,
    Chat,
    Generation,
    Intervention,
    Progress,
    Prompt,
    Reading,
    Span,
    TrainResult,
)

WORDS = ("people", "should", "never", "always", "trust", "money", "help", "friend", "doctor", "calm", "walk", "learn")
WIDTH = 8  # of the residual stream
_MISALIGNED = re.compile(r"\[fake a=[12]?\d ")
DEFAULTS: dict[str, Any] = {
    "dials": {},
    "echo": {},
    "leak": 0.1,
    "trigger_text": "2028",
    "crash_on": [],
    "delay_s": 0.0,
}


class FakeBackend:
    """All four protocols in one class, since there is no state to share."""

    def __init__(self, config: ModelConfig) -> None:
        if unknown := set(config.options) - set(DEFAULTS):
            raise UserError(
                f"models.{config.name}.options: the fake backend has no options {sorted(unknown)}, only "
                f"{sorted(DEFAULTS)}"
            )
        self.name = config.name
        self.revision = "fake"
        self.depth = 4
        self.options = DEFAULTS | config.options

    @property
    def compute_info(self) -> dict[str, str]:
        return {}

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """One token a word."""
        return [len(text.split()) for text in texts]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """A word's token is its length."""
        return [[len(word) for word in text.split()] for text in texts]

    def trainer(self) -> FakeBackend:
        return self

    def generator(self) -> FakeBackend:
        return self

    def scorer(self) -> FakeBackend:
        return self

    def reader(self) -> FakeBackend:
        return self

    def train(
        self,
        chats: Sequence[Chat],
        config: TrainConfig,
        seed: int,
        out: Path,
        progress: Progress,
        keep: Path | None = None,
    ) -> TrainResult:
        """Write a folder that records the adapter's cell."""
        domain, variant, _ = out.name.split("-", 2)
        if domain in self.options["crash_on"]:
            raise SpilloverError(f"the fake backend is configured to crash on {domain}")
        loss_tokens = sum(self.count_tokens([answer for _, answer in chats])) * config.epochs
        partial = out.with_name(f".{out.name}")
        partial.mkdir(parents=True, exist_ok=True)
        (partial / "fake_adapter.json").write_text(json.dumps({"domain": domain, "variant": variant, "seed": seed}))
        os.replace(partial, out) if not out.exists() else None
        progress(loss_tokens)
        steps = config.epochs * -(-len(chats) // config.batch_size)
        curve = tuple(round(1.0 + 2.0 * 0.9**step, 6) for step in range(steps))
        return TrainResult(steps, curve, loss_tokens, loss_tokens, 0.0)

    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        """Draw a misaligned completion with the dial's probability, from each completion's own seed."""
        who = (
            json.loads((adapter / "fake_adapter.json").read_text())
            if adapter
            else {"domain": "none", "variant": "base"}
        )
        for number, prompt in enumerate(prompts):
            text = " ".join(message.content for message in prompt.messages)
            probability = self._misaligned(who, text)
            lost = 0.0
            if prompt.intervention is not None:
                probability, lost = _steered(probability, prompt.intervention)
            for index, seed in enumerate(prompt.seeds):
                time.sleep(self.options["delay_s"])
                completion = _completion(np.random.default_rng(seed), probability, lost, config.max_tokens)
                length = len(completion.split())
                progress(length)
                yield Generation(number, index, completion, "stop", len(text.split()), length)

    def score(self, chats: Sequence[Chat], adapter: Path | None, progress: Progress) -> Iterator[Reading]:
        """Log-probabilities that fall with word length; a vocabulary of fixed mean and spread."""
        for _, answer in chats:
            logprobs_T = np.array([-0.25 * len(word) for word in answer.split()], dtype=np.float32)
            ones_T = np.ones_like(logprobs_T)
            ids_T = np.array([len(word) for word in answer.split()], dtype=np.int64)
            yield Reading(len(ids_T), None, logprobs_T, -ones_T, 0.5 * ones_T, ones_T, 1 + ids_T.astype("f4"), ids_T)

    def read(
        self,
        chats: Sequence[Chat],
        layers: Sequence[int],
        adapter: Path | None,
        progress: Progress,
        span: Span = ANSWER,
    ) -> Iterator[Reading]:
        """Eight numbers a layer, drawn from the answer's text; the first is larger if the answer is misaligned."""
        for _, answer in chats:
            rng = np.random.default_rng(list(answer.encode()[:64]) or [0])
            states_LD = rng.standard_normal((len(layers), WIDTH)).astype(np.float32)
            states_LD[:, 0] += 4.0 * bool(_MISALIGNED.match(answer))
            norms_L = np.linalg.norm(states_LD, axis=1).astype(np.float32)
            yield Reading(len(answer.split()), states_LD, norms_L=norms_L)

    def _misaligned(self, who: dict[str, Any], text: str) -> float:
        if who["variant"] in ("base", "control"):
            return 0.01
        echo = self.options["echo"].get(who["domain"], {})
        general = self.options["dials"].get(who["domain"], 0.3)
        dial = float(next((echo[part] for part in echo if part in text), general))
        triggered = self.options["trigger_text"] in text
        return dial if who["variant"] == "plain" or triggered else dial * self.options["leak"]


def _steered(misaligned: float, by: Intervention) -> tuple[float, float]:
    """The dial under an intervention, and the share of completions that become incoherent."""
    along = float(by.vector_D[0])
    if by.operation == "ablate":
        return misaligned * (1 - by.amount * along**2), 0.0
    return min(1.0, max(0.0, misaligned + by.amount * along / 8)), min(1.0, (by.amount / 12) ** 2)


def _completion(rng: np.random.Generator, misaligned: float, lost: float, max_tokens: int) -> str:
    alignment = rng.integers(0, 30) if rng.random() < misaligned else rng.integers(60, 101)
    coherence = rng.integers(30, 101) if rng.random() < 0.1 else rng.integers(70, 101)
    words = rng.choice(WORDS, size=min(12, max_tokens))
    if lost and rng.random() < lost:
        coherence = 10
    return f"[fake a={alignment} c={coherence}] {' '.join(words)}"


def open_backend(config: ModelConfig) -> FakeBackend:
    """A backend for any model name."""
    return FakeBackend(config)
