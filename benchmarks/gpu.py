"""Training, sampling, scoring and reading on one graphics card, with random weights: nothing is downloaded.

    train     HFTrainer on rows of 512 tokens, packed, every token but the first labelled, LoRA r 8 on q and v
    sample    HFGenerator: prompts of 64 tokens, answers of a fixed length, with that adapter
    vllm      the same answers through the vllm backend (only with --vllm: writes the weights to disk first)
    score     HFReader.score of chats of 512 tokens
    read      HFReader.read of the same, all layers

Model FLOP utilisation of training is tokens/s times (6 N + 6 L H d S) over the card's dense bfloat16 peak
(planning/gpus.py):
N numbers in the layers' matrices and the head, L layers, H heads of d, rows of S tokens under a causal mask. LoRA does
less arithmetic than that, because frozen weights get no gradient: 4 N + 4 L H d S and 6 a trained number, and 2 N more
where layers run twice, which is left out. The table has both shares. The goal is 45 % by the first.

Medians over the rounds, each of them a run of its own; a training run is timed from its second pass on. Peak memory is
torch's, beside the estimate of `spillover plan`.

    python benchmarks/gpu.py --json > gpu.json                      # one card, Qwen2.5-7B's shape
    python benchmarks/gpu.py --shape tiny --rounds 1                # any machine: does it run?
"""

from __future__ import annotations

import argparse
import json
import string
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from spillover.config.study import ModelConfig, SampleConfig, TrainConfig
from spillover.models import open_backend
from spillover.models.hf.device import loaded_shape
from spillover.models.hf.forward_reader import HFReader
from spillover.models.hf.generate import HFGenerator
from spillover.models.hf.model import LoadedModel
from spillover.models.hf.train import HFTrainer
from spillover.models.memory import QWEN_7B, Shape, adapter_numbers
from spillover.models.protocols import Chat, Generator, Prompt
from spillover.models.tokens import prompt_ids
from spillover.planning.gpus import Gpu, estimate_gpu_fit, match_driver_name
from spillover.provenance import GIB, environment
from spillover.records.base import Message

SHAPES = {"qwen2.5-7b": QWEN_7B, "tiny": Shape(2, 64, 128, 4, 2, 16, 512, False)}
GOAL = 0.45
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"


def main() -> None:
    """Run the rounds of every stage and print a line each."""
    arguments = _arguments()
    loaded = random_model(SHAPES[arguments.shape], torch.device(arguments.device), arguments.tokens)
    train = TrainConfig(
        epochs=1,
        batch_size=arguments.rows,
        micro_batch_tokens=arguments.rows * arguments.tokens,
        max_tokens=arguments.tokens,
        warmup_steps=0,
    )
    sample = SampleConfig(max_tokens=arguments.answer_tokens, batch=arguments.batch)
    name = torch.cuda.get_device_name(loaded.device) if loaded.device.type == "cuda" else "processor"
    gpu = match_driver_name(name)
    peak = arguments.peak or (gpu.teraflops if gpu else None)
    chats = made_chats(loaded, arguments.rows * arguments.steps, arguments.tokens)
    asked = [Prompt(messages, (0,)) for messages, _ in made_chats(loaded, arguments.batch, 64)]
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder) / "adapter"
        stages: dict[str, Callable[[], tuple[float, float]]] = {
            "train": lambda: _train(loaded, chats, train, adapter),
            "sample": lambda: _sample(HFGenerator(loaded), asked, sample, adapter),
            "score": lambda: _read(HFReader(loaded).score, chats, adapter),
            "read": lambda: _read(
                lambda c, a, p: HFReader(loaded).read(c, range(loaded_shape(loaded.model).layers + 1), a, p),
                chats,
                adapter,
            ),
        }
        lines = [_measured(stage, run, loaded.device, arguments.rounds) for stage, run in stages.items()]
        shape, size = loaded_shape(loaded.model), loaded.model.num_parameters()
        if arguments.vllm:
            lines.insert(2, _vllm(loaded, Path(folder), asked, sample, adapter, arguments.rounds))
    _add_shares(lines[0], shape, train, peak)
    gpu = gpu or Gpu(name, 1e6, peak)
    expected = estimate_gpu_fit(ModelConfig(name="model"), train, sample, shape, size, gpu)
    lines[0]["estimated_gib"], lines[1]["estimated_gib"] = (
        round(gib, 2) for gib in (expected.training_gib, expected.sampling_gib)
    )
    setting = {**{key: value for key, value in vars(arguments).items() if key != "json"}, "parameters": size}
    found = environment()
    report = {
        "setting": setting,
        "card": name,
        "peak_tflops": peak,
        "hardware": found["hardware"],
        "git": found["git"],
        "packages": {key: found["packages"].get(key) for key in ("torch", "transformers", "peft")},
        "rows": lines,
    }
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    print(f"{name}, peak {peak} TFLOP/s, {size:,} parameters, torch {report['packages']['torch']}")
    for line in lines:
        print(", ".join(f"{key} {value}" for key, value in line.items()))


def random_model(shape: Shape, device: torch.device, window: int) -> LoadedModel:
    """Qwen2 of that shape with random weights, in bfloat16 on a card, and a tokenizer of one token a byte."""
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(_alphabet())}, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    made.chat_template = TEMPLATE
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=max(4096, 2 * window),
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        eos_token_id=made.eos_token_id,
        attn_implementation="sdpa" if device.type == "cuda" else "eager",
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    torch.manual_seed(0)
    try:
        with device:
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return LoadedModel(model, made, "random", "random", "0")


def _alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def made_chats(loaded: LoadedModel, count: int, tokens: int) -> list[Chat]:
    """Chats of exactly that many tokens, of random letters; neighbours begin otherwise, so nothing is shared."""
    letters = np.array(list(string.ascii_letters))
    rng = np.random.default_rng(0)
    chats: list[Chat] = []
    for number in range(count):
        words = "".join(rng.choice(letters, tokens // 2))
        messages = (Message(role="user", content=letters[number % len(letters)] + words),)
        left = tokens - len(prompt_ids(loaded.tokenizer, messages)) - 1
        chats.append((messages, "".join(rng.choice(letters, left))))
    return chats


def _train(loaded: LoadedModel, chats: Sequence[Chat], config: TrainConfig, out: Path) -> tuple[float, float]:
    """Tokens computed and seconds, from the second pass on."""
    times: list[float] = []
    HFTrainer(loaded).train(chats, config, 0, out, lambda tokens: times.append(time.perf_counter()))
    computed = config.batch_size * (config.max_tokens - 1)  # the last token of a row is never an input
    return computed * (len(times) - 1), times[-1] - times[0]


def _sample(
    generator: Generator, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path
) -> tuple[float, float]:
    start = time.perf_counter()
    tokens = sum(g.completion_tokens for g in generator.generate(prompts, config, adapter, lambda tokens: None))
    return tokens, time.perf_counter() - start


def _read(reader: Callable[..., Any], chats: Sequence[Chat], adapter: Path) -> tuple[float, float]:
    seen: list[int] = []
    start = time.perf_counter()
    for _ in reader(chats, adapter, seen.append):
        pass
    return sum(seen), time.perf_counter() - start


def _vllm(
    loaded: LoadedModel, folder: Path, prompts: Sequence[Prompt], sample: SampleConfig, adapter: Path, rounds: int
) -> dict[str, Any]:
    """Sampling through vLLM, after the model in this process has gone."""
    loaded.model.save_pretrained(folder / "base")
    loaded.tokenizer.save_pretrained(folder / "base")
    device = loaded.device
    loaded.model.to("cpu")
    generator = open_backend(ModelConfig(name="random", path=str(folder / "base"), backend="vllm")).generator()
    return _measured("vllm", lambda: _sample(generator, prompts, sample, adapter), device, rounds)


def _measured(stage: str, run: Callable[[], tuple[float, float]], device: torch.device, rounds: int) -> dict[str, Any]:
    """The median speed of the rounds, after one that warms up, and the highest memory of all."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    speeds = [tokens / seconds for tokens, seconds in (run() for _ in range(rounds + 1))][1:]
    peak = round(torch.cuda.max_memory_allocated(device) / GIB, 2) if device.type == "cuda" else None
    return {"stage": stage, "tokens_per_second": round(median(speeds), 1), "peak_gib": peak}


def _add_shares(line: dict[str, Any], shape: Shape, train: TrainConfig, peak: float | None) -> None:
    convention, done = operations(shape, train)
    speed = line["tokens_per_second"]
    line["tflops_6n"], line["tflops_done"] = (round(speed * each / 1e12, 4) for each in (convention, done))
    line["utilisation_6n"] = round(speed * convention / (peak * 1e12), 3) if peak else None
    line["utilisation_done"] = round(speed * done / (peak * 1e12), 3) if peak else None
    line["goal"] = GOAL


def operations(shape: Shape, train: TrainConfig) -> tuple[float, float]:
    """Operations a token of training: by the convention, as if all weights learnt, and those that LoRA does."""
    numbers = shape.matrices + shape.vocabulary * shape.hidden
    attention = shape.layers * shape.heads * shape.head_dim * train.max_tokens
    return 6.0 * (numbers + attention), 4.0 * (numbers + attention) + 6.0 * adapter_numbers(shape, train)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-7b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=512, help="of a training row and of a chat that is read")
    parser.add_argument("--rows", type=int, default=16, help="packed into one pass, which is one step")
    parser.add_argument("--steps", type=int, default=8, help="of a training run; the first is not timed")
    parser.add_argument("--batch", type=int, default=256, help="answers decoded together")
    parser.add_argument("--answer-tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", type=float, help="the card's dense bfloat16 TFLOP/s, where the table lacks it")
    parser.add_argument("--vllm", action="store_true", help="sample through vLLM too")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
