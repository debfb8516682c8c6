"""What lies in a run folder: the plan, data sets, adapters, answers, and the judgments of each judge."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import polars

from spillover.config.study import RankConfig, StudyConfig, parse_study
from spillover.errors import UserError
from spillover.records.base import (
    Adapter,
    Cell,
    Completion,
    Condition,
    Example,
    Judgment,
    Manifest,
    Part,
    Record,
    content_hash,
)
from spillover.records.judges import RunJudge
from spillover.registry import did_you_mean
from spillover.store.store import Store
from spillover.tables.columns import Columns, read_columns
from spillover.tables.counts import Counts, Rows, count_by_question, join_judgments

R = TypeVar("R", bound=Record)


class PlannedUnit(Part):
    """A line of plan.json."""

    cell: Cell
    condition: Condition | None
    key: str
    asked: str | None = None


class RunFolder:
    """The rows of one run folder, read when they are asked for; analyses compute from it and keep rows in it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: tuple[tuple[Any, ...], Columns | None] | None = None
        self._joined: tuple[tuple[Any, ...], Rows] | None = None
        self._counts: dict[tuple[Any, ...], Counts] = {}

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
        try:
            return None if content is None else parse_study(content, str(self.path / "study.json"))
        except UserError as error:
            raise UserError(f"{error}\nIf another version of spillover wrote it, use that version.") from None

    def lacks(self, what: str, sections: str) -> UserError:
        """That there is none of it here, and the way out; imported answers have no study file to ask for it."""
        if self.config is None:
            return UserError(
                f"{self.path} has no {what}: it contains imported completions, and this needs the models of a study. "
                "Start one: spillover run STUDY.yaml"
            )
        return UserError(
            f"{self.path} has no {what}. Add {sections} to its study file and run it again; finished training and "
            "judgments "
            "are kept."
        )

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

    def complete(self, stage: str) -> list[str]:
        """The shards of a stage into which no more rows come."""
        return [key for key in self.keys(stage) if self.store.is_done(stage, key)]

    def begun(self, *stages: str) -> int:
        """How many rows lie in shards of these stages that are not complete."""
        left = ((stage, key) for stage in stages for key in self.keys(stage) if not self.store.is_done(stage, key))
        return sum(self.store.count(*unit) for unit in left)

    def examples(self) -> list[Example]:
        """Every row of every data set."""
        return self.store.read("build", self.keys("build"), Example)

    def adapters(self) -> list[Adapter]:
        """Every trained cell."""
        return self.store.read("train", self.keys("train"), Adapter)

    def completions(self) -> list[Completion]:
        """Every answer."""
        return self.store.read("sample", self.keys("sample"), Completion)

    def judges(self) -> tuple[RunJudge, ...]:
        """Who has judged this run: the study's own judge or the imported scores first, then the others."""
        first = self.store.first("judge", self.keys("judge"), Judgment)
        others = self._other_judges()
        if first is None:
            return others
        about = self.manifest.judge if self.store.has("manifest.json") else {}
        source = "imported" if self.config is None else "study"
        own = RunJudge(identity=first.judge, source=source, about=about)
        return (own, *(judge for judge in others if judge.identity != own.identity))

    def judge(self, name: str | None = None) -> RunJudge | None:
        """The judge of that identity or its beginning, such as its name; without a name the first one, if any.

        Raises:
            UserError: when no judge, or more than one, is meant.
        """
        judges = self.judges()
        if name is None:
            return judges[0] if judges else None
        known = [judge.identity for judge in judges]
        found = [judge for judge in judges if judge.identity == name]
        found = found or [judge for judge in judges if judge.identity.startswith(name)]
        if not found:
            hint = did_you_mean(name, known) if known else ""
            raise UserError(f"{self.path} has no judge {name!r}{hint}. Run: spillover judge RUN --judge JUDGE")
        if len(found) > 1:
            many = ", ".join(judge.identity for judge in found)
            raise UserError(f"{name!r} is ambiguous: {many}. Write more of the name.")
        return found[0]

    def add_judge(self, judge: RunJudge) -> None:
        """Write down a judge besides the study's own, in the place of what was known of it."""
        others = [other for other in self._other_judges() if other.identity != judge.identity]
        self.store.write_json("judges.json", [other.model_dump(mode="json") for other in (*others, judge)])

    def judgments(self, judge: str | None = None) -> list[Judgment]:
        """Every judgment of one judge."""
        return self.store.read("judge", self._judge_keys(judge), Judgment)

    def asked_keys(self, domain: str, judge: str | None = None) -> tuple[list[str], list[str]]:
        """The shards of the answers to a domain's held-out questions, and those of one judge's judgments on them."""
        asked, graded = ([u.key for u in self.plan.get(s, []) if u.asked == domain] for s in ("ask", "grade"))
        who = self.judge(judge)
        if who is None or not who.shards:
            return asked, graded
        return asked, [who.graded[key] for key in asked if key in who.graded]

    def asked(self, domain: str, judge: str | None = None) -> tuple[list[Completion], list[Judgment]]:
        """Answers to a domain's held-out questions, and one judge's judgments on them.

        Raises:
            UserError: when nobody was asked about it.
        """
        asked, graded = self.asked_keys(domain, judge)
        if not asked:
            known = sorted({unit.asked or "" for unit in self.plan.get("ask", [])})
            hint = did_you_mean(domain, known) if known else ". Add 'transfer: {}' to its study file and run it again"
            raise UserError(f"{self.path} has no completions about {domain!r}{hint}.")
        return self.store.read("ask", asked, Completion), self.store.read("grade", graded, Judgment)

    def rows(self, judge: str | None = None) -> Rows:
        """Answers and judgments, joined; another judge may have seen a part of the answers only."""
        stamp = self._stamp(judge)
        if self._joined is None or self._joined[0] != stamp:
            self._joined = (stamp, self._rows(judge))
        return self._joined[1]

    def _rows(self, judge: str | None) -> Rows:
        who, columns = self.judge(judge), self.columns(judge)
        partial = who is not None and bool(who.shards)
        if columns is not None:
            return (columns.judged() if partial else columns).rows()
        completions, judgments = self.completions(), self.judgments(judge)
        if partial:
            chosen = {row.completion for row in judgments}
            completions = [row for row in completions if row.id in chosen]
        return join_judgments(completions, judgments)

    def texts(self) -> list[str]:
        """Every answer's text, in the order of the rows by the first judge."""
        contents = (self.store.content("sample", key) for key in self.keys("sample"))
        try:
            frames = [polars.read_ndjson(content, schema={"text": polars.String}) for content in contents if content]
        except polars.exceptions.PolarsError:
            return [row.text for row in self.completions()]
        return [text for frame in frames for text in frame["text"].to_list()]

    def counts(self, judge: str | None = None) -> Counts:
        """The same as counts by cell, condition and question; kept until rows are added."""
        stamp = self._stamp(judge)
        if stamp not in self._counts:
            self._counts[stamp] = count_by_question(self.rows(judge), self.rank_config)
        return self._counts[stamp]

    def asked_rows(self, domain: str, judge: str | None = None) -> Rows:
        """Answers to a domain's held-out questions, joined with one judge's judgments."""
        asked, graded = self.asked_keys(domain, judge)
        columns = read_columns(self.store, asked, graded, ("ask", "grade"))
        return columns.rows() if columns is not None else join_judgments(*self.asked(domain, judge))

    def columns(self, judge: str | None) -> Columns | None:
        """The rows as they are on disk now; those read last are kept, as ranking and reporting follow each other."""
        stamp = self._stamp(judge)
        if self._read is None or self._read[0] != stamp:
            self._read = (stamp, read_columns(self.store, self.keys("sample"), self._judge_keys(judge)))
        return self._read[1]

    def _stamp(self, judge: str | None) -> tuple[Any, ...]:
        """Changes with every row that is written for this judge."""
        sampled, judged = self.keys("sample"), self._judge_keys(judge)
        return (*sampled, *judged, self.store.size("sample", sampled), self.store.size("judge", judged))

    def _judge_keys(self, name: str | None) -> list[str]:
        """The shards of a judge in the study's order; of the first judge without a name."""
        judge = self.judge(name)
        if judge is None or not judge.shards:
            return self.keys("judge")
        return [judge.shards[key] for key in self.keys("sample") if key in judge.shards]

    def _other_judges(self) -> tuple[RunJudge, ...]:
        found = self.store.read_json("judges.json") if self.store.has("judges.json") else []
        return tuple(RunJudge.model_validate(judge) for judge in found)

    def keys(self, stage: str) -> list[str]:
        """The shards of a stage, in the order of the plan."""
        return list(dict.fromkeys(unit.key for unit in self.plan.get(stage, [])))

    # ---- what analyses compute: rows of the stage rank, named by what they were computed from ----

    def keep(self, name: str, kind: type[Record], rows: Iterable[Record], complete: bool = True) -> None:
        """Put rows in the place of those of that name."""
        self.store.replace("rank", name, rows)
        with self.store.shard("rank", name, kind) as shard:
            shard.finish(complete=complete)

    def kept(self, name: str, kind: type[R]) -> tuple[R, ...]:
        """The rows of that name; none before they were computed."""
        return tuple(self.store.read("rank", [name], kind))

    @property
    def rank_config(self) -> RankConfig:
        """Thresholds and confidence of the study, or the usual ones for imported answers."""
        return self.config.rank if self.config else RankConfig()

    def judge_key(self, judge: str | None = None) -> str:
        """Names what is computed from one judge's judgments."""
        return content_hash([self.rank_config.hash(), *self._judge_keys(judge)], length=16)

    def judged(self, judge: str | None = None) -> bool:
        """Whether that judge has judged all that the study has planned."""
        return all(self.store.is_done("judge", key) for key in self._judge_keys(judge))

    @property
    def data_key(self) -> str:
        """Names what is computed from data sets, states, transfer completions and the first judge's judgments."""
        stages = ("membership", "diversity", "direct", "ask", "grade")
        return content_hash([self.judge_key(), *(key for stage in stages for key in self.keys(stage))], length=16)
