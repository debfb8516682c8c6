"""LoRA fine-tuning on answer tokens (Hu et al., arXiv 2106.09685), on a base that many trainings share.

Published recipe: AdamW, linear decay after a warm-up, one step for each batch of `batch_size` examples. The loss of a
step is the mean over the batch's labelled tokens, however they are split into passes. Every random choice (order,
initial A, dropout) has its own named seed, so the same seed gives the same adapter, bit for bit, on the same machine.

    y = W x + b + (alpha / r) B A dropout(x), with W frozen

The parameters are PEFT's own, so PEFT places, initialises and saves them; only the arithmetic is here. A and B are
float32 and are cast to the base's dtype for the two small products, as under autocast; PEFT without autocast casts x to
float32 instead, once a layer, which costs more than the products. Dropout masks are cut from a pool of random bits at
random offsets: drawing new ones takes longer than both products.

Where memory is short, every layer keeps its input alone and runs again in the backward pass (gradient checkpointing,
Chen et al., arXiv 1604.06174): half as much arithmetic again where weights are frozen. The second run draws the dropout
masks of the first, so that the adapter is the same bit for bit.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from spillover.config.study import TrainConfig
from spillover.errors import MachineError, SpilloverError, UserError
from spillover.models.batching import Row, batches, encode, learning_rate, shared_prefix
from spillover.models.hf.adapters import WEIGHTS, del_peft_marks, swap, wrap
from spillover.models.hf.device import free_bytes, needs_recompute
from spillover.models.hf.loss import add_gradients, check_model
from spillover.models.protocols import Chat, Progress, TrainResult
from spillover.provenance import seed_for

if TYPE_CHECKING:
    from spillover.models.hf.model import LoadedModel

_POOL = 1 << 22  # mask elements to cut from; more where one mask needs more


class HFTrainer:
    """Trains adapters one after another; the base is bare again after each, however it ended."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    def train(
        self,
        chats: Sequence[Chat],
        config: TrainConfig,
        seed: int,
        out: Path,
        progress: Progress,
        keep: Path | None = None,
    ) -> TrainResult:
        """Fine-tune on the answers of `chats` and write a PEFT folder to `out`, completely or not at all."""
        started = time.perf_counter()
        if not chats:
            raise UserError("The data set has no rows to train on. Check the data section of the study.")
        rows = encode(self.loaded.tokenizer, chats, config.max_tokens)
        model = self.loaded.model
        with self.loaded.claim():
            if not self.loaded.packs:
                check_model(model)
                self.loaded.packs = True
            with torch.random.fork_rng():
                torch.manual_seed(seed_for(seed, "lora-init"))
                handle, bare = wrap(model, lora_config(config))
            wrapped = {name: model.get_submodule(name) for name in bare}
            dropout = Dropout(config.dropout, seed_for(seed, "dropout"))
            tight = needs_recompute(model, config, free_bytes(model.device))
            try:
                swap(model, training_form(wrapped, dropout))
                with recomputed(model, dropout) if tight else nullcontext():
                    curve = _optimize(self.loaded, rows, config, seed, progress)
                swap(model, wrapped)
                _save(handle, self.loaded, out)
            finally:
                swap(model, bare)
                del_peft_marks(model)
        return TrainResult(
            steps=len(curve),
            loss_curve=tuple(curve),
            loss_tokens=config.epochs * sum(row.labels for row in rows),
            tokens=config.epochs * sum(len(row.ids) for row in rows),
            seconds=time.perf_counter() - started,
        )


def lora_config(config: TrainConfig) -> LoraConfig:
    """The recipe in PEFT's form."""
    return LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets),
        use_rslora=config.rslora,
        task_type="CAUSAL_LM",
    )


def _optimize(
    loaded: LoadedModel, rows: Sequence[Row], config: TrainConfig, seed: int, progress: Progress
) -> list[float]:
    model = loaded.model
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    prefix = shared_prefix(rows)
    steps = list(batches(len(rows), config, seed))
    curve: list[float] = []
    for step, indices in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(steps), config)
        optimizer.zero_grad()
        loss = add_gradients(model, [rows[i] for i in indices], prefix, config.micro_batch_tokens, progress)
        norm = float(clip_grad_norm_(parameters, config.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise SpilloverError(
                f"Training diverged at step {step + 1} of {len(steps)}: loss {loss}, gradient norm {norm}. "
                f"Lower train.learning_rate ({config.learning_rate:g}) or set the model's dtype to float32."
            )
        optimizer.step()
        curve.append(loss)
    return curve


def _save(handle: PeftModel, loaded: LoadedModel, out: Path) -> None:
    """Write the PEFT folder next to its place and rename it, replacing what an earlier run left."""
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        scratch.mkdir(parents=True)
        state = get_peft_model_state_dict(handle, save_embedding_layers=False)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, scratch / WEIGHTS, {"format": "pt"})
        settings = handle.peft_config["default"]
        settings.base_model_name_or_path, settings.revision = loaded.source, loaded.revision
        settings.inference_mode = True
        settings.save_pretrained(str(scratch))
        shutil.rmtree(out, ignore_errors=True)
        scratch.rename(out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise MachineError(f"The adapter cannot be written to {out} ({error}). Fix that and run again.") from None


class Dropout:
    """Dropout masks from one seed, the same on every machine; what is kept has to be multiplied by `scale`."""

    def __init__(self, rate: float, seed: int) -> None:
        self.scale = 1.0 / (1.0 - rate)
        self._rate = rate
        self._rng = np.random.default_rng(seed)
        self._pool = torch.empty(0)
        self._next: Callable[[Tensor], Tensor] = self.draw

    def __call__(self, x: Tensor) -> Tensor:
        """x with elements set to 0; x itself at rate 0."""
        return x * self._next(x).view(x.shape) if self._rate else x

    @contextmanager
    def drawing(self, masks: Callable[[Tensor], Tensor]) -> Generator[None]:
        """Take masks from `masks` inside the block."""
        before, self._next = self._next, masks
        try:
            yield
        finally:
            self._next = before

    def draw(self, x: Tensor) -> Tensor:
        """A new mask for x, flat."""
        if len(self._pool) < 2 * x.numel():
            draws = self._rng.random(max(_POOL, 2 * x.numel()), dtype=np.float32)
            self._pool = torch.from_numpy(draws >= self._rate).to(x.device, x.dtype)
        at = int(self._rng.integers(len(self._pool) - x.numel()))
        return self._pool[at : at + x.numel()]


class LoraLinear(nn.Module):
    """One adapted layer in training."""

    def __init__(self, layer: LoraLayer, dropout: Dropout) -> None:
        super().__init__()
        self.base = layer.get_base_layer()
        self.a_RI = cast(nn.Linear, layer.lora_A["default"]).weight
        self.b_OR = cast(nn.Linear, layer.lora_B["default"]).weight
        self.dropout = dropout
        self.scaling = float(layer.scaling["default"]) * dropout.scale

    def forward(self, x: Tensor) -> Tensor:
        """The base layer's output plus the low-rank update."""
        h = linear(self.dropout(x), self.a_RI.to(x.dtype))
        return self.base(x) + linear(h, (self.b_OR * self.scaling).to(x.dtype))


def training_form(layers: dict[str, nn.Module], dropout: Dropout) -> dict[str, nn.Module]:
    """PEFT's wrapped layers in the form that is trained, with the same parameters."""
    formed: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        if not (isinstance(layer, LoraLayer) and isinstance(layer.get_base_layer(), (nn.Linear, Conv1D))):
            raise UserError(
                f"train.targets matches {name}, a {type(layer).__name__}, but only linear layers can be trained. "
                "Remove it from train.targets."
            )
        formed[name] = LoraLinear(layer, dropout)
    return formed


@contextmanager
def recomputed(model: PreTrainedModel, dropout: Dropout) -> Generator[None]:
    """Inside the block the model's layers keep only their inputs."""
    layers: Any = model.get_decoder().layers
    for layer in layers:
        layer.forward = partial(
            checkpoint,
            layer.forward,
            use_reentrant=False,
            preserve_rng_state=False,  # only the dropout draws
            context_fn=partial(_first_and_second_run, dropout),
        )
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _first_and_second_run(dropout: Dropout) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a layer's first run, which stores its masks, and of its second, which takes them again."""
    masks: list[Tensor] = []
    return dropout.drawing(partial(_stored, dropout.draw, masks)), dropout.drawing(lambda x: masks.pop(0))


def _stored(draw: Callable[[Tensor], Tensor], masks: list[Tensor], x: Tensor) -> Tensor:
    masks.append(draw(x))
    return masks[-1]
