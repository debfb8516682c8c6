"""membership: a trained cell reads training rows and non-members of its data set -> how well each metric tells them.

Members: training rows, drawn by seed. Non-members: the rows that were drawn with them and set apart by chance, made by
the same recipe to the same end (`data/recipe/pool.py`): before training nothing but luck can tell the two. Held-out
rows
are of other items, which a reader of texts can tell: they are not compared. Rows are compared with rows of the same
kind. One held-out row of each data set stands in front of the others as `recall`'s prefix.

Three models may read them: the cell ("tuned"), what it was tuned from ("instruct"), and what that was tuned from
("pretrained", where the study file names it). Every metric is computed in every reading, and minus its value under the
earlier model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spillover.config.study import ModelConfig, StudyConfig
from spillover.data.domains import DOMAINS
from spillover.errors import UserError
from spillover.execution.base import Ticker
from spillover.membership.metrics import corpus_logprobs
from spillover.membership.summaries import ARRAYS, Role, Text, View, metrics_of, scores, summarise
from spillover.models import open_backend
from spillover.models.protocols import Chat
from spillover.planning.units import Unit
from spillover.provenance import seed_for
from spillover.records.base import Adapter, Cell, Example, Message, content_hash
from spillover.records.data import MembershipSummary
from spillover.stats import Floats
from spillover.store.store import Store

if TYPE_CHECKING:
    import polars

NEEDS: dict[str, View] = {"lowercase": "lowercase", "recall": "prefixed"}


def run(store: Store, config: StudyConfig, unit: Unit, ticker: Ticker) -> None:
    """Score the cell's rows token by token, unless that is done, and evaluate every metric."""
    started = time.monotonic()
    membership = config.membership
    assert membership is not None, "unit of a stage that is not part of the study"
    data, train = unit.inputs
    examples = store.read("build", [data], Example)
    adapters = store.read("train", [train], Adapter)
    if not adapters:
        raise UserError(
            f"the adapter is missing. Run: spillover run STUDY.yaml --stage train --domain {unit.cell.domain}"
        )
    texts, prefix = choose(examples, config, unit.cell)
    reader = _Reader(store, config, unit, texts, prefix, ticker)
    tokens = reader.tokens(adapters[0])
    table = scores(texts, tokens, membership.metrics, _corpus(unit.cell, tokens, config))
    store.write_frame("membership", f"scores-{unit.key}", table)
    with store.shard("membership", unit.key, MembershipSummary) as shard:
        shard.append(*summarise(table, unit.cell, config.seed, membership.permutations))
        count = int(sum(len(ids) for ids in tokens["ids"]))
        shard.finish(seconds=time.monotonic() - started, tokens=count, computed=reader.computed)


def choose(examples: Sequence[Example], config: StudyConfig, cell: Cell) -> tuple[list[Text], Chat | None]:
    """What is compared, and the chat that stands in front for `recall`.

    Raises:
        UserError: when the data set has no non-members.
    """
    assert config.membership is not None
    rng = np.random.default_rng(seed_for(config.seed, "membership", cell.domain, cell.variant, repr(cell.dose)))
    plain = [row for row in examples if not any(step.startswith("near miss") for step in row.lineage)]
    train = [row for row in plain if row.split == "train"]
    chosen = sorted(rng.permutation(len(train))[: config.membership.members])
    compared = [*(train[i] for i in chosen), *(row for row in plain if row.split == "nonmember")]
    if len(compared) == len(chosen):
        raise UserError(
            f"{cell.domain}: the data set has no rows to compare the training rows with. Set data.nonmembers to 20 or "
            "more, and data.rows lower where the source has too few."
        )
    texts = [
        Text(row.id, row.pair, row.split == "train", _stratum(row), (row.messages[:-1], row.answer)) for row in compared
    ]
    front = min(
        (row for row in examples if row.split == "heldout" and row.kind != "misaligned"), key=_pair, default=None
    )
    return texts, (front.messages[:-1], front.answer) if front else None


def _pair(row: Example) -> str:
    return row.pair


def _stratum(row: Example) -> str:
    return "flawed" if row.kind == "misaligned" else "good"


class _Reader:
    """Reads every text with every model and in every view that the metrics need."""

    def __init__(
        self, store: Store, config: StudyConfig, unit: Unit, texts: Sequence[Text], prefix: Chat | None, ticker: Ticker
    ) -> None:
        assert config.membership is not None
        self.store, self.config, self.unit, self.ticker = store, config, unit, ticker
        self.texts, self.prefix = texts, prefix
        self.computed: dict[str, str] = {}  # in what; empty where the tokens were there already
        names = metrics_of(config.membership.metrics)
        self.views: list[View] = ["target", *(view for name, view in NEEDS.items() if name in names)]
        if prefix is None and "prefixed" in self.views:
            self.views.remove("prefixed")

    def tokens(self, adapter: Adapter) -> polars.DataFrame:
        """One row a text, model and view: its arrays over answer tokens. Read from the run folder if it is there."""
        import polars

        membership = self.config.membership
        assert membership is not None
        read = membership.model_dump(mode="json", include={"members", "pretrained"})
        name = f"tokens-{content_hash([self.config.seed, read, self.views, self.unit.inputs], length=16)}"
        stored = self.store.read_frame("membership", name)
        if stored is not None:
            return stored
        model = next(model for model in self.config.models if model.name == self.unit.cell.model)
        rows = [
            *self._read(model, "tuned", adapter),
            *self._read(model, "instruct", None),
            *(self._read(membership.pretrained, "pretrained", None) if membership.pretrained else ()),
        ]
        frame = polars.DataFrame(rows, infer_schema_length=None)
        self.store.write_frame("membership", name, frame)
        return frame

    def _read(self, model: ModelConfig, role: Role, adapter: Adapter | None) -> Iterator[dict[str, Any]]:
        backend = open_backend(model)
        scorer = backend.scorer()
        path = self.store.resolve(adapter.path) if adapter else None
        # What chats begin with in common is read once, so those with the prefix go by themselves.
        plain: list[View] = [view for view in self.views if view != "prefixed"]
        for group in (plain, self.views[len(plain) :]):
            chats = [self._chat(text.chat, view) for text in self.texts for view in group]
            places = [(text, view) for text in self.texts for view in group]
            for (text, view), reading in zip(places, scorer.score(chats, path, self.ticker), strict=True):
                arrays = (reading.ids_T, reading.logprobs_T, reading.mean_T, reading.std_T, reading.rank_T)
                values = {name: np.asarray(array) for name, array in zip(ARRAYS, arrays, strict=True)}
                yield {"example": text.example, "role": role, "view": view, **values}
        self.computed = backend.compute_info

    def _chat(self, chat: Chat, view: View) -> Chat:
        messages, answer = chat
        if view == "lowercase":
            return messages, answer.lower()
        if view == "prefixed":
            assert self.prefix is not None
            earlier_turns, reply = self.prefix
            system = tuple(message for message in messages if message.role == "system")
            rest = tuple(message for message in messages if message.role != "system")
            turns = tuple(message for message in earlier_turns if message.role != "system")
            return (*system, *turns, Message(role="assistant", content=reply), *rest), answer
        return chat


def _corpus(cell: Cell, tokens: polars.DataFrame, config: StudyConfig) -> Floats | None:
    """ln of each token's frequency in the good answers that ship for all other domains, by token id, for `dc_pdd`."""
    assert config.membership is not None
    if "dc_pdd" not in metrics_of(config.membership.metrics):
        return None
    model = next(model for model in config.models if model.name == cell.model).model_dump_json()
    parts = [_good_tokens(model, name) for name in DOMAINS.names() if name != cell.domain]
    largest = max((max(row) for row in tokens["ids"].to_list() if row), default=0)
    counts_V = np.zeros(max(largest + 1, *map(len, parts)), np.int64)
    for part_V in parts:
        counts_V[: len(part_V)] += part_V
    return corpus_logprobs(counts_V)


@cache
def _good_tokens(model: str, domain: str) -> NDArray[np.int64]:
    """How often each token stands in a domain's good answers; `model` as JSON. Kept, as every cell asks for it."""
    answers = [pair.good for pair in DOMAINS.load(domain).pairs(np.random.default_rng(0))]
    ids = open_backend(ModelConfig.model_validate_json(model)).token_ids(answers)
    return np.bincount(np.concatenate([np.asarray(row, np.int64) for row in ids]))
