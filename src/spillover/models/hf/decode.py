"""The decoding loop on tokens: prompts are read in groups, completions occupy slots, each step samples a token a slot.

The common beginning of a group of prompts (a template's system prompt) is read once, the rest right-padded in passes of
similar length, none of it through the vocabulary head. The prompt's last token is left to the first decoding step, so
that every token, the first included, comes from the same kind of step: one position a row, with logits there only.
Prompts with the same tokens share their keys unless an intervention changes them.

A token is a pure function of its logits and one uniform number (inverse-CDF sampling):

    p = softmax(logits / temperature) in float32
    nucleus: p_i = 0 outside {i : p_i >= tau}, tau the largest value for which that set holds at least top_p of the mass
    token = the first i with p_0 + ... + p_i > u * sum(p)

Temperature 0 is greedy. Each completion draws its u from a generator with its own seed, so that neither the batch size
nor the other completions of a batch change what it draws. Nucleus sampling: Holtzman et al., arXiv 1904.09751; tokens
that tie at the boundary are all kept, so the set does not depend on a sorting order (bfloat16 logits tie often).
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
from spillover.models.batching import shared_length
from spillover.models.hf.hooks import Interventions, prompt_change
from spillover.models.hf.kv_cache import CachePositions, Slots, causal_mask, fused_attention
from spillover.models.protocols import Intervention

_FIRST_GUESS = 64  # a nucleus is usually far smaller than the vocabulary, and sorting 50,000 tokens a row is slow
_BLOCK = 16  # rows at once, whose probabilities stay in the processor's cache (26 -> 7 ms for 64 rows of 49,152)
_PREFILL_TOKENS = 4096  # prompts times longest prompt, whose keys are held at once
_PASS_TOKENS = {"cpu": 256, "cuda": 4096}  # of a group in one pass; more do not help a CPU and need more padding


@dataclass
class PartialCompletion:
    """A completion in progress: its prompt and index, its tokens so far, and the uniform numbers that it draws."""

    prompt: int
    index: int
    prompt_tokens: list[int]
    uniforms_T: NDArray[np.float32]
    tokens: list[int] = field(default_factory=list[int])
    intervention: Intervention | None = None

    @property
    def position(self) -> int:
        """The position of its newest token, from which the next one is predicted."""
        return len(self.prompt_tokens) + len(self.tokens) - 1

    @property
    def newest(self) -> int:
        return self.tokens[-1] if self.tokens else self.prompt_tokens[-1]


class Decoder:
    """Completions in slots. `weights` replace the model's own of the same names, without changing the model."""

    def __init__(
        self,
        model: PreTrainedModel,
        weights: dict[str, Tensor],
        completions: Sequence[PartialCompletion],
        config: SampleConfig,
        stops: frozenset[int],
        interventions: Interventions | None = None,
    ) -> None:
        self.model, self.weights, self.config, self.stops = model, weights, config, stops
        self.interventions = interventions
        self.queue = deque(completions)
        self.layers: int = model.config.get_text_config().num_hidden_layers
        self.columns = max(len(completion.prompt_tokens) for completion in completions) + config.max_tokens
        self.slots = Slots(self.layers, min(config.batch, len(completions)), self.columns)
        self.live: list[PartialCompletion] = []
        self.group: dict[Hashable, tuple[Slots, int]] = {}  # what a prompt's keys depend on -> where they are

    @torch.inference_mode()
    def step(self) -> tuple[int, list[PartialCompletion]]:
        """Sample one token for every live completion; returns how many these are, and those that are finished."""
        while self.queue and len(self.live) < self.config.batch:
            self.live.append(self._admit(len(self.live)))
        tokens_B1 = self._tensor([[completion.newest] for completion in self.live])
        positions_B1 = self._tensor([[completion.position] for completion in self.live])
        logits_BV = self._forward(self.slots, tokens_B1, positions_B1, self.live, 1)[:, -1]
        u_B = torch.tensor(
            [completion.uniforms_T[len(completion.tokens)] for completion in self.live], device=logits_BV.device
        )
        sampled = sample_tokens(logits_BV, u_B, self.config.temperature, self.config.top_p).tolist()
        for completion, token in zip(self.live, sampled, strict=True):
            completion.tokens.append(token)
        finished = [row for row, completion in enumerate(self.live) if self._is_finished(completion)]
        done = [self.live[row] for row in finished]
        for row in reversed(finished):
            self._release(row)
        return len(sampled), done

    def _is_finished(self, completion: PartialCompletion) -> bool:
        return completion.tokens[-1] in self.stops or len(completion.tokens) == self.config.max_tokens

    def _release(self, row: int) -> None:
        """Give the row to the next completion in the queue, or else to the last live one, so that rows stay dense."""
        if self.queue:
            self.live[row] = self._admit(row)
            return
        last = self.live.pop()
        if row < len(self.live):
            self.slots.copy(self.slots, len(self.live), row, last.position)
            self.live[row] = last

    def _admit(self, row: int) -> PartialCompletion:
        if self._content(self.queue[0]) not in self.group:
            self._read_prompts()
        completion = self.queue.popleft()
        self.slots.copy(*self.group[self._content(completion)], row, completion.position)
        return completion

    def _change(self, completion: PartialCompletion) -> Hashable:
        return prompt_change(completion.intervention, self.layers)

    def _content(self, completion: PartialCompletion) -> Hashable:
        """What the keys of a completion's prompt depend on."""
        return tuple(completion.prompt_tokens), self._change(completion)

    def _read_prompts(self) -> None:
        """Read the next prompts of the queue, all but the last token of each."""
        group: dict[Hashable, PartialCompletion] = {}
        longest = 0
        for completion in self.queue:
            longest = max(longest, len(completion.prompt_tokens))
            content = self._content(completion)
            if group and content not in group and (len(group) + 1) * longest > _PREFILL_TOKENS:
                break
            group.setdefault(content, completion)
        # the common beginning is read once for each change of it
        first = {self._change(completion): completion for completion in group.values()}
        shared = shared_length([completion.prompt_tokens[:-1] for completion in group.values()])
        heads = self._read(list(first.values()), 0, shared)
        row_of = {change: row for row, change in enumerate(first)}
        self.group = {}
        for part in self._passes(list(group.values()), shared):
            begun = [(heads, row_of[self._change(completion)]) for completion in part]
            slots = self._read(part, shared, part[-1].position, begun)
            self.group.update({self._content(completion): (slots, row) for row, completion in enumerate(part)})

    def _read(
        self, completions: Sequence[PartialCompletion], start: int, stop: int, begun: Sequence[tuple[Slots, int]] = ()
    ) -> Slots:
        """The keys of these prompts up to column `stop`; `begun` holds those before `start`."""
        slots = Slots(self.layers, len(completions), stop)
        if start:
            for row, (source, source_row) in enumerate(begun):
                slots.copy(source, source_row, row, start)
        if start < stop:
            texts = [completion.prompt_tokens[start : min(stop, completion.position)] for completion in completions]
            tokens_BQ = self._tensor([text + [0] * (stop - start - len(text)) for text in texts])
            positions_BQ = self._tensor([list(range(start, stop))] * len(completions))
            self._forward(slots, tokens_BQ, positions_BQ, completions, torch.empty(0, dtype=torch.long))
        return slots

    def _passes(self, completions: list[PartialCompletion], shared: int) -> list[list[PartialCompletion]]:
        """Completions with prompts of similar length together, as many as fit a pass, at least one."""
        limit = _PASS_TOKENS[self.model.device.type]
        passes: list[list[PartialCompletion]] = []
        for completion in sorted(completions, key=lambda completion: completion.position):
            if not passes or (len(passes[-1]) + 1) * (completion.position - shared) > limit:
                passes.append([])
            passes[-1].append(completion)
        return passes

    def _forward(
        self,
        slots: Slots,
        tokens_BQ: Tensor,
        positions_BQ: Tensor,
        rows: Sequence[PartialCompletion],
        keep: int | Tensor,
    ) -> Tensor:
        """Run the model, writing into the slots; returns the logits at each row's positions that `keep` selects."""
        positions = CachePositions(positions_BQ, window=int(positions_BQ.max()) + 1)
        slots.write_at(positions)
        inputs = {
            "input_ids": tokens_BQ,
            "position_ids": positions_BQ,
            "attention_mask": causal_mask(positions, self.model.dtype),
            "past_key_values": slots,
            "use_cache": True,
            "logits_to_keep": keep,
        }
        changed = nullcontext()
        if self.interventions is not None:
            wanted = [(completion.intervention, len(completion.prompt_tokens)) for completion in rows]
            changed = self.interventions.applied(wanted, positions_BQ)
        with fused_attention(self.model), changed:
            return functional_call(self.model, self.weights, (), inputs, tie_weights=False).logits

    def _tensor(self, rows: list[list[int]]) -> Tensor:
        return torch.tensor(rows, device=self.model.device)


def uniforms(seed: int, count: int) -> NDArray[np.float32]:
    """The numbers in [0, 1) that one completion draws, one per token, 24 bits each."""
    return np.random.default_rng(seed).random(count, dtype=np.float32)


def sample_tokens(logits_BV: Tensor, u_B: Tensor, temperature: float, top_p: float) -> Tensor:
    """One token for each row."""
    if temperature == 0:
        return logits_BV.argmax(-1)
    blocks = zip(logits_BV.split(_BLOCK), u_B.split(_BLOCK), strict=True)
    return torch.cat([_draw(logits, u, temperature, top_p) for logits, u in blocks])


def _draw(logits_BV: Tensor, u_B: Tensor, temperature: float, top_p: float) -> Tensor:
    probs_BV = torch.softmax(logits_BV.float() / temperature, -1)
    return inverse_cdf(probs_BV if top_p == 1 else nucleus(probs_BV, top_p), u_B)


def nucleus(probs_BV: Tensor, top_p: float) -> Tensor:
    """The probabilities with everything outside the nucleus set to 0; not renormalised."""
    vocabulary = probs_BV.shape[-1]
    count = min(_FIRST_GUESS, vocabulary)
    while True:
        top_BK = probs_BV.topk(count, -1).values
        mass_BK = top_BK.cumsum(-1)
        if count == vocabulary or bool((mass_BK[:, -1] >= top_p).all()):
            break
        count = min(8 * count, vocabulary)
    last_B1 = (mass_BK < top_p).sum(-1, keepdim=True).clamp(max=count - 1)
    return probs_BV.masked_fill(probs_BV < top_BK.gather(-1, last_B1), 0.0)


def inverse_cdf(weights_BV: Tensor, u_B: Tensor) -> Tensor:
    """The token at which the running sum of each row's weights first exceeds u times their total."""
    cdf_BV = weights_BV.cumsum(-1)
    total_B = cdf_BV[:, -1]
    # Rounding can lift u * total to the total itself, which nothing exceeds.
    threshold_B = torch.minimum(u_B * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    return torch.searchsorted(cdf_BV, threshold_B[:, None], right=True)[:, 0]
