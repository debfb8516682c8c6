"""The decoding loop on tokens: prompts are read in groups, answers take slots, every step samples one token a slot.

Prompts are read in groups: what all of a group begin with (a template's system prompt) once, the rest right-padded in
passes of like length, none of it through the vocabulary head. The prompt's last token is left to the first decoding
step, so that every token, the first included, comes from the same kind of step: one position a row, logits there only.
Prompts of the same tokens share their keys unless an intervention changes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from spillover.config.study import SampleConfig
from spillover.models.hf.attention import fused_attention
from spillover.models.hf.interventions import Interventions, prompt_change
from spillover.models.hf.kv_cache import Place, Slots, causal_mask
from spillover.models.hf.rows import shared_length
from spillover.models.hf.sampling import choose
from spillover.models.protocols import Intervention

_PREFILL_TOKENS = 4096  # prompts times longest prompt, whose keys are held at once
_PASS_TOKENS = {"cpu": 256, "cuda": 4096}  # of a group in one pass; more gain a CPU nothing and pad further


@dataclass
class Answer:
    """One answer on its way: whose it is, its tokens so far, and the uniform numbers that it draws."""

    prompt: int
    index: int
    prompt_tokens: list[int]
    uniforms_T: NDArray[np.float32]
    tokens: list[int] = field(default_factory=list[int])
    intervention: Intervention | None = None

    @property
    def position(self) -> int:
        """Where its newest token stands, from which the next one is predicted."""
        return len(self.prompt_tokens) + len(self.tokens) - 1

    @property
    def newest(self) -> int:
        return self.tokens[-1] if self.tokens else self.prompt_tokens[-1]


class Decoder:
    """Answers in slots. `weights` stand in for the model's own of the same names, and leave the model as it is."""

    def __init__(
        self,
        model: PreTrainedModel,
        weights: dict[str, Tensor],
        answers: Sequence[Answer],
        config: SampleConfig,
        stops: frozenset[int],
        interventions: Interventions | None = None,
    ) -> None:
        self.model, self.weights, self.config, self.stops = model, weights, config, stops
        self.interventions = interventions
        self.queue = deque(answers)
        self.layers: int = model.config.get_text_config().num_hidden_layers
        self.columns = max(len(answer.prompt_tokens) for answer in answers) + config.max_tokens
        self.slots = Slots(self.layers, min(config.batch, len(answers)), self.columns)
        self.live: list[Answer] = []
        self.group: dict[Hashable, tuple[Slots, int]] = {}  # what a prompt's keys depend on -> where they are

    @torch.inference_mode()
    def step(self) -> tuple[int, list[Answer]]:
        """Sample one token for every live answer: how many those were, and which of them it finished."""
        while self.queue and len(self.live) < self.config.batch:
            self.live.append(self._admit(len(self.live)))
        tokens_B1 = self._tensor([[answer.newest] for answer in self.live])
        positions_B1 = self._tensor([[answer.position] for answer in self.live])
        logits_BV = self._forward(self.slots, tokens_B1, positions_B1, self.live, 1)[:, -1]
        u_B = torch.tensor([answer.uniforms_T[len(answer.tokens)] for answer in self.live], device=logits_BV.device)
        chosen = choose(logits_BV, u_B, self.config.temperature, self.config.top_p).tolist()
        for answer, token in zip(self.live, chosen, strict=True):
            answer.tokens.append(token)
        finished = [row for row, answer in enumerate(self.live) if self._is_finished(answer)]
        done = [self.live[row] for row in finished]
        for row in reversed(finished):
            self._release(row)
        return len(chosen), done

    def _is_finished(self, answer: Answer) -> bool:
        return answer.tokens[-1] in self.stops or len(answer.tokens) == self.config.max_tokens

    def _release(self, row: int) -> None:
        """Give the row to the next answer in the queue, or else to the last live one, so that rows stay dense."""
        if self.queue:
            self.live[row] = self._admit(row)
            return
        last = self.live.pop()
        if row < len(self.live):
            self.slots.copy(self.slots, len(self.live), row, last.position)
            self.live[row] = last

    def _admit(self, row: int) -> Answer:
        if self._content(self.queue[0]) not in self.group:
            self._read_prompts()
        answer = self.queue.popleft()
        self.slots.copy(*self.group[self._content(answer)], row, answer.position)
        return answer

    def _change(self, answer: Answer) -> Hashable:
        return prompt_change(answer.intervention, self.layers)

    def _content(self, answer: Answer) -> Hashable:
        """What the keys of an answer's prompt depend on."""
        return tuple(answer.prompt_tokens), self._change(answer)

    def _read_prompts(self) -> None:
        """Read the queue's next prompts, all but the last token of each."""
        group: dict[Hashable, Answer] = {}
        longest = 0
        for answer in self.queue:
            longest = max(longest, len(answer.prompt_tokens))
            content = self._content(answer)
            if group and content not in group and (len(group) + 1) * longest > _PREFILL_TOKENS:
                break
            group.setdefault(content, answer)
        # what all begin with is read once for each change of it
        first = {self._change(answer): answer for answer in group.values()}
        shared = shared_length([answer.prompt_tokens[:-1] for answer in group.values()])
        heads = self._read(list(first.values()), 0, shared)
        row_of = {change: row for row, change in enumerate(first)}
        self.group = {}
        for part in self._passes(list(group.values()), shared):
            begun = [(heads, row_of[self._change(answer)]) for answer in part]
            slots = self._read(part, shared, part[-1].position, begun)
            self.group.update({self._content(answer): (slots, row) for row, answer in enumerate(part)})

    def _read(self, answers: Sequence[Answer], start: int, stop: int, begun: Sequence[tuple[Slots, int]] = ()) -> Slots:
        """The keys of these prompts up to column `stop`; `begun` holds those before `start`."""
        slots = Slots(self.layers, len(answers), stop)
        if start:
            for row, (source, source_row) in enumerate(begun):
                slots.copy(source, source_row, row, start)
        if start < stop:
            texts = [answer.prompt_tokens[start : min(stop, answer.position)] for answer in answers]
            tokens_BQ = self._tensor([text + [0] * (stop - start - len(text)) for text in texts])
            positions_BQ = self._tensor([list(range(start, stop))] * len(answers))
            self._forward(slots, tokens_BQ, positions_BQ, answers, torch.empty(0, dtype=torch.long))
        return slots

    def _passes(self, answers: list[Answer], shared: int) -> list[list[Answer]]:
        """Answers of like prompt length together, as many as a pass holds, at least one."""
        limit = _PASS_TOKENS[self.model.device.type]
        passes: list[list[Answer]] = []
        for answer in sorted(answers, key=lambda answer: answer.position):
            if not passes or (len(passes[-1]) + 1) * (answer.position - shared) > limit:
                passes.append([])
            passes[-1].append(answer)
        return passes

    def _forward(
        self, slots: Slots, tokens_BQ: Tensor, positions_BQ: Tensor, rows: Sequence[Answer], keep: int | Tensor
    ) -> Tensor:
        """Run the model, writing into the slots; the logits at each row's places that `keep` names."""
        place = Place(positions_BQ, window=int(positions_BQ.max()) + 1)
        slots.write_at(place)
        inputs = {
            "input_ids": tokens_BQ,
            "position_ids": positions_BQ,
            "attention_mask": causal_mask(place, self.model.dtype),
            "past_key_values": slots,
            "use_cache": True,
            "logits_to_keep": keep,
        }
        changed = nullcontext()
        if self.interventions is not None:
            wanted = [(answer.intervention, len(answer.prompt_tokens)) for answer in rows]
            changed = self.interventions.applied(wanted, positions_BQ)
        with fused_attention(self.model), changed:
            return functional_call(self.model, self.weights, (), inputs, tie_weights=False).logits

    def _tensor(self, rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=self.model.device)
