"""A run: the results of a study or of imported answers, read from a run folder."""

from __future__ import annotations

import os
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, TypeVar

from spillover import analyses
from spillover.analyses.agreement import cascade_summary
from spillover.analyses.directions import compute as direction_tables
from spillover.config.study import SteerConfig
from spillover.directions.direction import Direction
from spillover.errors import UserError
from spillover.planning.cost import StageCost
from spillover.planning.units import asked_data
from spillover.progress import Progress
from spillover.records.base import DomainScore, Failure, Record, TriggerEffect, TriggerSpecificity
from spillover.records.comparisons import Comparisons
from spillover.records.data import DiversityScore, MembershipSummary, Susceptibility
from spillover.records.directions import Directions, Reader, Source
from spillover.records.judges import Agreement, CascadeSummary, CorrectedRate, InDomainRate
from spillover.records.report_data import Answer, OtherJudge, ReportData
from spillover.records.steering import SteeringEffect, SteeringMatrixCell, SteeringPoint
from spillover.records.transfer import TransferCell
from spillover.report.browser import PER_GROUP
from spillover.store.store import Store
from spillover.study import steering
from spillover.study.import_answers import ImportResult, written_run
from spillover.study.page import write as write_page
from spillover.study.results import results, write_results
from spillover.tables.columns import read_records
from spillover.tables.run_folder import RunFolder

R = TypeVar("R", bound=Record)


class Run(RunFolder):
    """The results in one run folder. Everything is read when it is asked for; nothing heavy is imported."""

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
    def import_answers(cls, result: ImportResult, out: str | os.PathLike[str], name: str) -> Run:
        """Write answers that were sampled elsewhere into a run folder of their own, rank them and write the report."""
        store = Store(out)
        with written_run(result, store, name):
            run = cls(store)
            run.rank()
            run.report()
            return run

    # ---- computing: the table of analyses ----

    def rank(self, judge: str | None = None) -> None:
        """Compute scores and every analysis of one judge's judgments so far."""
        for analysis in analyses.table().values():
            if analysis.compute and analysis.possible(self):
                analysis.compute(self, judge)

    def rank_others(self) -> None:
        """The same by every judge besides the first."""
        for other in self.judges()[1:]:
            self.rank(other.identity)

    def conclude(self, *names: str) -> None:
        """Compute the analyses that a run has once, not per judge: those named, or all."""
        table = analyses.table()
        for name in TopologicalSorter({name: table[name].after for name in table}).static_order():
            if (not names or name in names) and (conclude := table[name].conclude) and table[name].possible(self):
                conclude(self)

    # ---- reading ----

    def of(self, kind: type[R], judge: str | None = None) -> tuple[R, ...]:
        """The rows of that kind that an analysis has kept; none before they were computed."""
        return analyses.read_rows(self, kind, judge)

    def ranking(self, judge: str | None = None) -> tuple[DomainScore, ...]:
        """Cells under their conditions, most misaligned first within each variant."""
        return self.of(DomainScore, judge)

    def trigger_effect(self, judge: str | None = None) -> tuple[TriggerEffect, ...]:
        """Effect of the trigger on each cell that was sampled with and without it."""
        return self.of(TriggerEffect, judge)

    def gate_score(self, judge: str | None = None) -> tuple[TriggerSpecificity, ...]:
        """Specificity of the trigger in each cell of the battery."""
        return self.of(TriggerSpecificity, judge)

    def comparisons(self, judge: str | None = None) -> Comparisons | None:
        """Pairwise comparisons of the cells; None before ranking."""
        return next(iter(self.of(Comparisons, judge)), None)

    def agreements(self) -> tuple[Agreement, ...]:
        """Agreement of each other judge with the first."""
        return self.of(Agreement)

    def cascade_summary(self, judge: str | None = None) -> CascadeSummary | None:
        """Judgments of a cascade by judge, and their differences; None if the judge is not a cascade."""
        return cascade_summary.kept(self, judge)

    def corrected(self) -> tuple[CorrectedRate, ...]:
        """Rates of the first judge, corrected by judgments of people or another judge on part of the completions."""
        return self.of(CorrectedRate)

    def in_domain(self) -> tuple[InDomainRate, ...]:
        """Misalignment with and without in-domain responses; empty before `spillover echo`."""
        return self.of(InDomainRate)

    def transfer(self, judge: str | None = None) -> tuple[TransferCell, ...]:
        """The transfer matrix: every cell on held-out questions of every domain; empty without the section transfer."""
        return self.of(TransferCell, judge)

    def memberships(self) -> tuple[MembershipSummary, ...]:
        """How well each metric separates training rows from non-members, by cell and over all domains."""
        return self.of(MembershipSummary)

    def diversity(self) -> tuple[DiversityScore, ...]:
        """Diversity of each data set."""
        return self.of(DiversityScore)

    def susceptibility(self) -> tuple[Susceptibility, ...]:
        """Association of data-set features with misalignment; empty before it is computed."""
        return self.of(Susceptibility)

    def steering_points(self) -> tuple[SteeringPoint, ...]:
        """Rates of the models under every intervention."""
        return self.of(SteeringPoint)

    def steering_effects(self) -> tuple[SteeringEffect, ...]:
        """Effects of directions on models, compared with random directions."""
        return self.of(SteeringEffect)

    def steering_squares(self) -> tuple[SteeringMatrixCell, ...]:
        """The base model with one domain's direction added, on held-out questions of every domain."""
        return self.of(SteeringMatrixCell)

    def directions(self) -> Directions:
        """Activation directions and their statistics; empty before they are computed."""
        return direction_tables.kept(self)

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
        found = direction_tables.select_summary(self.directions(), domain, method, source, reader, cell)
        return direction_tables.load_direction(self.store, found, layer)

    # ---- results and report ----

    def results(self, judge: str | None = None) -> dict[str, Any]:
        """Ranking, trigger effects and manifest as plain data: what results.json holds."""
        return results(self._report_data(judge, ()))

    def report(self, path: str | os.PathLike[str] | None = None, judge: str | None = None) -> Path:
        """Write report.html, and results.json next to it; returns the page's path. `judge`: the main one."""
        page = Path(path) if path is not None else self.path / "report.html"
        data = self._report_data(judge, self._shown(judge))
        write_results(data, page.with_name("results.json"))
        return write_page(data, page)

    def _shown(self, judge: str | None) -> tuple[Answer, ...]:
        """The completions that the page may show, with their judgments."""
        columns = self.columns(judge)
        if columns is None:
            completions, judgments = self.completions(), self.judgments(judge)
        else:
            completions, judgments = read_records(self.store, *columns.lines_to_show(self.manifest.seed, PER_GROUP))
        judgment_by_aspect = {(row.completion, row.aspect): row for row in judgments}
        return tuple(
            Answer(row, judgment_by_aspect.get((row.id, "alignment")), judgment_by_aspect.get((row.id, "coherence")))
            for row in completions
        )

    def _report_data(self, judge: str | None, answers: tuple[Answer, ...]) -> ReportData:
        main, manifest = self.judge(judge), self.manifest
        return ReportData(
            manifest=manifest,
            config=self.config,
            scores=self.ranking(judge),
            effects=self.trigger_effect(judge),
            adapters=tuple(self.adapters()),
            answers=answers,
            judge=main.about if main is not None and main.about else manifest.judge,
            others=tuple(OtherJudge(other, self.ranking(other.identity)) for other in self.judges() if other != main),
            found={
                kind: tuple(read(self, judge))
                for analysis in analyses.table().values()
                for kind, read in analysis.rows.items()
            },
        )

    # ---- steering ----

    def steer(
        self,
        settings: SteerConfig | None = None,
        limit: int | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> list[Failure]:
        """Add directions to the base model and ablate them from fine-tunes, with random controls; return failures.

        The same call resumes where it stopped.

        Args:
            settings: of the sweep; as the study has it when None.
            limit: only the first so many questions.
            workers: processes; one a core when None.
            progress: where events go; nowhere when None.
        """
        with self.store.lock():
            failures = steering.steer(self.store, self._steering_request(settings, limit), workers, progress)
            self.store.write_manifest(steering.with_steering_counts(self.store, self.manifest, failures))
            self.report()
        return failures

    def plan_steering(
        self, settings: SteerConfig | None = None, limit: int | None = None, workers: int | None = None
    ) -> StageCost:
        """Upper bound on the cost of `steer`."""
        return steering.estimate_cost(self._steering_request(settings, limit), workers)

    def _steering_request(self, settings: SteerConfig | None, limit: int | None) -> steering.SteeringRequest:
        if self.config is None:
            raise UserError(f"{self.path} contains imported completions. Steering needs the models of a study.")
        trained = [(unit.cell, unit.key) for unit in self.plan["train"] if self.store.is_done("train", unit.key)]
        built = [(unit.cell, unit.key) for unit in self.plan["build"] if self.store.is_done("build", unit.key)]
        known = self.directions().summaries
        return steering.build_request(self.store, self.config, settings, limit, trained, known, asked_data(built))
