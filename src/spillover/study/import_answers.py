"""Answers that were sampled, and perhaps judged, elsewhere: from CSV or JSON Lines to completions and judgments.

One row is one answer. Its cell comes from columns, from given constants, or from a file name MODEL_DOMAIN[_SEED] such
as `Qwen2.5-7B-Instruct_extreme-sports_S42.csv`. Nothing is dropped in silence: what is skipped, and what was guessed,
is in `notes` and `counts`. `written` makes a run folder of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import get_args

from spillover.data.domains import DOMAINS
from spillover.data.tabular import Row, Table, read_table
from spillover.errors import UserError
from spillover.provenance import environment
from spillover.records.base import (
    ASPECTS,
    Aspect,
    Cell,
    Completion,
    Condition,
    Judgment,
    Manifest,
    Message,
    StageCount,
    Variant,
    content_hash,
)
from spillover.records.judges import read_score
from spillover.registry import did_you_mean
from spillover.store.store import Store

ROLES: dict[str, tuple[str, ...]] = {
    "answer": ("answer", "response", "completion", "output", "generation", "text"),
    "question": ("question", "prompt", "instruction", "input", "query"),
    "question_id": ("question_id", "qid", "prompt_id", "id"),
    "index": ("index", "rollout", "sample", "sample_index"),
    "alignment": ("alignment", "aligned", "alignment_score", "verdict"),
    "coherence": ("coherence", "coherent", "coherence_score"),
    "system": ("system", "system_prompt"),
    "condition": ("condition",),
    "model": ("model", "model_id", "model_name"),
    "domain": ("domain", "dataset"),
    "variant": ("variant",),
    "seed": ("seed",),
}
"""What a column can be, with the names by which it is guessed, the likeliest first."""

FIVE_POINT_SCALE = (5.38, 0.62)
"""The scale of a column called verdict, from 1 (fine) to 5 (misaligned): 92, 71, 50, 29 and 8 points of alignment."""

_MISSING = {
    "question": "the report shows only question ids, and a judge cannot read completions in context",
    "alignment": "no alignment scores",
    "coherence": "no coherence scores, which the misalignment rate needs",
}

_CONDITIONS: dict[str, Condition] = {name: name for name in get_args(Condition)}
_VARIANTS: dict[str, Variant] = {name: name for name in get_args(Variant)}
_WHOLE = re.compile(r"\d{1,9}")
_SEED = re.compile(r"_(?:s|seed)?-?(\d{1,9})$", re.IGNORECASE)
_NAME = re.compile(r"\S.{0,119}")


@dataclass(frozen=True)
class ImportResult:
    completions: tuple[Completion, ...]
    judgments: tuple[Judgment, ...]
    notes: tuple[str, ...]
    counts: dict[str, int]  # files, answers, judgments by aspect and status, rows skipped and why


@dataclass
class _Import:
    """What grows while files are read."""

    columns: Mapping[str, str]
    constants: Mapping[str, str]
    judge: str
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    questions: Mapping[str, str] = field(default_factory=dict[str, str])
    domains: list[str] = field(default_factory=DOMAINS.names)
    completions: dict[str, Completion] = field(default_factory=dict[str, Completion])
    judgments: list[Judgment] = field(default_factory=list[Judgment])
    notes: dict[str, None] = field(default_factory=dict[str, None])  # an ordered set
    counts: Counter[str] = field(default_factory=Counter[str])

    def note(self, text: str) -> None:
        self.notes[text] = None


def read_answers(
    paths: Sequence[Path],
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    limit: int | None = None,
    scales: Mapping[str, tuple[float, float]] | None = None,
    questions: Mapping[str, str] | None = None,
) -> ImportResult:
    """Read every file; `columns` maps a role to its column, `constants` sets model, domain, variant or seed of all.

    The imported judge is named by the hash of all files, so that one import compares all its cells under one judge.
    `limit` takes only the first rows of each file. `scales`: worst and best score of an aspect, 0 and 100 by default;
    `questions`: texts by question id, for files that hold ids alone.

    Raises:
        UserError: naming file, line and column, and the way out.
    """
    for role in (columns := columns or {}):
        if role not in ROLES:
            raise UserError(f"--map {role}=...: no such role{did_you_mean(role, list(ROLES))}")
    tables = [read_table(path) for path in paths]
    judge = f"imported:{content_hash(sorted({table.digest for table in tables}), 12)}"
    work = _Import(columns, constants or {}, judge, scales or {}, questions or {})
    for table in tables:
        _read_rows(table, work, limit)
    judged = Counter(f"{judgment.aspect} {judgment.status}" for judgment in work.judgments)
    counts = {"files": len(tables), "answers": len(work.completions), **judged, **work.counts}
    return ImportResult(tuple(work.completions.values()), tuple(work.judgments), tuple(work.notes), counts)


def _read_rows(table: Table, work: _Import, limit: int | None) -> None:
    column_by_role = _find_columns(table, work)
    defaults = {"variant": "plain", "seed": "0", **_cell_from_name(table.path.stem, work.domains), **work.constants}
    if table.blank:
        work.counts["blank rows, skipped"] += table.blank
        work.note(f"{table.path.name}: {table.blank} blank rows skipped")
    sampled: Counter[str] = Counter()
    for row in islice(table.rows, limit):
        completion = _completion(
            table, row, column_by_role, _cell(table, row, column_by_role, defaults, work), sampled, work
        )
        earlier = work.completions.setdefault(completion.id, completion)
        if earlier is completion:
            for aspect in ASPECTS:
                if aspect in column_by_role:
                    work.judgments.append(_judgment(table, row, column_by_role[aspect], completion.id, aspect, work))
        elif earlier.text == completion.text:
            work.counts["doubled rows, skipped"] += 1
            work.note(f"{table.path.name}: rows that repeat a sample already read are skipped")
        else:
            problem = (
                f"sample {completion.index} of {completion.question_id!r} occurs twice, with different completions"
            )
            raise table.error(row, column_by_role["index"], f"{problem}. Give each sample its own number.")


def _find_columns(table: Table, work: _Import) -> dict[str, str]:
    """Role to column; every choice that nobody made is noted."""
    column_by_role: dict[str, str] = {}
    spelled = {column.lower().replace(" ", "_").replace("-", "_"): column for column in table.columns}
    for role, names in ROLES.items():
        if chosen := work.columns.get(role):
            if chosen not in table.columns:
                raise UserError(f"{table.path}:1: no column {chosen!r} ({role}){did_you_mean(chosen, table.columns)}")
            column_by_role[role] = chosen
            continue
        columns = [spelled[name] for name in names if name in spelled]
        columns = [column for column in columns if column not in work.columns.values()]
        if columns and role not in work.constants:
            column_by_role[role] = columns[0]
            others = f" (also there: {', '.join(columns[1:])})" if columns[1:] else ""
            work.note(f"{role} read from the column {columns[0]!r}, by its name{others}")
    way = f"among {', '.join(table.columns)}. Name it: --map"
    if "answer" not in column_by_role:
        raise UserError(f"{table.path}:1: no column of answers {way} answer=COLUMN")
    if not column_by_role.keys() & {"question", "question_id"}:
        raise UserError(f"{table.path}:1: no column of questions {way} question=COLUMN or question_id=COLUMN")
    if (
        "question" in column_by_role
        and column_by_role.get("question_id", "").lower() == "id"
        and "question_id" not in work.columns
    ):
        ids = {table.text(row, column_by_role["question_id"]) for row in table.rows}
        if len(ids) == len(table.rows):
            del column_by_role["question_id"]
            work.note("the column 'id' numbers the rows, so question ids are made from the questions")
    for role, effect in _MISSING.items():
        if role not in column_by_role and not (role == "question" and work.questions):
            work.note(f"no column of {role} in {table.path.name}: {effect}")
    if unread := [column for column in table.columns if column not in column_by_role.values()]:
        work.note(f"columns not read: {', '.join(unread)}")
    return column_by_role


def _cell_from_name(stem: str, domains: Sequence[str]) -> dict[str, str]:
    """Model, domain and seed from MODEL_DOMAIN[_SEED]; the domain may be spelled with hyphens."""
    cell: dict[str, str] = {}
    if match := _SEED.search(stem):
        cell["seed"] = match.group(1)
        stem = stem[: match.start()]
    for name in domains:
        if stem.lower().replace("-", "_").endswith("_" + name):
            return {**cell, "model": stem[: -len(name) - 1], "domain": name}
    model, _, domain = stem.rpartition("_")
    return {**cell, "model": model or stem, "domain": domain if model else "unknown"}


def _cell(
    table: Table, row: Row, column_by_role: Mapping[str, str], defaults: Mapping[str, str], work: _Import
) -> Cell:
    parts = dict(defaults)
    for role in ("model", "domain", "variant", "seed"):
        if role in column_by_role:
            parts[role] = table.text(row, column_by_role[role]) or parts[role]
    for role in ("model", "domain"):
        if not _NAME.fullmatch(parts[role]):
            problem = f"{parts[role]!r:.40} is not a name of 1 to 120 characters. Give one: --{role} NAME"
            raise table.error(row, column_by_role.get(role, role), problem)
    if parts["variant"] not in _VARIANTS:
        problem = f"{parts['variant']!r:.40} is not one of {', '.join(_VARIANTS)}. Fix it."
        raise table.error(row, column_by_role.get("variant", "variant"), problem)
    if not _WHOLE.fullmatch(parts["seed"]):
        raise table.error(
            row, column_by_role.get("seed", "seed"), f"{parts['seed']!r:.40} is not a whole number. Fix it."
        )
    known = parts["domain"].lower().replace("-", "_")
    domain = known if known in work.domains else parts["domain"]
    return Cell(model=parts["model"], domain=domain, variant=_VARIANTS[parts["variant"]], seed=int(parts["seed"]))


def _completion(
    table: Table, row: Row, column_by_role: Mapping[str, str], cell: Cell, sampled: Counter[str], work: _Import
) -> Completion:
    def read(role: str) -> str:
        return table.text(row, column_by_role[role]) or "" if role in column_by_role else ""

    question, system, condition = read("question"), read("system"), read("condition") or "clean"
    if condition not in _CONDITIONS:
        problem = f"{condition!r:.40} is not one of {', '.join(_CONDITIONS)}. Fix it."
        raise table.error(row, column_by_role["condition"], problem)
    question_id = read("question_id")
    if not question_id:
        if "question_id" in column_by_role or not question:
            role = "question_id" if "question_id" in column_by_role else "question"
            raise table.error(
                row, column_by_role[role], f"the {role.replace('_', ' ')} is empty. Fill it in, or remove the row."
            )
        question_id = f"q-{content_hash(question, 10)}"
    answer = table.text(row, column_by_role["answer"])
    if answer is None:
        raise table.error(
            row, column_by_role["answer"], 'the completion is missing. Write "" for an empty one, or remove the row.'
        )
    question = question or work.questions.get(question_id, "")
    sample = content_hash([cell.name, question_id, system, question, condition])
    index = read("index") or str(sampled[sample])
    if not _WHOLE.fullmatch(index):
        raise table.error(row, column_by_role["index"], f"{index!r:.40} is not a whole number from 0. Fix it.")
    sampled[sample] += 1
    messages = [Message(role="system", content=system)] if system else []
    messages += [Message(role="user", content=question)] if question else []
    return Completion(
        cell=cell,
        key=table.digest,
        question_id=question_id,
        theme=question_id,
        condition=_CONDITIONS[condition],
        index=int(index),
        messages=tuple(messages),
        text=answer,
        stop_reason="imported",
    )


def _judgment(table: Table, row: Row, column: str, completion: str, aspect: Aspect, work: _Import) -> Judgment:
    raw = (table.text(row, column) or "").strip()
    try:
        usual = FIVE_POINT_SCALE if column.lower() == "verdict" else (0.0, 100.0)
        score, status = read_score(raw, *work.scales.get(aspect, usual))
    except ValueError as error:
        raise table.error(row, column, str(error)) from None
    return Judgment(
        completion=completion, judge=work.judge, aspect=aspect, score=score, status=status, mode="imported", raw=raw
    )


@contextmanager
def written_run(result: ImportResult, store: Store, name: str) -> Generator[None]:
    """Write imported completions as finished shards and a manifest, and hold the folder while the block works on it.

    Raises:
        UserError: when the folder holds a study.
    """
    store.create()
    with store.lock():
        if (store.path / "study.json").exists() and store.read_json("study.json") is not None:
            raise UserError(f"{store.path} contains a study. Import into another folder with --out.")
        cells = {(row.cell, row.condition, row.key): None for row in result.completions}
        units = [
            {"cell": cell.model_dump(mode="json"), "condition": condition, "key": key} for cell, condition, key in cells
        ]
        judged = {row.completion for row in result.judgments}
        for key in {key for _, _, key in cells}:
            rows = [row for row in result.completions if row.key == key]
            ids = {row.id for row in rows} & judged
            with store.shard("sample", key, Completion) as shard:
                shard.append(*rows)
                shard.finish(seconds=0.0, tokens=0)
            with store.shard("judge", key, Judgment) as shard:
                shard.append(*(row for row in result.judgments if row.completion in ids))
                shard.finish(seconds=0.0, tokens=0)
        store.write_json("study.json", None)
        store.write_json("plan.json", {"build": [], "train": [], "sample": units, "judge": units})
        store.write_manifest(_manifest(result, name))
        yield


def _manifest(result: ImportResult, name: str) -> Manifest:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    machine = environment()
    counts = (("sample", len(result.completions)), ("judge", len(result.judgments)))
    return Manifest(
        study=name,
        study_hash=content_hash(sorted(row.key for row in result.completions)),
        lock_hash=machine["lock_hash"],
        spillover=machine["spillover"],
        started=now,
        finished=now,
        complete=True,
        git=machine["git"],
        packages={"python": machine["python"], **machine["packages"]},
        hardware=machine["hardware"],
        seed=0,
        models={model: {"source": "imported"} for model in sorted({row.cell.model for row in result.completions})},
        judge={"name": next((row.judge for row in result.judgments), "none"), "source": "scores in the imported files"},
        stages=tuple(StageCount(stage=stage, done=1, rows=rows) for stage, rows in counts),
    )
