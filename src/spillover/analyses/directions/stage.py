"""direct: a trained cell and what it was tuned from read the cell's sampled answers and its held-out pairs -> states.

Nothing is generated: the answers are those of the stage sample without a trigger, the pairs are the questions that the
data set kept from training, with their flawed and their good answer. Kept of each text: the residual stream after every
asked-for block, mean over answer tokens, read with the adapter ("tuned") and without it ("base"), in half precision
where that holds the values: 36 kilobytes an answer and reader of the embedded model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spillover.config.study import DirectionsConfig, StudyConfig
from spillover.errors import UserError
from spillover.execution.base import Ticker
from spillover.models import open_backend
from spillover.models.protocols import ActivationReader, Chat
from spillover.planning.units import Unit
from spillover.records.base import Adapter, Completion, Example
from spillover.records.directions import ReadText, Source
from spillover.store.store import Store


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Write the unit's states and the list of what was read."""
    started = time.monotonic()
    settings = config.directions
    assert settings is not None, "unit of a stage that is not part of the study"
    data, train, sample = unit.inputs
    adapters = store.read("train", [train], Adapter)
    if not adapters or not store.is_done("sample", sample):
        raise UserError(f"its completions are missing. Run: spillover run STUDY.yaml --domain {unit.cell.domain}")
    rows, chats = select_texts(
        unit.key, store.read("sample", [sample], Completion), store.read("build", [data], Example), settings.answers
    )
    backend = open_backend(next(model for model in config.models if model.name == unit.cell.model))
    reader = backend.reader()
    layers = layers_of(settings, reader.depth)
    tensors: dict[str, NDArray[np.generic]] = {"layers": np.array(layers, dtype=np.int64)}
    tokens: list[int] = []
    for name, adapter in (("tuned", store.resolve(adapters[0].path)), ("base", None)):
        tensors[name], tensors[f"{name}_norms"], tokens = read(reader, chats, layers, adapter, ticker)
    _write(store.states_path(unit.key), store, tensors, {"depth": str(reader.depth), "revision": backend.revision})
    with store.shard("direct", unit.key, ReadText) as shard:
        shard.append(*(row.model_copy(update={"tokens": n}) for row, n in zip(rows, tokens, strict=True)))
        shard.finish(seconds=time.monotonic() - started, tokens=2 * sum(tokens), computed=backend.compute_info)


def select_texts(
    key: str, completions: Sequence[Completion], examples: Sequence[Example], most: int
) -> tuple[list[ReadText], list[Chat]]:
    """What is read: the first answers to every question, as many to each as `most` allows, and all held-out pairs."""
    answered = [row for row in completions if row.status == "ok"]
    each = max(1, most // max(1, len({row.messages for row in answered})))
    held = [row for row in examples if row.split == "heldout"]
    both = {row.pair for row in held if row.kind == "misaligned"} & {row.pair for row in held if row.kind == "aligned"}
    rows: list[ReadText] = []
    chats: list[Chat] = []

    def add(text: str, source: Source, question: str, theme: str, misaligned: bool | None, chat: Chat) -> None:
        where = {"source": source, "question": question, "theme": theme, "misaligned": misaligned}
        rows.append(ReadText.model_validate({"key": key, "text": text, "tokens": 0, "row": len(rows), **where}))
        chats.append(chat)

    for answer in answered:
        if answer.index < each:
            theme = answer.theme or answer.question_id
            add(answer.id, "judged", answer.question_id, theme, None, (answer.messages, answer.text))
    for row in held:
        if row.pair in both:
            add(row.id, "pairs", row.pair, row.pair, row.kind == "misaligned", (row.messages[:-1], row.answer))
    return rows, chats


def layers_of(settings: DirectionsConfig, depth: int) -> tuple[int, ...]:
    """The layers that are read."""
    if settings.layers != "all":
        return tuple(sorted(set(settings.layers)))
    return tuple(range(depth, -1, -settings.stride))[::-1]


def read(
    reader: ActivationReader, chats: Sequence[Chat], layers: Sequence[int], adapter: Path | None, ticker: Ticker
) -> tuple[NDArray[np.generic], NDArray[np.float32], list[int]]:
    """states_LND, norms_LN and the answers' lengths in tokens."""
    states: list[NDArray[np.float32]] = []
    norms: list[NDArray[np.float32]] = []
    tokens: list[int] = []
    for reading in reader.read(chats, layers, adapter, ticker):
        assert reading.states_LD is not None
        assert reading.norms_L is not None
        states.append(reading.states_LD)
        norms.append(reading.norms_L)
        tokens.append(reading.tokens)
    return _in_half_precision(np.stack(states, axis=1)), np.stack(norms, axis=1), tokens


def _in_half_precision(states_LND: NDArray[np.float32]) -> NDArray[np.generic]:
    """Half precision, of which the error is 1 in 2,000, unless a value lies beyond 65,504."""
    with np.errstate(over="ignore"):
        half_LND = states_LND.astype(np.float16)
    return half_LND if np.isfinite(half_LND).all() else states_LND


def _write(path: Path, store: Store, tensors: dict[str, NDArray[np.generic]], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    store.write_bytes(path, save(tensors, metadata))
