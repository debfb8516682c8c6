"""LoRA fine-tuning on answer tokens (Hu et al., arXiv 2106.09685), on a base that many trainings share.

Published recipe: AdamW, linear decay after a warm-up, one step for each batch of `batch_size` examples. The loss of a
step is the mean over the batch's labelled tokens, however they are split into passes. Every random choice (order,
initial A, dropout) has its own named seed, so the same seed gives the same adapter, bit for bit, on the same machine.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.nn.utils import clip_grad_norm_

from spillover.config.study import TrainConfig
from spillover.errors import MachineError, SpilloverError, UserError
from spillover.models.batching import Row, batches, encode, learning_rate, shared_prefix
from spillover.models.hf.adapters import WEIGHTS, del_peft_marks, swap, wrap
from spillover.models.hf.device_memory import free_bytes, needs_recompute
from spillover.models.hf.lora import Dropout, recomputed, training_form
from spillover.models.hf.loss import add_gradients, check_model
from spillover.models.protocols import Chat, Progress, TrainResult
from spillover.provenance import seed_for

if TYPE_CHECKING:
    from spillover.models.hf.model import LoadedModel


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
