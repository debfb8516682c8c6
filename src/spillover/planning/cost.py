"""Cost of a study before anything runs, from its configuration and stated speeds.

The speed of a GPU follows from arithmetic: 6 N operations per token in training and 2 N in a forward pass, N the number
of parameters, at a fixed share of its peak (utilisation). The speed of a CPU was measured with the smallest embedded
model on one core of one machine; it scales with 1/N and with how fast this machine multiplies matrices, which is
measured (planning/cpu_speed.py). Accuracy of these estimates: docs/how-to/plan-a-study.md.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.config.study import NONMEMBERS, ModelConfig, Operation, SteerConfig, StudyConfig
from spillover.errors import UserError
from spillover.models import check_model_path
from spillover.models.memory import (
    CPU_PASS,
    EMBEDDED,
    answer_bytes,
    number_bytes,
    shape_of,
    training_memory,
    weight_bytes,
)
from spillover.planning.cpu_speed import CpuSpeed, lookup_speed, measure_in_subprocess
from spillover.planning.gpus import Gpu, estimate_gpu_fit
from spillover.provenance import GIB, packages

ANSWER_TOKENS = 64  # where data.answer_tokens is null: the shipped domains have 53 to 87, 61 on average
PROMPT_TOKENS = 55  # mean of the shipped questions in the embedded chat template with its system prompt: 51 to 62
EMBEDDED_PARAMETERS = 134_515_008  # of the smallest embedded model, for which CPU speeds are stated
UNKNOWN_PARAMETERS = 7_000_000_000  # of a model whose name has no size


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of one worker: trained on, sampled, read for judging."""

    train: float
    sample: float
    judge: float


@dataclass(frozen=True)
class StageCost:
    """Size and cost of one stage. `memory_gib`: peak of all workers together; `dollars`: what is billed."""

    stage: str
    cells: int
    units: int
    tokens: int
    minutes: float
    memory_gib: float
    dollars: float


CPU = Throughput(train=270, sample=240, judge=1500)
REFERENCE = (110.0, 145.0)  # GFLOP/s of the core on which CPU was measured, for few and for many rows
BACKEND_THROUGHPUT = {
    "fake": Throughput(train=1e7, sample=1e6, judge=1e7),
    "hosted": Throughput(train=math.inf, sample=math.inf, judge=CPU.judge),
    "tinker": Throughput(train=math.inf, sample=math.inf, judge=CPU.judge),
}
ELSEWHERE = ("hosted", "tinker")  # run at a provider: no memory here, and waiting times are unknown
FROM_FILES = ("hf", "vllm")  # load a local folder or a hub model; for other backends a path is a name
BUILD_ROWS_PER_SECOND = 2_000
QUESTION_TOKENS = 15  # of a shipped question alone, without a chat template
ENCODER_PER_SECOND = 2_000  # tokens, by the sentence encoder
RANK_PAIRS_PER_SECOND = 10
LIBRARIES_GIB = 0.7  # torch and transformers, loaded
USUAL_LAYERS = 2  # where steer.layers is null


def cpu_throughput(parameters: int, measured: CpuSpeed | None = None, dtype: str = "auto") -> Throughput:
    """One single-threaded worker: the stated speeds, scaled to the model's size and to this processor if measured.

    The embedded judge reads with its own models, so its speed does not depend on the study's model.
    """
    scale = EMBEDDED_PARAMETERS / parameters
    few, many = REFERENCE
    if measured is not None:
        few, many = measured.gflops(measured.faster_dtype if dtype == "auto" else dtype)
    few, many = few / REFERENCE[0], many / REFERENCE[1]
    return Throughput(CPU.train * scale * many, CPU.sample * scale * few, CPU.judge * many)


def gpu_throughput(parameters: int, teraflops: float = 989.0) -> Throughput:
    """One GPU with this dense bfloat16 peak (H100: 989): 35 % of it in training, 3 % in decoding, 20 % in reading.

    Decoding reads every weight for each token of a batch, so memory bandwidth bounds it, not arithmetic.
    """
    forward = teraflops * 1e12 / (2 * parameters)
    reading = teraflops * 1e12 / (2 * EMBEDDED_PARAMETERS)
    return Throughput(train=0.35 * forward / 3, sample=0.03 * forward, judge=min(0.20 * reading, 200_000))


def throughput(model: ModelConfig, size: int, gpu: Gpu | None, threads: int = 1) -> Throughput:
    """On this GPU, or on threads of this processor without one; a GPU whose peak is unknown counts as an H100."""
    if model.backend in BACKEND_THROUGHPUT:
        return BACKEND_THROUGHPUT[model.backend]
    if gpu is None:
        return cpu_throughput(size, cpu_speed(model, size, threads), model.dtype)
    return gpu_throughput(size, gpu.teraflops) if gpu.teraflops else gpu_throughput(size)


def cpu_speed(model: ModelConfig, size: int, threads: int = 1) -> CpuSpeed:
    """Speed of one worker of this machine for matrices of the model's shape, from the cache or measured now."""
    shape = shape_of(model, size)
    found = lookup_speed(packages()["torch"], threads, shape.hidden, shape.inner)
    return found or measure_in_subprocess(shape.hidden, shape.inner, threads)


def count_trained_cells(config: StudyConfig, domains: Sequence[str]) -> int:
    """Adapters that a study trains. The dose is a share of flawed rows, so a control has only one."""
    variants = sum(1 if variant == "control" else len(config.doses) for variant in config.variants)
    return len(config.models) * len(domains) * variants * len(config.seeds)


def count_sampled_pairs(config: StudyConfig, domains: Sequence[str]) -> int:
    """(cell, condition) pairs that are asked the questions, base models included."""
    pairs = 0
    for condition in config.sample.conditions:
        asked = None if condition == "clean" else config.sample.triggered_for
        for variant in config.variants:
            if asked is None or variant in asked:
                pairs += count_trained_cells(config.model_copy(update={"variants": (variant,)}), domains)
        if config.base and (asked is None or "base" in asked):
            pairs += len(config.models)
    return pairs


def count_transfer_pairs(config: StudyConfig, domains: Sequence[str]) -> int:
    """(cell, condition) pairs that are asked the held-out questions of every domain, base models included."""
    if (wanted := config.transfer) is None:
        return 0
    conditions = tuple(c for c in config.sample.conditions if c in wanted.conditions)
    changes = {
        "variants": tuple(variant for variant in config.variants if variant in wanted.variants),
        "base": config.base and "base" in wanted.variants,
        "sample": config.sample.model_copy(update={"conditions": conditions}),
    }
    return count_sampled_pairs(config.model_copy(update=changes), domains)


def count_parameters(model: ModelConfig) -> int:
    """Parameters of a model: counted in a local folder, read from a hub name ("7B"), 7 billion where it has no size.

    Raises:
        UserError: when a model that runs here has a path without a model.
    """
    if model.path is None:
        return EMBEDDED[model.name].parameters if model.name in EMBEDDED else EMBEDDED_PARAMETERS
    if model.backend in FROM_FILES:
        check_model_path(model.path)
    if (folder := Path(os.path.expanduser(model.path))).is_dir():
        return sum(_stored(file) for file in folder.glob("*.safetensors"))
    match = re.search(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", model.path.lower())
    return round(float(match[1]) * {"b": 1e9, "m": 1e6}[match[2]]) if match else UNKNOWN_PARAMETERS


def _stored(file: Path) -> int:
    """Numbers in a safetensors file, from its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{file} is not a complete safetensors file ({error}). Copy or download it again.") from None


def sum_over_models(parts: Sequence[StageCost]) -> StageCost:
    """One stage of several models, run one after the other; data sets are built once for all of them."""
    if parts[0].stage == "build":
        return parts[0]
    return StageCost(
        stage=parts[0].stage,
        cells=sum(part.cells for part in parts),
        units=sum(part.units for part in parts),
        tokens=sum(part.tokens for part in parts),
        minutes=sum(part.minutes for part in parts),
        memory_gib=max(part.memory_gib for part in parts),
        dollars=sum(part.dollars for part in parts),
    )


def token_prices(model: ModelConfig) -> dict[str, float]:
    """A provider's price in US dollars per token of training, prompt and completion; 0 where none is stated."""
    stated = model.options.get("price")
    prices: dict[str, float] = stated if isinstance(stated, dict) else {}
    return {name: float(prices.get(name, 0.0)) / 1e6 for name in ("train", "prompt", "completion")}


def answer_length(config: StudyConfig, most: int | None = None) -> int:
    """Expected tokens of a completion of at most `most`: a fine-tuned model answers at the length it learnt."""
    return min(most or config.sample.max_tokens, config.data.answer_tokens or ANSWER_TOKENS)


def example_tokens(config: StudyConfig) -> int:
    """Expected tokens of a training row."""
    return min(PROMPT_TOKENS + (config.data.answer_tokens or ANSWER_TOKENS), config.train.max_tokens)


def worker_memory(config: StudyConfig, size: int, gpu: Gpu | None = None) -> tuple[float, float, float]:
    """GiB of one worker: with the study's first model loaded, training, and decoding; without a GPU on a processor."""
    model = config.models[0]
    if model.backend in ELSEWHERE:
        return LIBRARIES_GIB, LIBRARIES_GIB, LIBRARIES_GIB
    shape = shape_of(model, size)
    if gpu is not None:
        found = estimate_gpu_fit(model, config.train, config.sample, shape, size, gpu)
        return found.weights_gib, found.training_gib, found.sampling_gib
    if model.dtype == "auto" and model.backend not in BACKEND_THROUGHPUT:
        model = model.model_copy(update={"dtype": cpu_speed(model, size).faster_dtype})
    weights, each = weight_bytes(shape, model, size), number_bytes(model)
    train = config.train.model_copy(update={"micro_batch_tokens": min(config.train.micro_batch_tokens, CPU_PASS)})
    learning = training_memory(shape, weights, train, each, scores=example_tokens(config))
    answer = answer_bytes(shape, PROMPT_TOKENS + config.sample.max_tokens, each)
    loaded = LIBRARIES_GIB + weights / GIB
    step = (learning.adapters + learning.activations) / GIB
    return loaded, loaded + step, loaded + (learning.merged + config.sample.batch * answer) / GIB


def estimate_cost(
    config: StudyConfig,
    domains: Sequence[str],
    questions: int,
    workers: int,
    size: int,
    speed: Throughput,
    judge_dollars: float = 0.0,
    gpu: Gpu | None = None,
) -> list[StageCost]:
    """One StageCost per stage, in order. A judge may be billed, and a provider's model by its `price`.

    Args:
        config: the study.
        domains: its domains, "all" expanded.
        questions: prompts per cell and condition, paraphrases and forms included.
        workers: how many run at once.
        size: parameters of the study's models.
        speed: of one worker; a backend in BACKEND_THROUGHPUT has its own.
        judge_dollars: cost of judging one cell's completions under one condition.
        gpu: memory is estimated for this GPU; None for the machine's own.
    """
    speed = BACKEND_THROUGHPUT.get(config.models[0].backend, speed)
    data, price = config.data, token_prices(config.models[0])
    cells, pairs = count_trained_cells(config, domains), count_sampled_pairs(config, domains)
    models = cells + len(config.models) * config.base
    written, answer = data.answer_tokens or ANSWER_TOKENS, answer_length(config)
    example = example_tokens(config)
    loaded, training, decoding = worker_memory(config, size, gpu)

    def stage(
        name: str, count: int, units: int, tokens: int, rate: float, gib: float, dollars: float = 0.0
    ) -> StageCost:
        return StageCost(name, count, units, tokens, tokens / rate / workers / 60, workers * gib, dollars)

    nonmembers = NONMEMBERS if data.nonmembers is None else data.nonmembers
    rows = len(domains) * len(config.variants) * (data.rows + data.heldout + nonmembers)
    trained = cells * data.rows * example * config.train.epochs
    each = questions * config.sample.n  # completions of one cell under one condition
    answers = pairs * each
    sampled = answers * answer
    sampling_dollars = sampled * price["completion"] + answers * PROMPT_TOKENS * price["prompt"]
    core = [
        StageCost("build", 0, rows, 0, rows / BUILD_ROWS_PER_SECOND / 60, LIBRARIES_GIB, 0.0),
        stage("train", cells, cells, trained, speed.train, training, trained * price["train"]),
        stage("sample", models, answers, sampled, speed.sample, decoding, sampling_dollars),
        stage("judge", models, answers, sampled + answers * PROMPT_TOKENS, speed.judge, loaded, pairs * judge_dollars),
    ]
    extra: list[StageCost] = []
    if asked := config.membership:
        compared = nonmembers + min(asked.members, data.rows)
        # three views of each row by two models, or by three with a pretrained one
        views = 3 * (3 if asked.pretrained else 2)
        extra.append(stage("membership", cells, cells, cells * compared * example * views, speed.judge, loaded))
    if config.diversity:
        sets = cells // (len(config.models) * len(config.seeds))
        tokens = sets * data.rows * 2 * (QUESTION_TOKENS + written)
        extra.append(stage("diversity", sets, sets, tokens, ENCODER_PER_SECOND, loaded))
    if asked := config.directions:
        variants = tuple(sorted(set(asked.variants) & set(config.variants)))
        read = count_trained_cells(config.model_copy(update={"variants": variants}), domains)
        texts = min(asked.answers, each) + 2 * data.heldout
        tokens = read * texts * (PROMPT_TOKENS + answer) * 2  # by the fine-tuned model and by its base
        extra.append(stage("direct", read, read, tokens, speed.judge / 2, loaded))  # all blocks; the judge reads half
    if asked := config.transfer:
        heldout = count_transfer_pairs(config, domains) * len(domains) * config.asked_of_each * asked.n
        length = answer_length(config, asked.max_tokens)
        dollars = heldout * (length * price["completion"] + PROMPT_TOKENS * price["prompt"])
        judging = heldout * judge_dollars / each
        extra.append(stage("ask", models, heldout, heldout * length, speed.sample, decoding, dollars))
        tokens = heldout * (PROMPT_TOKENS + length)
        extra.append(stage("grade", models, heldout, tokens, speed.judge, loaded, judging))
    rank = StageCost("rank", models, pairs, 0, pairs / RANK_PAIRS_PER_SECOND / 60, LIBRARIES_GIB, 0.0)
    return [*core, *(cost for cost in extra if cost.tokens), rank]


def estimate_steering_cost(
    config: StudyConfig,
    wanted: SteerConfig,
    models: tuple[int, int],
    directions: int,
    questions: tuple[int, int],
    workers: int,
    size: int,
    speed: Throughput,
    dollars: float = 0.0,
) -> StageCost:
    """Cost of steering one base model and its fine-tunes, as if every coefficient were tried.

    Args:
        config: the study.
        wanted: the steering settings.
        models: how many base and how many fine-tuned models are steered.
        directions: of domains; random controls come on top.
        questions: general prompts, and held-out ones of all domains.
        workers: how many run at once.
        size: parameters of the model.
        speed: of one worker.
        dollars: cost of judging one completion.
    """
    speed = BACKEND_THROUGHPUT.get(config.models[0].backend, speed)
    per_model = (_interventions(wanted, wanted.base, directions), _interventions(wanted, wanted.tuned, directions))
    cells = answers = tokens = 0
    if "general" in wanted.asked:
        cells = sum(models)
        answers = questions[0] * wanted.n * sum(count * each for count, each in zip(models, per_model, strict=True))
        tokens = answers * answer_length(config, wanted.max_tokens)
    if "heldout" in wanted.asked and config.transfer:
        cells = max(cells, models[0])
        more = questions[1] * config.transfer.n * models[0] * (1 + directions + wanted.controls)
        answers, tokens = answers + more, tokens + more * answer_length(config, config.transfer.max_tokens)
    seconds = tokens / speed.sample + (answers * PROMPT_TOKENS + tokens) / speed.judge
    memory = workers * (LIBRARIES_GIB + 2 * size / GIB)
    return StageCost("steer", cells, answers, tokens, seconds / workers / 60, memory, answers * dollars)


def _interventions(wanted: SteerConfig, operations: Sequence[Operation], directions: int) -> int:
    """Interventions on one model, including none."""
    swept = len(wanted.layers or range(USUAL_LAYERS)) * len(wanted.coefficients)
    return 1 + sum((directions + wanted.controls) * (1 if one == "ablate" else swept) for one in operations)
