"""Reading given answers with a transformers model: activations, and log-probabilities token by token.

Chats are taken in windows. Inside a window every prompt that several answers share is read once, and its keys are
copied to those answers; what all other prompts begin with (a template's system prompt) is read once too. Rows of
similar length form a batch, right-padded: under a causal mask no real token sees the padding. Reading activations
stops after the deepest asked block; scoring runs the head on answer positions only, in blocks, softmax in float32.

States: mean over the answer's content tokens, accumulated in float32; of the turn's header where the answer is empty.
Log-probabilities: l_t = ln p(token t | prompt, answer before t), in nats, over the answer's tokens and its end of turn;
mu_t = sum_v p_v ln p_v, sigma_t^2 = sum_v p_v (ln p_v - mu_t)^2, entropy_t = -mu_t; rank_t = 1 + how many tokens are
more likely.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from spillover.backends.base import Chat, Progress, Reading
from spillover.backends.chat import answer_ids, prompt_ids
from spillover.backends.hf_attention import fused_attention
from spillover.backends.hf_cache import Place, Slots, causal_mask
from spillover.backends.hf_model import LoadedModel
from spillover.errors import UserError

_WINDOW_CHATS = 512
_WINDOW_PROMPT_TOKENS = 16_384  # bounds the keys of shared prompts held at once
_BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}  # rows times longest row in one pass
_LOGIT_BYTES = 32 * 2**20  # of logits in memory at once, as the head writes them
_FLOOR = -1e4  # exp of it is 0 in float32
_STATISTICS_BYTES = 2 * 2**20  # of float32 logits that each core works on at once: what its cache holds

_Kept = dict[tuple[int, ...], tuple[Slots, int]]
"""Keys of shared beginnings of prompts: tokens -> (cache, row there)."""


@dataclass(frozen=True)
class _Row:
    """`shared`: the tokens whose keys are read once for several rows; `own`: the row's further input tokens.

    The last `targets` inputs predict `targets`, one each: the input before the answer, then the answer's content.
    """

    number: int
    shared: tuple[int, ...]
    own: list[int]
    targets: list[int]

    @property
    def answer_start(self) -> int:
        """Index among `own` of the first content token of the answer."""
        return len(self.own) - len(self.targets) + 1


class HFReader:
    """Reads with one loaded model: an ActivationReader and a TokenScorer."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._kept: _Kept = {}
        self._kept_depth: int | None = None

    def read(
        self, chats: Sequence[Chat], layers: Sequence[int], adapter: Path | None, progress: Progress
    ) -> Iterator[Reading]:
        """Yield mean answer-token activations after the given blocks (0 = embeddings), in the order of `chats`."""
        depth = self.loaded.model.config.get_text_config().num_hidden_layers
        for layer in layers:
            if not 0 <= layer <= depth:
                raise UserError(f"{self.loaded.name} has no layer {layer}. Ask for layers from 0 to {depth}.")
        yield from self._windows(chats, adapter, progress, tuple(layers))

    def score(self, chats: Sequence[Chat], adapter: Path | None, progress: Progress) -> Iterator[Reading]:
        """Yield per-token statistics of each answer given its prompt, in the order of `chats`."""
        yield from self._windows(chats, adapter, progress, None)

    def _windows(
        self, chats: Sequence[Chat], adapter: Path | None, progress: Progress, layers: tuple[int, ...] | None
    ) -> Iterator[Reading]:
        for window in self._split(chats):
            kept = self._base_prompts(layers) if adapter is None else {}
            with self.loaded.adapter(adapter) as model, torch.inference_mode(), fused_attention(model):
                readings = dict(_read_window(model, window, layers, kept, progress))
            for number in sorted(readings):
                yield readings[number]

    def _base_prompts(self, layers: tuple[int, ...] | None) -> _Kept:
        """What the bare base has read to this depth: its prompts come back window after window, call after call."""
        depth = None if layers is None else max(layers, default=0)
        if depth != self._kept_depth or sum(map(len, self._kept)) > _WINDOW_PROMPT_TOKENS:
            self._kept, self._kept_depth = {}, depth
        return self._kept

    def _split(self, chats: Sequence[Chat]) -> Iterator[list[_Row]]:
        """Tokenize and cut into windows; memory stays bounded however many chats there are."""
        tokenizer = self.loaded.tokenizer
        limit = self.loaded.model.config.get_text_config().max_position_embeddings
        window: list[tuple[int, tuple[int, ...], list[int]]] = []
        prompts: dict[tuple[int, ...], None] = {}
        for number, (messages, answer) in enumerate(chats):
            prompt, ids = tuple(prompt_ids(tokenizer, messages)), answer_ids(tokenizer, answer)
            if len(prompt) + len(ids) > limit:
                raise UserError(
                    f"Chat {number} has {len(prompt) + len(ids)} tokens, more than the {limit} that {self.loaded.name} "
                    "can read. Leave it out or shorten it."
                )
            full = len(window) == _WINDOW_CHATS or sum(map(len, prompts)) + len(prompt) > _WINDOW_PROMPT_TOKENS
            if (window and full and prompt not in prompts) or len(window) == 2 * _WINDOW_CHATS:
                yield _rows(window)
                window, prompts = [], {}
            window.append((number, prompt, ids))
            prompts[prompt] = None
        if window:
            yield _rows(window)


def _rows(window: list[tuple[int, tuple[int, ...], list[int]]]) -> list[_Row]:
    """Share whole prompts between their answers, and the common beginning of all prompts between the others."""
    uses = Counter(prompt for _, prompt, _ in window)
    # the first and the last in order differ earliest; the last token of a prompt is never shared, see below
    first, last = min(uses), max(uses)
    common = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    common = min(common, len(first) - 1, len(last) - 1)
    rows: list[_Row] = []
    for number, prompt, answer in window:
        # the prompt's last token is an input of the row, because it predicts the answer's first
        cut = len(prompt) - 1 if uses[prompt] > 1 else common
        rows.append(_Row(number, prompt[:cut], [*prompt[cut:], *answer[:-1]], answer))
    return rows


def _read_window(
    model: PreTrainedModel, rows: list[_Row], layers: tuple[int, ...] | None, kept: _Kept, progress: Progress
) -> Iterator[tuple[int, Reading]]:
    backbone = model.get_decoder()
    budget = _BATCH_TOKENS[model.device.type]
    with _only(backbone, None if layers is None else max(layers, default=0)):
        _read_shared(model, backbone, {row.shared for row in rows} - kept.keys() - {()}, budget, kept, progress)
        rows = sorted(rows, key=lambda row: len(row.own))
        while rows:
            size = max(1, next((n for n in range(len(rows), 0, -1) if n * len(rows[n - 1].own) <= budget), 1))
            batch, rows = rows[:size], rows[size:]
            hidden_BQD, states_LBD = _forward(model, backbone, batch, kept, layers or ())
            progress(sum(len(row.own) for row in batch))
            if layers is None:
                yield from _score(model, batch, hidden_BQD)
            else:
                for index, row in enumerate(batch):
                    yield row.number, Reading(len(row.targets), states_LBD[:, index])


def _read_shared(
    model: PreTrainedModel,
    backbone: Any,
    prefixes: set[tuple[int, ...]],
    budget: int,
    kept: _Kept,
    progress: Progress,
) -> None:
    """Read every shared beginning and keep its keys."""
    pending = sorted(prefixes, key=lambda prefix: (len(prefix), prefix))
    while pending:
        size = max(1, next((n for n in range(len(pending), 0, -1) if n * len(pending[n - 1]) <= budget), 1))
        group, pending = pending[:size], pending[size:]
        width = len(group[-1])
        slots = Slots(len(backbone.layers), len(group), width)
        tokens_BQ = _padded([list(prefix) for prefix in group], width, model.device)
        _run(model, backbone, slots, tokens_BQ, torch.arange(width, device=model.device).expand(len(group), width))
        kept.update({prefix: (slots, row) for row, prefix in enumerate(group)})
        progress(sum(map(len, group)))


def _forward(
    model: PreTrainedModel,
    backbone: Any,
    batch: list[_Row],
    kept: _Kept,
    layers: tuple[int, ...],
) -> tuple[Tensor, NDArray[np.float32]]:
    """One pass over a batch: the last hidden states, and the mean states after the asked blocks."""
    width = max(len(row.own) for row in batch)
    starts_B = torch.tensor([len(row.shared) for row in batch], device=model.device)
    positions_BQ = starts_B[:, None] + torch.arange(width, device=model.device)
    slots = Slots(len(backbone.layers), len(batch), int(positions_BQ.max()) + 1)
    for index, row in enumerate(batch):
        if row.shared:
            slots.copy(*kept[row.shared], index, len(row.shared))
    weights_BQ = torch.zeros(positions_BQ.shape, device=model.device)
    for index, row in enumerate(batch):
        start = min(row.answer_start, len(row.own) - 1)
        weights_BQ[index, start : len(row.own)] = 1 / (len(row.own) - start)
    means: dict[int, Tensor] = {}
    with _means(backbone, layers, weights_BQ, means):
        hidden_BQD = _run(
            model, backbone, slots, _padded([row.own for row in batch], width, model.device), positions_BQ
        )
    states = [means[layer].cpu().numpy() for layer in layers]
    return hidden_BQD, np.stack(states) if states else np.zeros((0, len(batch), 0), np.float32)


def _run(model: PreTrainedModel, backbone: Any, slots: Slots, tokens_BQ: Tensor, positions_BQ: Tensor) -> Tensor:
    place = Place(positions_BQ, int(positions_BQ.max()) + 1)
    slots.write_at(place)
    return backbone(
        input_ids=tokens_BQ,
        position_ids=positions_BQ,
        attention_mask=causal_mask(place, model.dtype),
        past_key_values=slots,
        use_cache=True,
    ).last_hidden_state


def _score(model: PreTrainedModel, batch: list[_Row], hidden_BQD: Tensor) -> Iterator[tuple[int, Reading]]:
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
    """One exponential a logit; sums of products and counts in the forms that torch vectorises on a CPU."""
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


def _padded(rows: list[list[int]], width: int, device: torch.device) -> Tensor:
    return torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)


@contextmanager
def _only(backbone: Any, depth: int | None) -> Generator[None]:
    """Run just the first `depth` blocks inside the context; None is all of them, 0 still runs one, for its input."""
    layers: nn.ModuleList = backbone.layers
    backbone.layers = layers if depth is None else layers[: max(depth, 1)]
    try:
        yield
    finally:
        backbone.layers = layers


@contextmanager
def _means(backbone: Any, layers: tuple[int, ...], weights_BQ: Tensor, into: dict[int, Tensor]) -> Generator[None]:
    """Collect the weighted mean (B, D) of the residual stream after each asked block."""

    def keep(layer: int, states_BQD: Tensor) -> None:
        into[layer] = torch.bmm(weights_BQ[:, None], states_BQD.float())[:, 0]

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(0, args[0] if args else kwargs["hidden_states"])

    def after(layer: int) -> Any:
        return lambda _, args, output: keep(layer, output if isinstance(output, Tensor) else output[0])

    handles = [
        backbone.layers[layer - 1].register_forward_hook(after(layer))
        if layer
        else backbone.layers[0].register_forward_pre_hook(before, with_kwargs=True)
        for layer in dict.fromkeys(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
