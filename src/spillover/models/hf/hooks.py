"""The residual stream of a decoder, read and changed by plain torch hooks on its blocks.

    x_0 = what enters the first block (the embeddings), x_l = x_(l-1) + what block l adds, output = norm(x_depth)

The blocks are found by structure: the one list of modules in the decoder whose length is the model's depth. The
equations are checked on a few tokens when the blocks are found: every block runs once, in order; x_0 plus all that the
blocks add is x_depth; the last module of the decoder takes x_depth and returns the decoder's output.

In a decoding batch each row has its own intervention or none. Every operation is one rank-one change of the stream x
along the row's unit vector u, at the row's layers and positions:

    x' = x + (a + b x.u) u      add: a = amount, b = 0    ablate: a = 0, b = -amount    clamp: a = amount, b = -1

A row without an intervention has a = b = 0, which leaves x unchanged to the last bit. The sum is computed in float32
and rounded to the model's precision once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spillover.errors import UserError
from spillover.models.protocols import Intervention

Visit = Callable[[int, Tensor], "Tensor | None"]
"""Called with a layer and x_BQD after it; what it returns, if anything, replaces the stream."""

Row = tuple[Intervention | None, int]
"""A row's intervention and the length of its prompt."""
_END = 2**62  # beyond every position


@dataclass(frozen=True)
class Blocks:
    """`blocks` is the list that `decoder` has under `name`; `width` is that of the stream."""

    decoder: nn.Module
    name: str
    blocks: nn.ModuleList
    width: int

    @property
    def depth(self) -> int:
        return len(self.blocks)

    def check_layers(self, layers: Iterable[int], model: str) -> None:
        """Reject a layer that the model does not have."""
        for layer in layers:
            if not 0 <= layer <= self.depth:
                raise UserError(f"{model} has no layer {layer}. Choose layers from 0 to {self.depth}.")

    @contextmanager
    def only(self, depth: int) -> Generator[None]:
        """Run only the first `depth` blocks in the context; 0 still runs one, for its input."""
        setattr(self.decoder, self.name, self.blocks[: max(depth, 1)])
        try:
            yield
        finally:
            setattr(self.decoder, self.name, self.blocks)

    @contextmanager
    def visited(self, layers: Iterable[int], visit: Visit) -> Generator[None]:
        """Call `visit` with the stream after each of these blocks (0 = before the first) in every forward pass."""

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            changed = visit(0, _entering(args, kwargs))
            if changed is None:
                return None
            return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

        def after(layer: int) -> Callable[[nn.Module, Any, Any], Any]:
            def hook(_: nn.Module, args: Any, output: Any) -> Any:
                changed = visit(layer, _leaving(output))
                return changed if changed is None or isinstance(output, Tensor) else (changed, *output[1:])

            return hook

        with ExitStack() as handles:
            for layer in dict.fromkeys(layers):
                handles.enter_context(
                    self.blocks[layer - 1].register_forward_hook(after(layer))
                    if layer
                    else self.blocks[0].register_forward_pre_hook(before, with_kwargs=True)
                )
            yield


def _entering(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def _leaving(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def find_blocks(model: PreTrainedModel) -> Blocks:
    """The decoder's blocks, checked.

    Raises:
        UserError: for a model that is not such a decoder.
    """
    config = model.config.get_text_config()
    decoder: nn.Module = model.get_decoder()
    lists = [
        (name, child)
        for name, child in decoder.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers
    ]
    if len(lists) != 1:
        raise _misfit(model, f"{len(lists)} lists of {config.num_hidden_layers} blocks in {type(decoder).__name__}")
    blocks = Blocks(decoder, *lists[0], config.hidden_size)
    _check_stream(model, blocks)
    return blocks


@torch.inference_mode()
def _check_stream(model: PreTrainedModel, blocks: Blocks) -> None:
    ran: list[tuple[nn.Module, Any, Any]] = []  # module, its input, its output

    def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        ran.append((module, args[0] if args else kwargs.get("hidden_states"), output))

    watched = [*blocks.blocks, *(child for child in blocks.decoder.children() if child is not blocks.blocks)]
    tokens_BQ = torch.arange(1, 5, device=model.device)[None] % model.config.get_text_config().vocab_size
    with ExitStack() as handles:
        for module in watched:
            handles.enter_context(module.register_forward_hook(record, with_kwargs=True))
        output_BQD = blocks.decoder(input_ids=tokens_BQ, use_cache=False).last_hidden_state
    own = set(blocks.blocks)
    steps = [(taken, _leaving(given)) for module, taken, given in ran if module in own]
    if [module for module, *_ in ran if module in own] != list(blocks.blocks):
        raise _misfit(model, "its blocks do not run once each, in order")
    shape = (*tokens_BQ.shape, blocks.width)
    if any(state.shape != shape for pair in steps for state in pair):
        raise _misfit(model, f"its blocks do not pass on a stream of shape {shape}")
    final_BQD = steps[-1][1]
    sum_BQD = steps[0][0].double() + sum(after.double() - before.double() for before, after in steps)
    if not torch.allclose(sum_BQD, final_BQD.double(), rtol=1e-9, atol=1e-9):
        raise _misfit(model, "the embeddings and what its blocks add do not sum to the last block's output")
    _, taken, given = ran[-1]
    if taken is None or not torch.equal(taken, final_BQD) or not torch.equal(given, output_BQD):
        raise _misfit(model, "its output is not a final norm of the last block's output")


def _misfit(model: PreTrainedModel, reason: str) -> UserError:
    return UserError(
        f"The residual stream of a {type(model).__name__} cannot be reached: {reason}. "
        "Use a decoder whose blocks add to one stream, such as Llama, Qwen, Gemma, Mistral, GPT-2 or GPT-NeoX."
    )


def prompt_change(intervention: Intervention | None, depth: int) -> Hashable:
    """What an intervention does to the keys of a prompt: equal values give equal keys, None leaves them unchanged."""
    if intervention is None or intervention.at == "answer" or min(intervention.layers) >= depth:
        return None
    return intervention.vector_D.tobytes(), intervention.layers, intervention.operation, intervention.amount


class Interventions:
    """The interventions of a set of completions, as tables on the model's device; entry 0 of K is none."""

    def __init__(self, blocks: Blocks, wanted: Sequence[Intervention | None], model: str, device: torch.device) -> None:
        self.blocks = blocks
        self._distinct = {id(one): one for one in wanted if one is not None}
        self._entry = {key: entry for entry, key in enumerate(self._distinct, start=1)}
        vectors_KD = np.zeros((len(self._distinct) + 1, blocks.width), np.float32)
        terms_2LK = np.zeros((2, blocks.depth + 1, len(self._distinct) + 1), np.float32)
        for entry, one in enumerate(self._distinct.values(), start=1):
            _check_fit(one, blocks, model)
            vectors_KD[entry] = one.vector_D
            terms_2LK[:, list(one.layers), entry] = np.array(_terms(one))[:, None]
        self._vectors_KD = torch.from_numpy(vectors_KD).to(device)
        self._terms_2LK = torch.from_numpy(terms_2LK).to(device)

    @contextmanager
    def applied(self, rows: Sequence[Row], positions_BQ: Tensor) -> Generator[None]:
        """Change the stream of these rows at these positions inside the block; no hook without an intervention."""
        layers = sorted({layer for one, _ in rows if one is not None for layer in one.layers})
        if not layers:
            yield
            return
        entry_B = torch.tensor([0 if one is None else self._entry[id(one)] for one, _ in rows]).to(positions_BQ.device)
        bounds_2B1 = torch.tensor([_bounds(*row) for row in rows]).to(positions_BQ.device).T[..., None]
        inside_BQ = (bounds_2B1[0] <= positions_BQ) & (positions_BQ < bounds_2B1[1])
        vectors_BD, terms_2LB = self._vectors_KD[entry_B], self._terms_2LK[..., entry_B]

        def change(layer: int, states_BQD: Tensor) -> Tensor:
            exact = torch.promote_types(states_BQD.dtype, torch.float32)
            x_BQD, u_BD = states_BQD.to(exact), vectors_BD.to(exact)
            a_B1, b_B1 = terms_2LB[:, layer, :, None].to(exact)
            step_BQ = (a_B1 + b_B1 * torch.einsum("bqd,bd->bq", x_BQD, u_BD)) * inside_BQ
            return (x_BQD + step_BQ[..., None] * u_BD[:, None]).to(states_BQD.dtype)

        with self.blocks.visited(layers, change):
            yield


def _terms(one: Intervention) -> tuple[float, float]:
    """The constants a and b."""
    if one.operation == "add":
        return one.amount, 0.0
    return (0.0, -one.amount) if one.operation == "ablate" else (one.amount, -1.0)


def _bounds(one: Intervention | None, prompt_tokens: int) -> tuple[int, int]:
    """The half-open range of positions that are changed."""
    if one is None:
        return 0, 0
    return (prompt_tokens if one.at == "answer" else 0), (prompt_tokens if one.at == "prompt" else _END)


def _check_fit(one: Intervention, blocks: Blocks, model: str) -> None:
    if one.vector_D.shape != (blocks.width,):
        raise UserError(
            f"A direction of shape {one.vector_D.shape} does not fit {model}, whose stream has {blocks.width} numbers. "
            "Steer the model that the direction was computed from."
        )
    if not one.layers:
        raise UserError("An intervention has no layers. Give at least one.")
    blocks.check_layers(one.layers, model)
