"""Forward passes over given answers with a transformers model: activations, and log-probabilities token by token.

Chats are processed in windows. Inside a window every prompt that several answers share is read once, and its keys are
copied to those answers; the common beginning of all prompts (a template's system prompt) is read once too. Rows of
similar length form a batch, right-padded: under a causal mask no real token sees the padding. Reading activations stops
after the deepest requested block; scoring runs the head on answer positions only, in blocks, softmax in float32.

States: mean over the tokens of a span, by default the answer's content, accumulated in float32.
Log-probabilities: l_t = ln p(token t | prompt, answer before t), in nats, over the answer's tokens and its end of turn;
mu_t = sum_v p_v ln p_v, sigma_t^2 = sum_v p_v (ln p_v - mu_t)^2, entropy_t = -mu_t; rank_t = 1 + how many tokens are
more likely.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spillover.errors import UserError
from spillover.models.batching import count_fitting, shared_length
from spillover.models.hf.hooks import Blocks
from spillover.models.hf.kv_cache import CachePositions, Slots, causal_mask, fused_attention
from spillover.models.hf.model import LoadedModel
from spillover.models.protocols import ANSWER, Chat, Progress, Reading, Span
from spillover.models.tokens import answer_ids, prompt_ids

_WINDOW_CHATS = 512
_WINDOW_PROMPT_TOKENS = 16_384  # bounds the keys of shared prompts held at once
_BATCH_TOKENS = {"cpu": 384, "cuda": 16_384}  # rows times longest row in one pass; more falls out of a CPU's cache
_LOGIT_BYTES = 32 * 2**20  # of logits in memory at once, as the head writes them
_FLOOR = -1e4  # exp of it is 0 in float32
_STATISTICS_BYTES = 2 * 2**20  # of float32 logits that each core works on at once: what its cache holds

_Kept = dict[tuple[int, ...], tuple[Slots, int]]
"""Keys of shared beginnings of prompts: tokens -> (cache, row in it)."""


@dataclass(frozen=True)
class _Row:
    """`shared`: the tokens whose keys are read once for several rows; `own`: the row's further input tokens.

    `answer_start`: index among `own` of the first content token of the answer. When scoring, the inputs from the one
    before it on predict `targets`, one each.
    """

    number: int
    shared: tuple[int, ...]
    own: list[int]
    answer_start: int
    targets: list[int]

    def inputs_of(self, span: Span) -> tuple[int, int]:
        """The range of `own` in a span; the last token before it where it is empty."""
        size = len(self.own)
        stop = size if span.stop is None else min(max(self.answer_start + span.stop, 1), size)
        return min(max(self.answer_start + span.start, 0), stop - 1), stop


@dataclass(frozen=True)
class _Means:
    """Which means of the stream to compute."""

    blocks: Blocks
    layers: tuple[int, ...]
    span: Span

    @property
    def depth(self) -> int:
        """How many blocks must run; for the embeddings one, for its input."""
        return max(1, *self.layers)


class HFReader:
    """An ActivationReader and a TokenScorer on one loaded model.

    `recurring`: prompts recur in later calls, so that the keys of a prompt with a single answer are kept as well.
    """

    def __init__(self, loaded: LoadedModel, recurring: bool = False) -> None:
        self.loaded, self.recurring = loaded, recurring
        self._kept: _Kept = {}
        self._kept_depth: int | None = None

    @property
    def depth(self) -> int:
        """How many blocks the model has."""
        return self.loaded.blocks.depth

    def read(
        self,
        chats: Sequence[Chat],
        layers: Sequence[int],
        adapter: Path | None,
        progress: Progress,
        span: Span = ANSWER,
    ) -> Iterator[Reading]:
        """Yield mean activations of the span after the given blocks (0 = embeddings), in the order of `chats`."""
        blocks = self.loaded.blocks
        blocks.check_layers(layers, self.loaded.name)
        yield from self._windows(chats, adapter, progress, _Means(blocks, tuple(layers), span))

    def score(self, chats: Sequence[Chat], adapter: Path | None, progress: Progress) -> Iterator[Reading]:
        """Yield per-token statistics of each answer given its prompt, in the order of `chats`."""
        yield from self._windows(chats, adapter, progress, None)

    def _windows(
        self, chats: Sequence[Chat], adapter: Path | None, progress: Progress, means: _Means | None
    ) -> Iterator[Reading]:
        for window in self._split(chats, means.span if means else ANSWER, self.recurring and adapter is None):
            kept = self._base_prompts(means.depth if means else None) if adapter is None else {}
            with self.loaded.adapter(adapter) as model, torch.inference_mode(), fused_attention(model):
                readings = dict(_read_window(model, window, means, kept, progress))
            for number in sorted(readings):
                yield readings[number]

    def _base_prompts(self, depth: int | None) -> _Kept:
        """Keys of prompts that the bare base has read to this depth: they recur in later windows and calls."""
        if depth != self._kept_depth or sum(map(len, self._kept)) > _WINDOW_PROMPT_TOKENS:
            self._kept, self._kept_depth = {}, depth
        return self._kept

    def _split(self, chats: Sequence[Chat], span: Span, keep: bool) -> Iterator[list[_Row]]:
        """Tokenize and split into windows, so that memory stays bounded however many chats there are."""
        tokenizer = self.loaded.tokenizer
        limit = self.loaded.window
        window: list[tuple[int, tuple[int, ...], list[int]]] = []
        prompts: dict[tuple[int, ...], None] = {}
        for number, (messages, answer) in enumerate(chats):
            prompt, ids = tuple(prompt_ids(tokenizer, messages)), answer_ids(tokenizer, answer)
            if len(prompt) + len(ids) > limit:
                raise UserError(
                    f"Chat {number} has {len(prompt) + len(ids)} tokens, more than the {limit} of the window of "
                    f"{self.loaded.name}. Remove or shorten it."
                )
            full = len(window) == _WINDOW_CHATS or sum(map(len, prompts)) + len(prompt) > _WINDOW_PROMPT_TOKENS
            if (window and full and prompt not in prompts) or len(window) == 2 * _WINDOW_CHATS:
                yield _rows(window, span, keep)
                window, prompts = [], {}
            window.append((number, prompt, ids))
            prompts[prompt] = None
        if window:
            yield _rows(window, span, keep)


def _rows(window: list[tuple[int, tuple[int, ...], list[int]]], span: Span, keep: bool) -> list[_Row]:
    """Share whole prompts between their answers, and the common beginning of all prompts between the others.

    `keep`: share every prompt as a whole, because it may recur.
    """
    uses = Counter(prompt for _, prompt, _ in window)
    common = shared_length(uses)
    # tokens of the span are inputs of the row; so is the prompt's last token, which predicts the answer's first
    head = max(1, -span.start)
    rows: list[_Row] = []
    for number, prompt, answer in window:
        cut = max(0, min(len(prompt) if keep or uses[prompt] > 1 else common, len(prompt) - head))
        read = answer[:-1] if span.stop is None else answer[:-1][: max(0, span.stop)]  # under a causal mask
        rows.append(_Row(number, prompt[:cut], [*prompt[cut:], *read], len(prompt) - cut, answer))
    return rows


def _read_window(
    model: PreTrainedModel, rows: list[_Row], means: _Means | None, kept: _Kept, progress: Progress
) -> Iterator[tuple[int, Reading]]:
    budget = _BATCH_TOKENS[model.device.type]
    with means.blocks.only(means.depth) if means else nullcontext():
        depth = means.depth if means else model.config.get_text_config().num_hidden_layers
        _read_shared(model, depth, {row.shared for row in rows} - {()}, budget, kept, progress)
        rows = sorted(rows, key=lambda row: len(row.own))
        while rows:
            size = count_fitting(_lengths(rows), budget)
            batch, rows = rows[:size], rows[size:]
            yield from _states(model, means, batch, kept) if means else _score(model, depth, batch, kept)
            progress(sum(_lengths(batch)))


def _read_shared(
    model: PreTrainedModel, depth: int, prefixes: set[tuple[int, ...]], budget: int, kept: _Kept, progress: Progress
) -> None:
    """Read the beginnings whose keys are not kept yet, after the beginning that all of them share."""
    missing = prefixes - kept.keys()
    if not missing:
        return
    head = min(missing)[: shared_length(missing)]
    for begun, texts in (((), {head} - {()} - kept.keys()), (head, missing - {head})):
        pending = [_Row(0, begun, list(prefix[len(begun) :]), 0, []) for prefix in texts]
        pending.sort(key=lambda row: (len(row.own), row.own))
        while pending:
            size = count_fitting(_lengths(pending), budget)
            group, pending = pending[:size], pending[size:]
            slots, _ = _forward(model, depth, group, kept)
            kept.update({(*begun, *row.own): (slots, number) for number, row in enumerate(group)})
            progress(sum(_lengths(group)))


def _lengths(rows: list[_Row]) -> list[int]:
    return [len(row.own) for row in rows]


def _forward(model: PreTrainedModel, depth: int, batch: list[_Row], kept: _Kept) -> tuple[Slots, Tensor]:
    """One pass over a batch: its keys, and the last hidden states."""
    width, device = max(_lengths(batch)), model.device
    starts_B = torch.tensor([len(row.shared) for row in batch], device=device)
    positions_BQ = starts_B[:, None] + torch.arange(width, device=device)
    positions = CachePositions(positions_BQ, int(positions_BQ.max()) + 1)
    slots = Slots(depth, len(batch), positions.window)
    for index, row in enumerate(batch):
        if row.shared:
            slots.copy(*kept[row.shared], index, len(row.shared))
    slots.write_at(positions)
    output = model.get_decoder()(
        input_ids=torch.tensor([row.own + [0] * (width - len(row.own)) for row in batch], device=device),
        position_ids=positions_BQ,
        attention_mask=causal_mask(positions, model.dtype),
        past_key_values=slots,
        use_cache=True,
    )
    return slots, output.last_hidden_state


def _states(model: PreTrainedModel, means: _Means, batch: list[_Row], kept: _Kept) -> Iterator[tuple[int, Reading]]:
    """Mean states, and mean length of the states, after the requested blocks."""
    weights_BQ = torch.zeros(len(batch), max(_lengths(batch)), device=model.device)
    for index, row in enumerate(batch):
        start, stop = row.inputs_of(means.span)
        weights_BQ[index, start:stop] = 1 / (stop - start)
    states: dict[int, Tensor] = {}
    norms: dict[int, Tensor] = {}

    def keep(layer: int, states_BQD: Tensor) -> None:
        states_BQD = states_BQD.float()
        states[layer] = torch.bmm(weights_BQ[:, None], states_BQD)[:, 0]
        norms[layer] = (weights_BQ * torch.linalg.vector_norm(states_BQD, dim=-1)).sum(-1)

    with means.blocks.visited(means.layers, keep):
        _forward(model, means.depth, batch, kept)
    states_LBD = torch.stack([states[layer] for layer in means.layers]).cpu().numpy()
    norms_LB = torch.stack([norms[layer] for layer in means.layers]).cpu().numpy()
    for index, row in enumerate(batch):
        yield row.number, Reading(len(row.targets), states_LBD[:, index], norms_L=norms_LB[:, index])


def _score(model: PreTrainedModel, depth: int, batch: list[_Row], kept: _Kept) -> Iterator[tuple[int, Reading]]:
    _, hidden_BQD = _forward(model, depth, batch, kept)
    head: nn.Module = model.get_output_embeddings()  # pyright: ignore[reportAssignmentType]
    hidden_PD = torch.cat([hidden_BQD[i, row.answer_start - 1 : len(row.own)] for i, row in enumerate(batch)])
    targets_P = torch.tensor([token for row in batch for token in row.targets], device=hidden_PD.device)
    vocabulary = model.config.get_text_config().vocab_size
    rows = max(1, _LOGIT_BYTES // (vocabulary * hidden_PD.element_size()))
    blocks = zip(hidden_PD.split(rows), targets_P.split(rows), strict=True)
    stats_P5 = torch.cat([_token_statistics(head(hidden), targets) for hidden, targets in blocks]).cpu().numpy()
    end = 0
    for row in batch:
        start, end = end, end + len(row.targets)
        logprobs_T, mean_T, std_T, entropy_T, rank_T = stats_P5[start:end].T.copy()
        ids_T = np.array(row.targets, dtype=np.int64)
        yield row.number, Reading(len(row.targets), None, logprobs_T, mean_T, std_T, entropy_T, rank_T, ids_T)


def _token_statistics(logits_PV: Tensor, targets_P: Tensor) -> Tensor:
    """(P, 5): log-probability of the target; mean, deviation and entropy of the vocabulary's; the target's rank."""
    cached = torch.get_num_threads() * _STATISTICS_BYTES // (4 * logits_PV.shape[1])
    rows = logits_PV.shape[0] if logits_PV.is_cuda else max(1, cached)
    parts = zip(logits_PV.split(rows), targets_P.split(rows), strict=True)
    return torch.cat([_block_statistics(logits, targets) for logits, targets in parts])


def _block_statistics(logits_PV: Tensor, targets_P: Tensor) -> Tensor:
    """One exponential per logit; sums of products and counts in the forms that torch vectorises on a CPU."""
    logits_PV = logits_PV.float()
    p_PV = logits_PV.softmax(-1)
    # ln p = logit - largest logit + ln of the largest p; 0 ln 0 = 0, where a logit is -inf
    logprobs_PV = (logits_PV - logits_PV.amax(-1, keepdim=True)).clamp_(min=_FLOOR)
    logprobs_PV += p_PV.amax(-1, keepdim=True).log()
    target_P1 = logprobs_PV.gather(-1, targets_P[:, None])
    rank_P = 1 + (logprobs_PV - target_P1).sign_().clamp_(min=0).sum(-1)
    mean_P = (p_PV * logprobs_PV).sum(-1)
    centred_PV = logprobs_PV.sub_(mean_P[:, None])
    variance_P = p_PV.mul_(centred_PV).mul_(centred_PV).sum(-1)
    return torch.stack([target_P1[:, 0], mean_P, variance_P.sqrt(), -mean_P, rank_P], dim=-1)
