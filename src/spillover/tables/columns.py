"""A run's answers and judgments as columns: what ranking a million judgments needs, without a record for each.

Only the fields that are counted are parsed. Whatever does not look as the records demand makes `read_columns`
return None, and the caller reads record by record, which names the damaged line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars

from spillover.records.base import ASPECTS, SCHEMA, STATUSES, Cell, Completion, Judgment
from spillover.store.store import Store
from spillover.tables.counts import CONDITIONS, ERROR, UNSCORED, VARIANTS, Rows, refuse_invalid

_CELL = {
    "model": polars.String,
    "domain": polars.String,
    "variant": polars.Enum(VARIANTS),
    "dose": polars.Float64,
    "seed": polars.Int64,
}
_ANSWERS: dict[str, Any] = {
    "schema": polars.Int64,
    "id": polars.String,
    "cell": polars.Struct(_CELL),
    "question_id": polars.String,
    "condition": polars.Enum(CONDITIONS),
    "status": polars.Enum(["ok", "error"]),
}
_JUDGMENTS: dict[str, Any] = {
    "schema": polars.Int64,
    "completion": polars.String,
    "judge": polars.String,
    "aspect": polars.Enum(ASPECTS),
    "score": polars.Float64,
    "status": polars.Enum(STATUSES),
}
_GROUP = ("model", "domain", "variant", "dose", "seed", "condition")


@dataclass(frozen=True)
class Columns:
    """`answers` and `judgments` in the order of their shards, each with the shard's key and the line in it."""

    answers: polars.DataFrame
    judgments: polars.DataFrame

    def rows(self) -> Rows:
        """What `counts.count_by_question` counts.

        Raises:
            UserError: when a completion or a judgment is given twice, or a judgment has no completion.
        """
        answers = self.answers.with_row_index("row")
        groups = answers.select(_GROUP).unique().sort(_GROUP).with_row_index("group")
        names = answers["question_id"].unique().sort()
        questions = polars.DataFrame({"question_id": names}).with_row_index("question")
        coded = answers.join(groups, on=_GROUP, how="left", maintain_order="left").join(
            questions, on="question_id", how="left", maintain_order="left"
        )
        joined = self.judgments.join(
            answers.select("id", "row").rename({"id": "completion"}),
            on="completion",
            how="left",
            maintain_order="left",
        )
        judges = tuple(self.judgments["judge"].unique().sort().to_list())
        refuse_invalid(
            judges=judges,
            repeated_completions=answers.height - answers["id"].n_unique(),
            unknown_ids=joined.filter(polars.col("row").is_null())["completion"].to_list()[:1],
            repeated_judgments=joined.height - joined.select("completion", "aspect").n_unique(),
        )
        status_N = np.full(answers.height, UNSCORED, dtype=np.int64)
        scores_N: dict[str, Any] = {}
        for aspect in ASPECTS:
            part = joined.filter(polars.col("aspect") == aspect)
            scores_N[aspect] = np.full(answers.height, np.nan)
            scores_N[aspect][part["row"].to_numpy()] = part["score"].to_numpy()
            if aspect == "alignment":
                status_N[part["row"].to_numpy()] = part["status"].to_physical().to_numpy()
        failed_N = (answers["status"] == "error").to_numpy()
        status_N[failed_N] = ERROR
        for score_N in scores_N.values():
            score_N[failed_N] = np.nan
        return Rows(
            keys=tuple(_key(row) for row in groups.iter_rows(named=True)),
            group_N=coded["group"].to_numpy().astype(np.int64),
            questions=tuple(names.to_list()),
            question_N=coded["question"].to_numpy().astype(np.int64),
            status_N=status_N,
            alignment_N=scores_N["alignment"],
            coherence_N=scores_N["coherence"],
            judges=judges,
        )

    def judged(self) -> Columns:
        """Only the answers that have a judgment."""
        return Columns(
            self.answers.join(self.judgments, left_on="id", right_on="completion", how="semi"), self.judgments
        )

    def lines_to_show(self, seed: int, most: int) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Lines by shard of at most `most` lowest, highest, random and unscored answers a group, and of their
        judgments.

        "Random" is by the hash of seed and id, as viewers of answers order them; equal scores too.
        """
        alignment = self.judgments.filter(polars.col("aspect") == "alignment").select("completion", "score")
        table = self.answers.join(alignment, left_on="id", right_on="completion", how="left", maintain_order="left")
        digests = [hashlib.blake2b(f"{seed}:{name}".encode()).hexdigest() for name in table["id"].to_list()]
        table = table.with_columns(shuffled=polars.Series(digests, dtype=polars.String)).sort("shuffled")
        scored, missing = table.filter(polars.col("score").is_not_null()), table.filter(polars.col("score").is_null())
        up = scored.sort("score", maintain_order=True)
        parts = [table, missing, up, up.reverse()]
        heads = [part.group_by(_GROUP, maintain_order=True).head(most).select("id", "key", "line") for part in parts]
        chosen = polars.concat(heads).unique("id")
        their_judgments = self.judgments.join(chosen.select("id"), left_on="completion", right_on="id", how="semi")
        return _lines(chosen), _lines(their_judgments)


def read_columns(
    store: Store, sampled: Sequence[str], judged: Sequence[str], stages: tuple[str, str] = ("sample", "judge")
) -> Columns | None:
    """The columns of these shards of the two stages; None where a row is not as it should be."""
    try:
        answers = _frame(store, stages[0], sampled, _ANSWERS).unnest("cell")
        judgments = _frame(store, stages[1], judged, _JUDGMENTS)
    except polars.exceptions.PolarsError:
        return None
    answer_complete = polars.all_horizontal(polars.col(*_GROUP, "id", "question_id", "status").is_not_null())
    score_matches_status = polars.col("score").is_not_null() == (polars.col("status") == "scored")
    score_in_range = polars.col("score").is_null() | polars.col("score").is_between(0, 100)
    judgment_complete = polars.all_horizontal(polars.col("completion", "judge", "aspect", "status").is_not_null())
    schema_known = polars.col("schema").is_null() | polars.col("schema").is_between(1, SCHEMA)
    if (
        not answers.select((answer_complete & schema_known).all()).item()
        or not judgments.select((score_matches_status & score_in_range & judgment_complete & schema_known).all()).item()
    ):
        return None
    return Columns(answers, judgments)


def read_records(
    store: Store, answers: dict[str, list[int]], judgments: dict[str, list[int]]
) -> tuple[list[Completion], list[Judgment]]:
    """The records of the given lines."""
    return (
        [row for key, lines in answers.items() for row in store.read_lines("sample", key, lines, Completion)],
        [row for key, lines in judgments.items() for row in store.read_lines("judge", key, lines, Judgment)],
    )


def _frame(store: Store, stage: str, keys: Sequence[str], schema: dict[str, Any]) -> polars.DataFrame:
    parts = [polars.DataFrame(schema=schema | {"key": polars.String, "line": polars.UInt32})]
    for key in keys:
        if content := store.content(stage, key):
            part = polars.read_ndjson(content, schema=schema).with_row_index("line")
            parts.append(part.select(*schema, polars.lit(key).alias("key"), "line"))
    return polars.concat(parts)


def _key(row: dict[str, Any]) -> Any:
    condition = row.pop("condition")
    row.pop("group")
    return Cell(**row), condition


def _lines(table: polars.DataFrame) -> dict[str, list[int]]:
    return {
        key: sorted(part["line"].to_list()) for (key,), part in sorted(table.partition_by("key", as_dict=True).items())
    }  # pyright: ignore[reportAssignmentType]
