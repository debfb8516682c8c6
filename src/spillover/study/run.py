"""A run: the results of a study or of imported answers, read from a run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spillover.analyses.agreement import cascade_summary as mix
from spillover.analyses.agreement import compute as agree
from spillover.analyses.agreement import correct
from spillover.analyses.agreement import labels as label
from spillover.analyses.ranking import compute as rank
from spillover.analyses.trigger import compute as gate
from spillover.config.study import RankConfig
from spillover.directions.direction import Direction
from spillover.records.base import DomainScore, Record, TriggerEffect, TriggerSpecificity, content_hash
from spillover.records.comparisons import Comparisons
from spillover.records.data import DiversityScore, MembershipSummary, Susceptibility
from spillover.records.directions import Directions, Reader, Source
from spillover.records.judges import Agreement, CascadeSummary, CorrectedRate, InDomainRate, LabelSheet, RunJudge
from spillover.records.report_data import Answer, OtherJudge, ReportData
from spillover.records.transfer import TransferCell
from spillover.report.browser import PER_GROUP
from spillover.store.store import Store
from spillover.study import imported, run_directions
from spillover.study.import_answers import ImportResult
from spillover.study.page import write as write_page
from spillover.study.results import results, write_results
from spillover.study.run_steering import SteeredRun
from spillover.tables.columns import records
from spillover.tables.counts import Tally, count


class Run(SteeredRun):
    """The results in one run folder. Everything is read when it is asked for; nothing heavy is imported."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._counted: dict[tuple[Any, ...], Tally] = {}

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
        with imported.written(found, store, name):
            run = cls(store)
            run.rank()
            run.report()
            return run

    def ranking(self, judge: str | None = None) -> tuple[DomainScore, ...]:
        """Cells under their conditions, most misaligned first within each variant."""
        return tuple(self.store.read("rank", [f"scores-{self._rank_key(judge)}"], DomainScore))

    def trigger_effect(self, judge: str | None = None) -> tuple[TriggerEffect, ...]:
        """What the trigger does to each cell that was asked with and without it."""
        return tuple(self.store.read("rank", [f"effects-{self._rank_key(judge)}"], TriggerEffect))

    def gate_score(self, judge: str | None = None) -> tuple[TriggerSpecificity, ...]:
        """How well the trigger, and nothing else, opens each cell that was asked with it and off it."""
        return tuple(self.store.read("rank", [f"gates-{self._rank_key(judge)}"], TriggerSpecificity))

    def standing(self, judge: str | None = None) -> Comparisons | None:
        """How the cells stand to one another; None before anything was ranked."""
        return next(iter(self.store.read("rank", [f"standing-{self._rank_key(judge)}"], Comparisons)), None)

    def rank(self, judge: str | None = None) -> None:
        """Work out scores, effects and gates from what one judge has judged so far."""
        key, judged = self._rank_key(judge), self._judge_keys(judge)
        others = self._others_counted(judge)
        rows = self.rows(judge)
        found, gates = rank.of_rows(rows, self.rank_config, others), gate.of_rows(rows, self.rank_config)
        complete = all(self.store.is_done("judge", key) for key in judged)
        self._replace_rows(f"scores-{key}", DomainScore, found.scores, complete)
        self._replace_rows(f"effects-{key}", TriggerEffect, found.effects, complete)
        self._replace_rows(f"gates-{key}", TriggerSpecificity, gates, complete)
        self._replace_rows(f"standing-{key}", Comparisons, [found.standing], complete)
        if (who := self.judge(judge)) and who.identity.startswith("cascade:"):
            mixed = mix.run(self.completions(), self.judgments(judge), self.rank_config, self.manifest.seed)
            self._replace_rows(f"mix-{key}", CascadeSummary, mixed, complete)

    def compare(self) -> None:
        """Rank by every judge besides the first, and work out how far each agrees with it and what that corrects."""
        judges = self.judges()
        if len(judges) < 2:
            return
        agreements: list[Agreement] = []
        corrected: list[CorrectedRate] = []
        first, seed = judges[0], self.manifest.seed
        completions, judged = self.completions(), self.judgments(first.identity)
        for other in judges[1:]:
            self.rank(other.identity)
            again, names = self.judgments(other.identity), (first.identity, other.identity)
            agreements += agree.run(completions, judged, again, names, self.rank_config, seed, parts=False)
            if other.partial:
                chances = self.chances(other)
                corrected += correct.run(completions, judged, again, names, self.rank_config, chances)
        self._replace_rows(f"agree-{self._rank_key()}", Agreement, agreements, True)
        self._replace_rows(f"corrected-{self._rank_key()}", CorrectedRate, corrected, True)

    def agreements(self) -> tuple[Agreement, ...]:
        """How far each other judge agrees with the first."""
        return tuple(self.store.read("rank", [f"agree-{self._rank_key()}"], Agreement))

    def mix(self, judge: str | None = None) -> CascadeSummary | None:
        """Who of a cascade's judges gave the verdicts, and how far they differ; None where the judge is no cascade."""
        return next(iter(self.store.read("rank", [f"mix-{self._rank_key(judge)}"], CascadeSummary)), None)

    def corrected(self) -> tuple[CorrectedRate, ...]:
        """Rates of the first judge, corrected by verdicts of people or of a judge on a part of the answers."""
        return tuple(self.store.read("rank", [f"corrected-{self._rank_key()}"], CorrectedRate))

    def echoes(self) -> tuple[InDomainRate, ...]:
        """Misalignment with and without answers that talk in the training subject; empty before `spillover echo`."""
        return tuple(self.store.read("rank", [f"echo-{self._rank_key()}"], InDomainRate))

    def write_echoes(self, rows: Sequence[InDomainRate]) -> None:
        """Keep them for the report."""
        self._replace_rows(f"echo-{self._rank_key()}", InDomainRate, rows, True)

    def transfer(self, judge: str | None = None) -> tuple[TransferCell, ...]:
        """What each cell says to the held-out questions of each domain; empty where the study does not ask for it."""
        return tuple(self.store.read("rank", [self._transfer_key(judge)], TransferCell))

    def keep_transfer(self, rows: Sequence[TransferCell], judge: str | None = None) -> None:
        """Put one judge's matrix in the place of the last."""
        self._replace_rows(self._transfer_key(judge), TransferCell, rows, True)

    def _transfer_key(self, judge: str | None) -> str:
        who = self.judge(judge)
        if who is None or not who.shards:
            return f"transfer-{self.data_key}"
        return f"transfer-{content_hash([self._rank_key(judge), who.graded], length=16)}"

    def chances(self, judge: RunJudge) -> Mapping[str, float] | None:
        """The chance with which each answer came to be labelled by a person; None for other judges."""
        sheets = [LabelSheet.model_validate(self.store.read_json(name)) for name in judge.sheets]
        return label.chances(sheets) if sheets else None

    def results(self, judge: str | None = None) -> dict[str, Any]:
        """Ranking, trigger effects and manifest as plain data: what results.json holds."""
        return results(self._report_data(judge, ()))

    def report(self, path: str | os.PathLike[str] | None = None, judge: str | None = None) -> Path:
        """Write report.html, and results.json beside it; returns the page's path. `judge`: the main one."""
        page = Path(path) if path is not None else self.path / "report.html"
        data = self._report_data(judge, self._shown(judge))
        write_results(data, page.with_name("results.json"))
        return write_page(data, page)

    def _shown(self, judge: str | None) -> tuple[Answer, ...]:
        """The answers that the page may show, with their verdicts."""
        columns = self._columns(judge)
        if columns is None:
            completions, judgments = self.completions(), self.judgments(judge)
        else:
            completions, judgments = records(self.store, *columns.some(self.manifest.seed, PER_GROUP))
        verdicts = {(row.completion, row.aspect): row for row in judgments}
        return tuple(
            Answer(row, verdicts.get((row.id, "alignment")), verdicts.get((row.id, "coherence"))) for row in completions
        )

    def _report_data(self, judge: str | None, answers: tuple[Answer, ...]) -> ReportData:
        main, manifest = self.judge(judge), self.manifest
        return ReportData(
            manifest=manifest,
            config=self.config,
            scores=self.ranking(judge),
            effects=self.trigger_effect(judge),
            gates=self.gate_score(judge),
            standing=self.standing(judge),
            adapters=tuple(self.adapters()),
            answers=answers,
            judge=main.about if main is not None and main.about else manifest.judge,
            others=tuple(OtherJudge(other, self.ranking(other.identity)) for other in self.judges() if other != main),
            agreements=self.agreements(),
            corrected=self.corrected(),
            mixes=tuple(found for other in self.judges() if (found := self.mix(other.identity))),
            echoes=self.echoes() if judge is None else (),
            memberships=self.memberships(),
            diversity=self.diversity(),
            susceptibility=self.susceptibility() if judge is None else (),
            directions=self.directions() if judge is None else Directions(),
            transfer=self.transfer(judge),
            steering_points=self.steering_points() if judge is None else (),
            steering_effects=self.steering_effects() if judge is None else (),
            steering_squares=self.steering_squares() if judge is None else (),
        )

    def memberships(self) -> tuple[MembershipSummary, ...]:
        """How well each metric tells training rows from non-members, by cell, and over all domains together."""
        together = self.store.read("rank", [f"pooled-{self.data_key}"], MembershipSummary)
        return (*self.store.read("membership", self._keys("membership"), MembershipSummary), *together)

    def diversity(self) -> tuple[DiversityScore, ...]:
        """How diverse each data set is."""
        return tuple(self.store.read("diversity", self._keys("diversity"), DiversityScore))

    def susceptibility(self) -> tuple[Susceptibility, ...]:
        """What known of each data set goes with its cells' misalignment; empty before it was worked out."""
        return tuple(self.store.read("rank", [f"susceptibility-{self.data_key}"], Susceptibility))

    def directions(self) -> Directions:
        """What moved inside; empty before it was worked out."""
        return run_directions.read(self.store, self.data_key)

    def direction(
        self,
        domain: str,
        method: str = "mean_difference",
        layer: int | None = None,
        source: Source = "judged",
        reader: Reader = "tuned",
        cell: str | None = None,
    ) -> Direction:
        """One direction, from aligned to misaligned.

        Args:
            domain: whose.
            method: `spillover list methods`.
            layer: None is that of the run's tables.
            source: who labelled the answers: the judge, or the data set its held-out pairs.
            reader: whose states: the fine-tuned model's, or its base's reading the same texts.
            cell: the cell's name, where the domain has several.

        Raises:
            UserError: when there is none, or several are meant.
        """
        found = run_directions.choose(self.directions(), domain, method, source, reader, cell)
        return run_directions.load_at(self.store, found, layer)

    def keep(self, name: str, kind: type[Record], rows: Sequence[Record]) -> None:
        """Put rows that were worked out from the data sets and the first judge's verdicts in the place of the last."""
        self._replace_rows(f"{name}-{self.data_key}", kind, rows, True)

    @property
    def data_key(self) -> str:
        """Of what is worked out from data sets, states, answers about other domains, and the first judge's verdicts."""
        stages = ("membership", "diversity", "direct", "ask", "grade")
        return content_hash([self._rank_key(), *(key for stage in stages for key in self._keys(stage))], length=16)

    @property
    def rank_config(self) -> RankConfig:
        """Thresholds and confidence of the study, or the usual ones for imported answers."""
        return self.config.rank if self.config else RankConfig()

    def _others_counted(self, name: str | None) -> list[Tally]:
        """What every other judge says; people, who label a sample of unequal chances, are left out."""
        mine, counted = self.judge(name), list[Tally]()
        for other in self.judges():
            if mine is None or other.identity == mine.identity or other.source == "human":
                continue
            stamp = self._stamp(other.identity)
            if stamp not in self._counted:
                self._counted[stamp] = count(self.rows(other.identity), self.rank_config)
            counted.append(self._counted[stamp])
        return counted

    def _rank_key(self, judge: str | None = None) -> str:
        return content_hash([self.rank_config.hash(), *self._judge_keys(judge)], length=16)

    def _replace_rows(
        self,
        key: str,
        kind: type[Record],
        rows: Sequence[Record],
        complete: bool,
    ) -> None:
        self.store.replace("rank", key, rows)
        with self.store.shard("rank", key, kind) as shard:
            shard.finish(complete=complete)
