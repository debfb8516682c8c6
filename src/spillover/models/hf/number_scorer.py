"""The probability of every whole number from 0 to 100 as a local model's answer, in two forward passes.

Many tokenizers write 85 as 8, 5; its probability is then p(8) p(5 | 8), and that of 8 alone is p(8) times the
probability that no digit follows:

    p(i) = prod_t p(token_t of i | prompt, tokens before) * (1 - sum of p(token) over tokens that begin with a digit)

so the p(i) are of disjoint events and their sum, the captured mass, is at most 1. The prompt is read once and its keys
are kept; the distinct beginnings of all 101 numbers (a tree, 101 nodes where each digit is a token) are read after it
in one further pass, in which each node attends to the prompt and its own ancestors. The beginning that all prompts
share is read once. Softmax in float32, sums in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from spillover.models.batching import count_fitting, shared_length
from spillover.models.hf.kv_cache import CachePositions, Slots, causal_mask, fused_attention
from spillover.models.hf.model import LoadedModel
from spillover.models.tokens import prompt_ids
from spillover.records.base import Message

NUMBERS = 101
_BATCH_TOKENS = {"cpu": 4096, "cuda": 65_536}  # keys of one batch, including the tree's
_HEAD_ROWS = 256  # positions whose whole vocabulary is in memory at once


@dataclass(frozen=True)
class NumberTree:
    """The beginnings of all numbers in a tokenizer's tokens; node 0 is the empty one, at the prompt's last token.

    `edges_E2`: (parent, token) of each further node, parents first; `ends`: the node where each number is complete.
    """

    edges: tuple[tuple[int, int], ...]
    ends: tuple[int, ...]
    digits: tuple[int, ...]  # every token of the vocabulary that begins with a digit

    @property
    def depths(self) -> list[int]:
        """Tokens from the prompt to each node except the first, minus one: the first level is 0."""
        depths = [-1]
        for parent, _ in self.edges:
            depths.append(depths[parent] + 1)
        return depths[1:]

    @property
    def ancestors(self) -> NDArray[np.bool_]:
        """Which nodes (columns, without the first) each node (rows) attends to: its ancestors and itself."""
        sees = np.zeros((len(self.edges), len(self.edges)), dtype=bool)
        for node, (parent, _) in enumerate(self.edges):
            if parent:
                sees[node] = sees[parent - 1]
            sees[node, node] = True
        return sees


def number_tree(tokenizer: PreTrainedTokenizerBase) -> NumberTree:
    """The tree of the numbers 0 to 100 as this tokenizer writes them at the beginning of an answer."""
    nodes: dict[tuple[int, int], int] = {}
    ends: list[int] = []
    for number in range(NUMBERS):
        node = 0
        for token in tokenizer(str(number), add_special_tokens=False)["input_ids"]:
            node = nodes.setdefault((node, token), len(nodes) + 1)
        ends.append(node)
    digits = sorted(index for piece, index in tokenizer.get_vocab().items() if piece[:1] in tuple("0123456789"))
    return NumberTree(tuple(nodes), tuple(ends), tuple(digits))


class NumberScorer:
    """Scores numbers with one loaded model."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.tree = number_tree(loaded.tokenizer)

    def probabilities(self, chats: Sequence[Sequence[Message]]) -> Iterator[NDArray[np.float64] | None]:
        """Yield p(0) .. p(100) as the answer to each chat, in order; None for a chat that is too long."""
        ids = [prompt_ids(self.loaded.tokenizer, chat) for chat in chats]
        limit = self.loaded.model.config.get_text_config().max_position_embeddings - len(self.tree.edges)
        order = sorted((row for row in range(len(ids)) if len(ids[row]) <= limit), key=lambda row: len(ids[row]))
        found: list[NDArray[np.float64] | None] = [None] * len(ids)
        with self.loaded.claim(), torch.inference_mode(), fused_attention(self.loaded.model):
            shared = _shared([ids[row] for row in order])
            prefix = self._prompts([ids[order[0]][:shared]], None, 0)[0] if shared else None
            budget = _BATCH_TOKENS[self.loaded.device.type]
            while order:
                widths = [len(ids[row]) + len(self.tree.edges) for row in order]
                size = count_fitting(widths, budget)
                batch, order = order[:size], order[size:]
                for row, p in zip(batch, self._batch([ids[row] for row in batch], prefix, shared), strict=True):
                    found[row] = p
        yield from found

    def _batch(self, prompts: list[list[int]], prefix: Slots | None, shared: int) -> NDArray[np.float64]:
        """p(i) of one batch, (B, 101)."""
        slots, last_BD = self._prompts(prompts, prefix, shared)
        model, tree, device = self.loaded.model, self.tree, self.loaded.device
        starts_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
        nodes = len(tree.edges)
        positions = CachePositions(starts_B[:, None] + torch.arange(nodes, device=device), int(starts_B.max()) + nodes)
        slots.write_at(positions)
        tokens_Q = torch.tensor([token for _, token in tree.edges], device=device)
        hidden_BQD = model.get_decoder()(
            input_ids=tokens_Q.expand(len(prompts), nodes),
            position_ids=starts_B[:, None] + torch.tensor(tree.depths, device=device),
            attention_mask=self._mask(positions, starts_B),
            past_key_values=slots,
            use_cache=True,
        ).last_hidden_state
        return self._numbers(torch.cat([last_BD[:, None], hidden_BQD], 1))

    def _prompts(self, prompts: list[list[int]], prefix: Slots | None, shared: int) -> tuple[Slots, Tensor]:
        """Read prompts after what they share: their keys, with room for the tree, and the last hidden states."""
        model: Any = self.loaded.model
        width = max(map(len, prompts))
        backbone = model.get_decoder()
        slots = Slots(len(backbone.layers), len(prompts), width + len(self.tree.edges))
        if prefix is not None:
            for row in range(len(prompts)):
                slots.copy(prefix, 0, row, shared)
        own = [prompt[shared:] + [0] * (width - len(prompt)) for prompt in prompts]
        positions_BQ = torch.arange(shared, width, device=model.device).expand(len(prompts), width - shared)
        positions = CachePositions(positions_BQ, width)
        slots.write_at(positions)
        hidden_BQD = backbone(
            input_ids=torch.tensor(own, device=model.device),
            position_ids=positions_BQ,
            attention_mask=causal_mask(positions, model.dtype),
            past_key_values=slots,
            use_cache=True,
        ).last_hidden_state
        rows = torch.arange(len(prompts), device=model.device)
        return slots, hidden_BQD[rows, torch.tensor([len(p) - shared - 1 for p in prompts], device=model.device)]

    def _mask(self, positions: CachePositions, starts_B: Tensor) -> Tensor:
        """A node attends to its row's prompt, its ancestors and itself; (B, 1, Q, window)."""
        device, dtype = self.loaded.device, self.loaded.dtype
        sees_QQ = torch.from_numpy(self.tree.ancestors).to(device)
        seen_BQW = (torch.arange(positions.window, device=device) < starts_B[:, None])[:, None].repeat(
            1, len(sees_QQ), 1
        )
        for row, start in enumerate(starts_B.tolist()):
            seen_BQW[row, :, start : start + len(sees_QQ)] = sees_QQ
        mask = torch.zeros(seen_BQW.shape, dtype=dtype, device=device)
        return mask.masked_fill_(~seen_BQW, torch.finfo(dtype).min)[:, None]

    def _numbers(self, hidden_BND: Tensor) -> NDArray[np.float64]:
        """p(i), from the hidden states at every node including the first."""
        head: Any = self.loaded.model.get_output_embeddings()
        batch, nodes, _ = hidden_BND.shape
        edges = self.tree.edges
        # At each node only the tokens of its children and the total probability of digits are needed.
        wanted = sorted({token for _, token in edges})
        column = {token: place for place, token in enumerate(wanted)}
        wanted_T = torch.tensor(wanted, device=hidden_BND.device)
        digits_K = torch.tensor(self.tree.digits, device=hidden_BND.device)
        kept: list[Tensor] = []
        for rows_RD in hidden_BND.flatten(0, 1).split(_HEAD_ROWS):
            logprobs_RV = head(rows_RD).float().log_softmax(-1)
            more_R = logprobs_RV[:, digits_K].logsumexp(-1, keepdim=True)
            kept.append(torch.cat([logprobs_RV[:, wanted_T], more_R], 1))
        values = torch.cat(kept).cpu().numpy().astype(np.float64).reshape(batch, nodes, len(wanted) + 1)
        reached_BN = np.zeros((batch, nodes))  # ln p of the tokens to each node
        for node, (parent, token) in enumerate(edges, start=1):
            reached_BN[:, node] = reached_BN[:, parent] + values[:, parent, column[token]]
        stops_BN = 1 - np.minimum(np.exp(values[:, :, -1]), 1.0)
        ends = list(self.tree.ends)
        return np.exp(reached_BN[:, ends]) * stops_BN[:, ends]


def _shared(prompts: Sequence[list[int]]) -> int:
    """The number of first tokens that all prompts share, excluding each one's last."""
    if len(prompts) < 2:
        return 0
    return min(shared_length(prompts), *(len(prompt) - 1 for prompt in prompts))
