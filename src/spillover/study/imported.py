"""Answers that were sampled elsewhere, written into a run folder of their own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime

from spillover.errors import UserError
from spillover.provenance import environment
from spillover.records.base import Completion, Judgment, Manifest, StageCount, content_hash
from spillover.store.store import Store
from spillover.study.import_answers import ImportResult


@contextmanager
def written(found: ImportResult, store: Store, name: str) -> Generator[None]:
    """Write them as finished shards and a manifest, and hold the folder while the block works on it.

    Raises:
        UserError: when the folder holds a study.
    """
    store.create()
    with store.lock():
        if (store.path / "study.json").exists() and store.read_json("study.json") is not None:
            raise UserError(f"{store.path} contains a study. Import into another folder with --out.")
        cells = {(row.cell, row.condition, row.key): None for row in found.completions}
        units = [
            {"cell": cell.model_dump(mode="json"), "condition": condition, "key": key} for cell, condition, key in cells
        ]
        judged = {row.completion for row in found.judgments}
        for key in {key for _, _, key in cells}:
            rows = [row for row in found.completions if row.key == key]
            ids = {row.id for row in rows} & judged
            with store.shard("sample", key, Completion) as shard:
                shard.append(*rows)
                shard.finish(seconds=0.0, tokens=0)
            with store.shard("judge", key, Judgment) as shard:
                shard.append(*(row for row in found.judgments if row.completion in ids))
                shard.finish(seconds=0.0, tokens=0)
        store.write_json("study.json", None)
        store.write_json("plan.json", {"build": [], "train": [], "sample": units, "judge": units})
        store.write_manifest(_manifest(found, name))
        yield


def _manifest(found: ImportResult, name: str) -> Manifest:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    machine = environment()
    counts = (("sample", len(found.completions)), ("judge", len(found.judgments)))
    return Manifest(
        study=name,
        study_hash=content_hash(sorted(row.key for row in found.completions)),
        lock_hash=machine["lock_hash"],
        spillover=machine["spillover"],
        started=now,
        finished=now,
        complete=True,
        git=machine["git"],
        packages={"python": machine["python"], **machine["packages"]},
        hardware=machine["hardware"],
        seed=0,
        models={model: {"source": "imported"} for model in sorted({row.cell.model for row in found.completions})},
        judge={"name": next((row.judge for row in found.judgments), "none"), "source": "scores in the imported files"},
        stages=tuple(StageCount(stage=stage, done=1, rows=rows) for stage, rows in counts),
    )
