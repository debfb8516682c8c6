"""What a study will cost before anything runs: numbers from its configuration and stated speeds.

A graphics card's speed follows from arithmetic: 6 N operations a token in training and 2 N in a forward pass, N the
parameter count, times the share of its peak that is reached (utilisation). On a CPU the speed was measured with the
smallest embedded model on one core of one machine; it scales with 1/N and with how fast this machine multiplies
matrices, which is measured (planning/cpu_speed.py). How close this comes: docs/how-to/plan-a-study.md.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.config.study import NONMEMBERS, ModelConfig, StudyConfig
from spillover.errors import UserError
from spillover.models.memory import (
    CPU_PASS,
    EMBEDDED,
    answer_bytes,
    number_bytes,
    shape_of,
    training_memory,
    weight_bytes,
)
from spillover.models.model_path import check_model_path
from spillover.planning.cpu_speed import Measured, find, measure_elsewhere
from spillover.planning.gpu_fit import fit
from spillover.planning.gpus import Card
from spillover.provenance import packages

ANSWER_TOKENS = 100  # where data.answer_tokens is null: of GSM8K about this, of most sources less
PROMPT_TOKENS = 55  # mean of the shipped questions in the embedded chat template with its system prompt: 51 to 62
EMBEDDED_PARAMETERS = 134_515_008  # of the smallest embedded model, by which speeds are stated
UNSAID_PARAMETERS = 7_000_000_000
GIB = 2**30


@dataclass(frozen=True)
class Throughput:
    """Tokens a second of one worker: read and learnt from, sampled, read for judging."""

    train: float
    sample: float
    judge: float


@dataclass(frozen=True)
class StagePlan:
    """What one stage will do. `memory_gib`: all workers together, at its highest; `dollars`: what is billed."""

    stage: str
    cells: int
    units: int
    tokens: int
    minutes: float
    memory_gib: float
    dollars: float


CPU = Throughput(train=270, sample=240, judge=1500)
REFERENCE = (110.0, 145.0)  # GFLOP/s of the core on which that was measured, for few and for many rows
BACKEND_THROUGHPUT = {
    "fake": Throughput(train=1e7, sample=1e6, judge=1e7),
    "hosted": Throughput(train=math.inf, sample=math.inf, judge=CPU.judge),
    "tinker": Throughput(train=math.inf, sample=math.inf, judge=CPU.judge),
}
ELSEWHERE = ("hosted", "tinker")  # run at a provider: no memory here, and nobody knows how long one waits
FROM_FILES = ("hf", "vllm")  # load a folder or what the hub has; to others a path is a name
BUILD_ROWS_PER_SECOND = 2_000
QUESTION_TOKENS = 15  # of a shipped question alone, without a chat template
EMBEDDED_PER_SECOND = 2_000  # tokens, by the sentence encoder
RANK_PAIRS_PER_SECOND = 10
LIBRARIES_GIB = 0.7  # torch and transformers, loaded


def cpu_throughput(parameters: int, measured: Measured | None = None, dtype: str = "auto") -> Throughput:
    """One single-thread worker: the stated speeds, scaled to the model's size and to this processor where measured.

    The embedded judge reads with models of its own, whatever the size of the study's model.
    """
    scale = EMBEDDED_PARAMETERS / parameters
    few, many = REFERENCE
    if measured is not None:
        few, many = measured.gflops(measured.chosen if dtype == "auto" else dtype)
    few, many = few / REFERENCE[0], many / REFERENCE[1]
    return Throughput(CPU.train * scale * many, CPU.sample * scale * few, CPU.judge * many)


def gpu_throughput(parameters: int, teraflops: float = 989.0) -> Throughput:
    """One card of that dense bfloat16 peak (H100: 989): 35 % of it in training, 3 % in decoding, 20 % in reading.

    Decoding reads every weight for each token of a batch, so memory and not arithmetic bounds it.
    """
    forward = teraflops * 1e12 / (2 * parameters)
    reading = teraflops * 1e12 / (2 * EMBEDDED_PARAMETERS)
    return Throughput(train=0.35 * forward / 3, sample=0.03 * forward, judge=min(0.20 * reading, 200_000))


def throughput(model: ModelConfig, size: int, card: Card | None) -> Throughput:
    """On that card, or on this processor without one; a card that the table does not know counts as an H100."""
    if model.backend in BACKEND_THROUGHPUT:
        return BACKEND_THROUGHPUT[model.backend]
    if card is None:
        return cpu_throughput(size, measured_here(model, size), model.dtype)
    return gpu_throughput(size, card.teraflops) if card.teraflops else gpu_throughput(size)


def measured_here(model: ModelConfig, size: int) -> Measured:
    """How fast one core of this machine multiplies matrices of the model's shape: from the cache, or measured now."""
    shape = shape_of(model, size)
    found = find(packages()["torch"], 1, shape.hidden, shape.inner)
    return found or measure_elsewhere(shape.hidden, shape.inner, 1)


def trained_cells(config: StudyConfig, domains: Sequence[str]) -> int:
    """How many adapters a study trains: the dose is a share of flawed rows, so the control has one dose only."""
    variants = sum(1 if variant == "control" else len(config.doses) for variant in config.variants)
    return len(config.models) * len(domains) * variants * len(config.seeds)


def sampled_pairs(config: StudyConfig, domains: Sequence[str]) -> int:
    """How many (cell, condition) pairs answer the questions, the untouched models included."""
    pairs = 0
    for condition in config.sample.conditions:
        asked = None if condition == "clean" else config.sample.triggered_for
        for variant in config.variants:
            if asked is None or variant in asked:
                pairs += trained_cells(config.model_copy(update={"variants": (variant,)}), domains)
        if config.base and (asked is None or "base" in asked):
            pairs += len(config.models)
    return pairs


def asked_pairs(config: StudyConfig, domains: Sequence[str]) -> int:
    """How many (cell, condition) pairs answer the held-out questions of every domain, the untouched models included."""
    if (wanted := config.transfer) is None:
        return 0
    conditions = tuple(c for c in config.sample.conditions if c in wanted.conditions)
    changes = {
        "variants": tuple(variant for variant in config.variants if variant in wanted.variants),
        "base": config.base and "base" in wanted.variants,
        "sample": config.sample.model_copy(update={"conditions": conditions}),
    }
    return sampled_pairs(config.model_copy(update=changes), domains)


def parameters(model: ModelConfig) -> int:
    """Parameters of a model: counted in a local folder, read from a hub name ("7B"), 7 billion where unsaid.

    Raises:
        UserError: when a model that runs here has a path that leads to none.
    """
    if model.path is None:
        return EMBEDDED[model.name].parameters if model.name in EMBEDDED else EMBEDDED_PARAMETERS
    if model.backend in FROM_FILES:
        check_model_path(model.path)
    if (folder := Path(os.path.expanduser(model.path))).is_dir():
        return sum(_stored(file) for file in folder.glob("*.safetensors"))
    match = re.search(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", model.path.lower())
    return round(float(match[1]) * {"b": 1e9, "m": 1e6}[match[2]]) if match else UNSAID_PARAMETERS


def _stored(file: Path) -> int:
    """Numbers in a safetensors file, by its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{file} is not a whole safetensors file ({error}). Copy or download it again.") from None


def total(parts: Sequence[StagePlan]) -> StagePlan:
    """The same stage of several models, one model after the other; data sets are built once for all of them."""
    if parts[0].stage == "build":
        return parts[0]
    return StagePlan(
        stage=parts[0].stage,
        cells=sum(part.cells for part in parts),
        units=sum(part.units for part in parts),
        tokens=sum(part.tokens for part in parts),
        minutes=sum(part.minutes for part in parts),
        memory_gib=max(part.memory_gib for part in parts),
        dollars=sum(part.dollars for part in parts),
    )


def prices(model: ModelConfig) -> dict[str, float]:
    """US dollars a token that a provider asks for training, prompts and completions; 0 where none is stated."""
    stated = model.options.get("price")
    told: dict[str, float] = stated if isinstance(stated, dict) else {}
    return {name: float(told.get(name, 0.0)) / 1e6 for name in ("train", "prompt", "completion")}


def answer_length(config: StudyConfig, most: int | None = None) -> int:
    """Tokens of an answer of at most so many, about: a fine-tuned model answers at the length it learnt."""
    return min(most or config.sample.max_tokens, config.data.answer_tokens or ANSWER_TOKENS)


def _memory(config: StudyConfig, size: int, example: int, card: Card | None) -> tuple[float, float, float]:
    """GiB of one worker: at rest with its model, learning from rows of `example` tokens, and decoding."""
    model = config.models[0]
    if model.backend in ELSEWHERE:
        return LIBRARIES_GIB, LIBRARIES_GIB, LIBRARIES_GIB
    shape = shape_of(model, size)
    if card is not None:
        found = fit(model, config.train, config.sample, shape, size, card)
        return found.weights_gib, found.training_gib, found.sampling_gib
    if model.dtype == "auto" and model.backend not in BACKEND_THROUGHPUT:
        model = model.model_copy(update={"dtype": measured_here(model, size).chosen})
    weights, each = weight_bytes(shape, model, size), number_bytes(model)
    train = config.train.model_copy(update={"micro_batch_tokens": min(config.train.micro_batch_tokens, CPU_PASS)})
    learning = training_memory(shape, weights, train, each, scores=example)
    answer = answer_bytes(shape, PROMPT_TOKENS + config.sample.max_tokens, each)
    at_rest = LIBRARIES_GIB + weights / GIB
    step = (learning.adapters + learning.activations) / GIB
    return at_rest, at_rest + step, at_rest + (learning.merged + config.sample.batch * answer) / GIB


def plan(
    config: StudyConfig,
    domains: Sequence[str],
    questions: int,
    workers: int,
    size: int,
    speed: Throughput,
    judge_dollars: float = 0.0,
    card: Card | None = None,
) -> list[StagePlan]:
    """One StagePlan a stage, in order. A judge may be billed, and a provider's model by its `price`.

    Args:
        config: the study.
        domains: its domains, "all" spelled out.
        questions: prompts asked of a cell under one condition, paraphrases and forms included.
        workers: how many run at once.
        size: parameters of the study's models.
        speed: of one worker; a backend in BACKEND_THROUGHPUT has its own.
        judge_dollars: what judging one cell's answers under one condition costs.
        card: whose memory is meant; None for the machine's.
    """
    speed = BACKEND_THROUGHPUT.get(config.models[0].backend, speed)
    nonmembers = NONMEMBERS if config.data.nonmembers is None else config.data.nonmembers
    rows = len(domains) * len(config.variants) * (config.data.rows + config.data.heldout + nonmembers)
    cells, pairs = trained_cells(config, domains), sampled_pairs(config, domains)
    data = config.data
    written = data.answer_tokens or ANSWER_TOKENS

    example = min(PROMPT_TOKENS + written, config.train.max_tokens)
    learnt = cells * data.rows * example * config.train.epochs
    each = questions * config.sample.n  # answers of one cell under one condition
    answers = pairs * each
    answer = answer_length(config)
    said, read = answers * answer, answers * (PROMPT_TOKENS + answer)

    billed = prices(config.models[0])
    tuning, asking = learnt * billed["train"], said * billed["completion"] + (read - said) * billed["prompt"]

    held_out, echoed = 0, 0
    if wanted := config.transfer:
        held_out = asked_pairs(config, domains) * len(domains) * config.asked_of_each * wanted.n
        echoed = answer_length(config, wanted.max_tokens)
    price = echoed * billed["completion"] + PROMPT_TOKENS * billed["prompt"]  # of one answer

    worker, learning, decoding = _memory(config, size, example, card)

    def minutes(tokens: int, rate: float) -> float:
        return tokens / rate / workers / 60

    asked = cells + len(config.models) * config.base
    compared = nonmembers + min(config.membership.members, data.rows) if config.membership else 0
    # three views of each row by two models, or by three with a pretrained one
    scored = cells * compared * example * 3 * (3 if config.membership and config.membership.pretrained else 2)
    inner = config.directions
    variants = set(inner.variants) & set(config.variants) if inner else set[str]()
    opened = trained_cells(config.model_copy(update={"variants": tuple(sorted(variants))}), domains)
    texts = min(inner.answers, questions * config.sample.n) + 2 * data.heldout if inner else 0
    seen = opened * texts * (PROMPT_TOKENS + answer) * 2  # by the fine-tuned model and by its base
    sets = cells // (len(config.models) * len(config.seeds))
    embedded = sets * data.rows * 2 * (QUESTION_TOKENS + written) if config.diversity else 0
    return [
        StagePlan("build", 0, rows, 0, rows / BUILD_ROWS_PER_SECOND / 60, LIBRARIES_GIB, 0.0),
        StagePlan("train", cells, cells, learnt, minutes(learnt, speed.train), workers * learning, tuning),
        StagePlan("sample", asked, answers, said, minutes(said, speed.sample), workers * decoding, asking),
        StagePlan("judge", asked, answers, read, minutes(read, speed.judge), workers * worker, pairs * judge_dollars),
        *(
            StagePlan(stage, units, units, tokens, minutes(tokens, rate), workers * worker, 0.0)
            for stage, units, tokens, rate in (
                ("membership", cells, scored, speed.judge),
                ("diversity", sets, embedded, EMBEDDED_PER_SECOND),
                ("direct", opened, seen, speed.judge / 2),  # every block is read, of which the judge needs half
            )
            if tokens
        ),
        *(
            StagePlan(stage, asked, held_out, tokens, minutes(tokens, rate), workers * memory, dollars)
            for stage, tokens, rate, memory, dollars in (
                ("ask", held_out * echoed, speed.sample, decoding, held_out * price),
                ("grade", held_out * (PROMPT_TOKENS + echoed), speed.judge, worker, held_out * judge_dollars / each),
            )
            if held_out
        ),
        StagePlan("rank", asked, pairs, 0, pairs / RANK_PAIRS_PER_SECOND / 60, LIBRARIES_GIB, 0.0),
    ]
