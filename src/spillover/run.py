"""A run: the results of a study or of imported answers, read from a run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from spillover.config import RankConfig, StudyConfig, parse_study
from spillover.errors import UserError
from spillover.provenance import environment
from spillover.records import (
    Adapter,
    Cell,
    Completion,
    Condition,
    DomainScore,
    Example,
    GateScore,
    Judgment,
    Manifest,
    Part,
    StageCount,
    TriggerEffect,
    content_hash,
)
from spillover.report.data import Answer, ReportData
from spillover.report.page import write as write_page
from spillover.report.results import results, write_results
from spillover.stages import gate, rank
from spillover.stages.import_answers import ImportResult
from spillover.store import Store


class PlannedUnit(Part):
    """A line of plan.json."""

    cell: Cell
    condition: Condition | None
    key: str


class Run:
    """The results in one run folder. Everything is read when it is asked for; nothing heavy is imported."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """The run at `path`.

        Raises:
            UserError: when there is none.
        """
        store = Store(path)
        store.read_json("plan.json")
        return cls(store)

    @classmethod
    def import_answers(cls, found: ImportResult, out: str | os.PathLike[str], name: str) -> Run:
        """Write answers that were sampled elsewhere into a run folder of their own, rank them and write the report."""
        store = Store(out)
        store.create()
        with store.lock():
            if (store.path / "study.json").exists() and store.read_json("study.json") is not None:
                raise UserError(f"{store.path} holds a study. Import into another folder with --out.")
            cells = {(row.cell, row.condition, row.key): None for row in found.completions}
            units = [
                {"cell": cell.model_dump(mode="json"), "condition": condition, "key": key}
                for cell, condition, key in cells
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
            store.write_manifest(_import_manifest(found, name))
            run = cls(store)
            run.rank()
            run.report()
            return run

    @property
    def path(self) -> Path:
        return self.store.path

    @cached_property
    def plan(self) -> dict[str, list[PlannedUnit]]:
        """The units of the study as it stood when it was last started, by stage."""
        content = self.store.read_json("plan.json")
        return {stage: [PlannedUnit.model_validate(unit) for unit in units] for stage, units in content.items()}

    @cached_property
    def config(self) -> StudyConfig | None:
        """The study's configuration; None for imported answers."""
        content = self.store.read_json("study.json")
        return None if content is None else parse_study(content, str(self.path / "study.json"))

    @property
    def manifest(self) -> Manifest:
        return self.store.read_manifest()

    def progress(self) -> list[dict[str, Any]]:
        """How many units of each stage are complete, and how many rows they and the open ones hold."""
        return [
            {
                "stage": stage,
                "units": len({unit.key for unit in units}),
                "done": sum(self.store.is_done(stage, key) for key in {unit.key for unit in units}),
                "rows": sum(self.store.count(stage, key) for key in {unit.key for unit in units}),
            }
            for stage, units in self.plan.items()
        ]

    def examples(self) -> list[Example]:
        """Every row of every data set."""
        return self.store.read("build", self._keys("build"), Example)

    def adapters(self) -> list[Adapter]:
        """Every trained cell."""
        return self.store.read("train", self._keys("train"), Adapter)

    def completions(self) -> list[Completion]:
        """Every answer."""
        return self.store.read("sample", self._keys("sample"), Completion)

    def judgments(self) -> list[Judgment]:
        """Every verdict."""
        return self.store.read("judge", self._keys("judge"), Judgment)

    def ranking(self) -> tuple[DomainScore, ...]:
        """Cells under their conditions, most misaligned first within each variant."""
        return tuple(self.store.read("rank", [f"scores-{self._rank_key}"], DomainScore))

    def trigger_effect(self) -> tuple[TriggerEffect, ...]:
        """What the trigger does to each cell that was asked with and without it."""
        return tuple(self.store.read("rank", [f"effects-{self._rank_key}"], TriggerEffect))

    def gate_score(self) -> tuple[GateScore, ...]:
        """How well the trigger, and nothing else, opens each cell that was asked with it and off it."""
        return tuple(self.store.read("rank", [f"gates-{self._rank_key}"], GateScore))

    def rank(self) -> None:
        """Work out scores, effects and gates from what has been judged so far."""
        judged = [unit.key for unit in self.plan["judge"]]
        completions, judgments = self.completions(), self.judgments()
        found = rank.run(completions, judgments, self._rank_config)
        gates = gate.run(completions, judgments, self._rank_config)
        complete = all(self.store.is_done("judge", key) for key in judged)
        self._replace_rows(f"scores-{self._rank_key}", DomainScore, found.scores, complete)
        self._replace_rows(f"effects-{self._rank_key}", TriggerEffect, found.effects, complete)
        self._replace_rows(f"gates-{self._rank_key}", GateScore, gates, complete)

    def results(self) -> dict[str, Any]:
        """Ranking, trigger effects and manifest as plain data: what results.json holds."""
        return results(self._report_data)

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write report.html, and results.json beside it; returns the page's path."""
        page = Path(path) if path is not None else self.path / "report.html"
        data = self._report_data
        write_results(data, page.with_name("results.json"))
        return write_page(data, page)

    @property
    def _report_data(self) -> ReportData:
        verdicts = {(row.completion, row.aspect): row for row in self.judgments()}
        answers = tuple(
            Answer(row, verdicts.get((row.id, "alignment")), verdicts.get((row.id, "coherence")))
            for row in self.completions()
        )
        manifest = self.manifest
        return ReportData(
            manifest=manifest,
            config=self.config,
            scores=self.ranking(),
            effects=self.trigger_effect(),
            gates=self.gate_score(),
            adapters=tuple(self.adapters()),
            answers=answers,
            judge=manifest.judge,
        )

    @property
    def _rank_config(self) -> RankConfig:
        return self.config.rank if self.config else RankConfig()

    @cached_property
    def _rank_key(self) -> str:
        return content_hash([self._rank_config.hash(), *self._keys("judge")], length=16)

    def _keys(self, stage: str) -> list[str]:
        return list(dict.fromkeys(unit.key for unit in self.plan[stage]))

    def _replace_rows(
        self,
        key: str,
        kind: type[DomainScore] | type[TriggerEffect] | type[GateScore],
        rows: Sequence[DomainScore] | Sequence[TriggerEffect] | Sequence[GateScore],
        complete: bool,
    ) -> None:
        self.store.write_text(f"rows/rank/{key}.jsonl", "".join(f"{row.model_dump_json()}\n" for row in rows))
        with self.store.shard("rank", key, kind) as shard:
            shard.finish(complete=complete)


def _import_manifest(found: ImportResult, name: str) -> Manifest:
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
