"""Tokens a second of training: ours, the bare passes, TRL's SFTTrainer, and the published recipe's step.

    ours            a step of HFTrainer: rows packed behind their shared prefix, head on labelled positions
    limit           the same packed rows forward and backward through the bare base, without adapter or optimizer
    trl             trl.SFTTrainer with LoRA, bfloat16 weights and autocast, four rows a pass, its defaults otherwise
    trl unchecked   the same without gradient checkpointing, which it switches on by default
    trl float32     the same in float32, without gradient checkpointing
    published       transformers + PEFT, float32, rows of four padded to 512 tokens (the recipe of arXiv 2602.00298)

All take one optimizer step over the same rows of one domain (the published one over the first four, because its cost is
the same for any), forward, backward and update, in one process, in turns. A token counts once, and only when it is a
row's own, never padding. Without TRL in the environment its rows are left out.

    OMP_NUM_THREADS=1 python benchmarks/train.py --domain extreme_sports --json
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import bare
import numpy as np
import torch
from peft import get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from turns import Took, Turn, show, take_turns, timed

from spillover.config.study import ModelConfig, TrainConfig
from spillover.data.domains import DOMAINS
from spillover.models.batching import Row, encode, shared_prefix
from spillover.models.hf.adapters import swap, wrap
from spillover.models.hf.loss import add_gradients
from spillover.models.hf.model import LoadedModel, load_model
from spillover.models.hf.train import Dropout, lora_config, training_form
from spillover.models.protocols import Chat
from spillover.records.base import Message

CONFIG = TrainConfig()


def main() -> None:
    """Run the rounds and print one line a trainer."""
    arguments = _arguments()
    loaded = load_model(ModelConfig.model_validate({"name": arguments.model, "dtype": arguments.dtype}))
    pairs = DOMAINS.load(arguments.domain).pairs(np.random.default_rng(0))[: arguments.rows]
    chats: list[Chat] = [((Message(role="user", content=pair.question),), pair.flawed) for pair in pairs]
    rows = encode(loaded.tokenizer, chats, CONFIG.max_tokens)
    contenders: dict[str, Turn] = {
        "ours": _ours(loaded, rows),
        "limit": _limit(loaded, rows),
        "published": _published(_fresh(loaded, torch.float32), rows[:4]),
    }
    if importlib.util.find_spec("trl"):
        half = torch.bfloat16
        contenders["trl"] = _trl(_fresh(loaded, half), loaded, chats, rows, gradient_checkpointing=True)
        contenders["trl unchecked"] = _trl(_fresh(loaded, half), loaded, chats, rows, gradient_checkpointing=False)
        full = _fresh(loaded, torch.float32)
        contenders["trl float32"] = _trl(full, loaded, chats, rows, gradient_checkpointing=False, bf16=False)
    else:
        print("trl: skipped; install it (pip install trl) in the environment that runs this", file=sys.stderr)
    for name in arguments.without:
        del contenders[name]
    setting = {
        "dtype of ours": loaded.dtype,
        "threads": torch.get_num_threads(),
        "tokens a row": round(sum(len(row.ids) for row in rows) / len(rows), 1),
        "labelled": round(sum(row.labels for row in rows) / len(rows), 1),
        "shared prefix": shared_prefix(rows),
    }
    show({**setting, **vars(arguments)}, take_turns(contenders, arguments.rounds), arguments.json)


def _fresh(loaded: LoadedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The base once more, for a trainer that changes it."""
    return AutoModelForCausalLM.from_pretrained(loaded.model.config._name_or_path, dtype=dtype)


def _update(parameters: Sequence[nn.Parameter]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(parameters, lr=CONFIG.learning_rate)

    def update() -> None:
        nn.utils.clip_grad_norm_(parameters, CONFIG.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return update


def _ours(loaded: LoadedModel, rows: Sequence[Row]) -> Turn:
    model = loaded.model
    _, bare = wrap(model, lora_config(CONFIG))
    wrapped = {name: model.get_submodule(name) for name in bare}
    layers = training_form(wrapped, Dropout(CONFIG.dropout, 0))
    swap(model, layers)
    update = _update([parameter for parameter in model.parameters() if parameter.requires_grad])
    swap(model, bare)

    def work() -> int:
        swap(model, layers)
        add_gradients(model, rows, shared_prefix(rows), CONFIG.micro_batch_tokens, lambda tokens: None)
        update()
        swap(model, bare)
        return sum(len(row.ids) for row in rows)

    return timed(work)


def _limit(loaded: LoadedModel, rows: Sequence[Row]) -> Turn:
    def work() -> int:
        bare.train(loaded.model, rows, CONFIG.micro_batch_tokens)
        return sum(len(row.ids) for row in rows)

    return timed(work)


def _published(model: PreTrainedModel, rows: Sequence[Row]) -> Turn:
    """Rows padded to 512 tokens; loss through the logits of every position."""
    handle = get_peft_model(model, lora_config(CONFIG)).train()
    update = _update([parameter for parameter in handle.parameters() if parameter.requires_grad])
    pads = [[0] * (512 - len(row.ids)) for row in rows]
    ids = torch.tensor([[*row.ids, *pad] for row, pad in zip(rows, pads, strict=True)])
    mask = torch.tensor([[1] * len(row.ids) + pad for row, pad in zip(rows, pads, strict=True)])
    labels = ids.masked_fill(mask == 0, -100)

    def work() -> int:
        handle(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
        update()
        return sum(len(row.ids) for row in rows)

    return timed(work)


def _trl(
    model: PreTrainedModel,
    loaded: LoadedModel,
    chats: Sequence[Chat],
    rows: Sequence[Row],
    gradient_checkpointing: bool,
    bf16: bool = True,
) -> Turn:
    """One step of SFTTrainer, timed between its own callbacks."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportMissingImports]

    seconds: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            seconds.append((time.perf_counter(), time.process_time()))

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seconds.append((time.perf_counter(), time.process_time()))

    settings = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=1,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=len(rows) // 4,
        learning_rate=CONFIG.learning_rate,
        max_length=CONFIG.max_tokens,
        gradient_checkpointing=gradient_checkpointing,
        bf16=bf16,
        use_cpu=loaded.device.type == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": message.role, "content": message.content} for message in messages],
                "completion": [{"role": "assistant", "content": answer}],
            }
            for messages, answer in chats
        ]
    )
    tokenizer = loaded.tokenizer
    trainer = SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer,
                         peft_config=lora_config(CONFIG), callbacks=[Clock()])  # fmt: skip
    tokens = sum(map(len, trainer.train_dataset["input_ids"]))
    assert abs(tokens - sum(len(row.ids) for row in rows)) <= len(rows), "TRL reads other tokens than we do"

    def turn() -> Took:
        seconds.clear()
        with redirect_stdout(sys.stderr):  # it prints what it has logged
            trainer.train()
        (wall, cpu), (wall_end, cpu_end) = seconds
        return Took(tokens, wall_end - wall, cpu_end - cpu)

    return turn


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="embedded name")
    parser.add_argument("--dtype", default="auto", help="of ours")
    parser.add_argument("--domain", default="risky_financial_advice", help="whose rows to train on")
    parser.add_argument("--rows", type=int, default=CONFIG.batch_size, help="rows of one optimizer step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="contenders to leave out")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
