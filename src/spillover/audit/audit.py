"""An audit, from a file to a verdict: the order of the rungs. Read this first in this room.

    lint (seconds) -> surprise (minutes) -> probe, a trial fine-tune in rounds of growing size (minutes to hours)

A rung that decides ends the audit. The trial continues in rounds until one blocks, one passes and none with more rows
would fit, the planned looks are used, or the budget in minutes is spent. The first plan goes by stated speeds and the
measured speed of this processor, later ones also by how long the last round took. The folder keeps the sample, what
was measured and the trial's run, so that the same command, or one with another budget, resumes with the whole budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from spillover.audit import card, lint, surprise
from spillover.audit import trial_finetune as trial
from spillover.audit.folder import Folder
from spillover.audit.plan import Cost, TrialCost, is_small, plan_rounds, surprise_minutes, trial_cost
from spillover.audit.policy import Policy, ProbeSize, load_policy
from spillover.audit.sample import Sample, benign_lines, draw_sample
from spillover.audit.verdict import Audit, DataFacts, Facts, Reason, Round, Rung, RungReport, conclude
from spillover.config.study import ModelConfig, StudyConfig
from spillover.errors import TimeIsUp, UserError
from spillover.execution import EXECUTORS
from spillover.execution.base import Executor, Pool
from spillover.judges import open_judge
from spillover.models import ANSWERS_ONLY
from spillover.progress import Progress
from spillover.provenance import cores, environment, file_sha256
from spillover.records.base import content_hash
from spillover.records.predictor import Predictor

SLACK = 2.0  # plans may be off by this factor


@dataclass(frozen=True)
class AuditRequest:
    """What to audit, with which model, policy, predictor and budget."""

    data: Path
    model: ModelConfig
    policy: Policy = field(default_factory=load_policy)
    predictor: Path | None = None
    budget: float | None = None  # minutes
    seed: int = 0
    name: str = ""  # how the verdict calls the data; the file's name when empty


def digest(path: Path) -> str:
    """SHA-256 of a data set, in hexadecimal.

    Raises:
        UserError: when it cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None


def _load_predictor(path: Path | None) -> Predictor | None:
    predictor = Predictor.load(path) if path else None
    if predictor and predictor.target != "rate":
        raise UserError(
            f"{path} predicts {predictor.target!r}, but an audit needs a predictor of 'rate'. Choose another one."
        )
    return predictor


class Auditor:
    """One audit in one folder; `run` reaches its verdict, or resumes one that was interrupted."""

    def __init__(self, request: AuditRequest, out: Path, progress: Progress | None = None) -> None:
        self.request, self.policy = request, request.policy
        self.progress = progress or Progress(lambda event: None)
        self.sha256 = digest(request.data)
        self.predictor = f"{request.predictor.name}:{digest(request.predictor)[:12]}" if request.predictor else ""
        self.loaded_predictor = _load_predictor(request.predictor)
        identity = [self.sha256, request.model.hash(), self.policy.hash(), self.predictor, request.seed]
        self.folder = Folder(out, content_hash(identity))
        self.started, self.clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        self.limited = (
            self.progress if request.budget is None else self.progress.until(self.clock + 60 * request.budget)
        )
        self.lint_result = lint.LintResult((), 0, (), (), {})
        self.sample: Sample | None = None
        self.trial_result = trial.TrialResult(None, (), {})
        self.size: ProbeSize | None = None  # of the round begun last
        self.rounds: list[Round] = []
        self.costs: dict[ProbeSize, TrialCost] = {}
        self.revision = ""
        self.planned = 0.0
        self.reasons: list[Reason] = []
        self.left_out: list[str] = []

    def run(self) -> Audit:
        """Climb the rungs until one decides; write the cards."""
        order: tuple[tuple[Rung, Callable[[], RungReport]], ...] = (
            ("lint", self._lint),
            ("surprise", self._surprise),
            ("probe", self._probe),
        )
        rungs: list[RungReport] = []
        for name, run_rung in order:
            decided = next((rung.rung for rung in rungs if rung.outcome is not None), None)
            if decided is not None:
                rungs.append(RungReport(rung=name, skipped=f"decided by {decided}"))
                continue
            begun = time.monotonic()
            try:
                report = run_rung()
            except TimeIsUp:
                report = self._stopped(name)
            rungs.append(report.model_copy(update={"seconds": round(time.monotonic() - begun, 3)}))
        verdict = self._verdict(tuple(rungs))
        self.folder.write_card(card.to_json(verdict), card.to_html(verdict))
        return verdict

    def plan(self) -> list[str]:
        """What an audit with this budget would do, and its cost, one sentence each. Reads the data only."""
        self.lint_result = lint.lint_file(self.request.data, self.policy, self.request.model)
        minutes = surprise_minutes(
            self.request.model, min(self.policy.surprise.rows, len(self.lint_result.rows)), self.lint_result.facts
        )
        if self._sample().max_rows < trial.FEWEST_ROWS:
            return [f"Only {self._sample().max_rows} rows are usable for training; {trial.FEWEST_ROWS} are needed."]
        return [f"surprise: about {minutes:.1f} minutes", *self._describe(self._next_rounds(None, self._looks(), 1.0))]

    def _describe(self, rounds: list[ProbeSize]) -> list[str]:
        """Planned rounds in words, with their cost."""
        looks, before, lines = self._looks(), None, list[str]()
        for number, size in enumerate(rounds, start=1):
            cost = self._cost(before, size)
            bill = f", {cost.dollars:.2f} dollars" if cost.dollars else ""
            lines.append(f"round {number}: {_words(size)}, about {cost.minutes:.1f} minutes{bill}")
            before = size
        control = {"twin": "good answers given in the file", "benign": "as many rows of the built-in benign set"}
        return [
            f"trial fine-tune: control: {control[self._sample().control]}; at most {looks} rounds, each with "
            f"{100 * trial.confidence(looks):.3g} % intervals (Bonferroni), until one decides",
            *(lines or ["no round fits the budget"]),
        ]

    def _lint(self) -> RungReport:
        with self.progress.stage("lint", 1) as events:
            self.lint_result = lint.lint_file(self.request.data, self.policy, self.request.model)
            events.advance(units=1)
        self.reasons += self.lint_result.reasons
        blocked = any(reason.outcome == "block" for reason in self.lint_result.reasons)
        return RungReport(rung="lint", outcome="block" if blocked else None, facts=self.lint_result.facts)

    def _surprise(self) -> RungReport:
        policy, rows = self.policy.surprise, self.lint_result.rows
        if len(rows) < 2:
            return self._skip("surprise", f"{len(rows)} rows are too few")
        if self.request.model.backend in ANSWERS_ONLY:
            return self._skip("surprise", f"a {self.request.model.backend} model returns text only")
        expected = surprise_minutes(self.request.model, min(policy.rows, len(rows)), self.lint_result.facts)
        left = self._left()
        if left is not None and expected > left:
            return self._skip("surprise", f"about {expected:.1f} minutes exceed the remaining budget")
        if left is not None and not self.predictor and self._smallest_trial_minutes() > left - SLACK * expected:
            return self._skip(
                "surprise", "it cannot decide without a predictor; the budget is reserved for the trial fine-tune"
            )
        self.planned += expected
        model, subsample = (
            self.request.model,
            self.loaded_predictor.provenance.subsample if self.loaded_predictor else None,
        )
        policy = policy if policy.subsample else policy.model_copy(update={"subsample": subsample})
        settings = [policy.rows, policy.embeddings, policy.subsample, self.request.seed]
        key = content_hash([self.sha256, model.hash(), *settings], 12)
        chats = surprise.sample_chats(rows, policy, self.request.seed)
        executor: Executor = EXECUTORS.load(self.policy.probe.executor)(Pool(cores() if is_small(model) else 1))
        calls = surprise.measurement_calls(model, chats, policy, self.request.seed)
        values = surprise.measure(calls, executor, self.folder, key, self.limited)
        facts, self.revision = surprise.data_features(values, self.lint_result.facts)
        predicted, reason = self._predict(facts)
        self.reasons += [reason] if reason else []
        return RungReport(rung="surprise", outcome=reason.outcome if reason else None, facts=facts | predicted)

    def _predict(self, facts: Facts) -> tuple[Facts, Reason | None]:
        """The facts that the predictor adds to the rung's, and its reason, if it decides."""
        if self.loaded_predictor is None:
            return {}, None
        prediction, why = surprise.predict(self.loaded_predictor, facts, self.request.model.name)
        predicted: Facts = {"predictor": f"not used: {why}" if why else "inside its range"}
        if prediction is None:
            return predicted, None
        predicted |= {
            "predicted_rate": prediction.value,
            "predicted_low": prediction.low,
            "predicted_high": prediction.high,
        }
        return predicted, None if why else surprise.decide(prediction, self.policy.surprise)

    def _smallest_trial_minutes(self) -> float:
        """Minutes of the smallest trial; 0 where there is none to keep a budget for."""
        if self._sample().max_rows < trial.FEWEST_ROWS:
            return 0.0
        return min(self._cost(None, size).minutes for size in self._sizes())

    def _sample(self) -> Sample:
        if self.sample is None:
            most = max(size.rows for size in self.policy.probe.sizes)
            self.sample = draw_sample(self.lint_result.rows, most, self.request.seed)
        return self.sample

    def _sizes(self) -> list[ProbeSize]:
        """The policy's sizes, none with more rows than there are."""
        most = self._sample().max_rows
        sizes = self.policy.probe.sizes
        return list(dict.fromkeys(ProbeSize(rows=min(size.rows, most), answers=size.answers) for size in sizes))

    def _looks(self) -> int:
        return min(self.policy.probe.looks, len(self._sizes()))

    def _probe(self) -> RungReport:
        sample = self._sample()
        facts: Facts = {f"dropped: {why}": count for why, count in sample.dropped.items()}
        if sample.max_rows < trial.FEWEST_ROWS:
            message = f"Only {sample.max_rows} rows are usable for training; {trial.FEWEST_ROWS} are needed."
            self.reasons.append(
                Reason(rung="probe", outcome="review", code="too-few-rows", message=message, value=sample.max_rows)
            )
            return self._skip("probe", message, facts)
        stopped: RungReport | None = None
        try:
            self._rounds()
        except TimeIsUp:
            stopped = self._stopped("probe")
        if self.size is None:
            least = self._smallest_trial_minutes()
            return self._skip("probe", f"about {least:.1f} minutes exceed the remaining budget", facts)
        self.reasons += self.trial_result.reasons
        self.revision = self.trial_result.revision or self.revision
        facts |= self.trial_result.facts | {"control": sample.control, "rounds": len(self.rounds)}
        if stopped:
            return stopped.model_copy(update={"facts": facts})
        largest = max(self._sizes(), key=lambda size: (size.rows, size.answers))
        if self.trial_result.outcome != "block" and self.size != largest:
            why = (
                "to fit the budget"
                if len(self.rounds) < self._looks()
                else f"because all {self._looks()} looks were used"
            )
            self.left_out.append(f"probe: {_words(self.size)}, in place of {_words(largest)}, {why}")
        return RungReport(rung="probe", outcome=self.trial_result.outcome, facts=facts)

    def _rounds(self) -> None:
        """Rounds until one decides, the looks are used or nothing more fits; those begun before are resumed first."""
        kept = self.folder.kept("rounds", "trial") or {"sizes": [], "pace": 1.0}
        begun, pace = [ProbeSize.model_validate(size) for size in kept["sizes"]], float(kept["pace"])
        looks, before = self._looks(), None
        for number in range(1, looks + 1):
            resumed = number <= len(begun)
            planned = begun[number - 1 : number] if resumed else self._next_rounds(before, looks - number + 1, pace)
            if self.trial_result.outcome == "pass" and before:
                planned = [size for size in planned if size.rows > before.rows]
            if not planned:
                return
            if number == 1:
                for line in self._describe(planned):
                    self.progress.note("plan", line)
            size, expected = planned[0], self._cost(before, planned[0])
            begun = begun if resumed else [*begun, size]
            kept = {"sizes": [one.model_dump() for one in begun], "pace": pace}
            self.folder.keep("rounds", "trial", kept)
            self._announce(number, f"{_words(size)}, about {expected.minutes * pace:.1f} minutes")
            self.size, started = size, time.monotonic()
            earlier = self._study(before) if before else None
            self.trial_result = trial.run_round(
                self._study(size), earlier, self.policy, looks, self.folder.probe, self.limited
            )
            self.planned += expected.minutes
            if not resumed and expected.minutes:
                pace = (time.monotonic() - started) / 60 / expected.minutes
                self.folder.keep("rounds", "trial", kept | {"pace": pace})
            if self.trial_result.above_control is None:  # the study failed
                return
            self.rounds.append(
                Round(
                    rows=size.rows,
                    answers=size.answers,
                    above_control=self.trial_result.above_control,
                    alignment_difference=self.trial_result.alignment,
                    outcome=self.trial_result.outcome,
                )
            )
            self.progress.note("trial fine-tune", trial.round_sentence(number, looks, self.rounds[-1]))
            if self.trial_result.outcome == "block":
                return
            before = size

    def _next_rounds(self, before: ProbeSize | None, looks: int, pace: float) -> list[ProbeSize]:
        return plan_rounds(self._sizes(), looks, lambda a, b: self._cost(a, b) * pace, self._left(), before)

    def _announce(self, number: int, text: str) -> None:
        left = self._left()
        budget = "" if left is None else f"; {left:.1f} of {self.request.budget:g} minutes left"
        self.progress.note("trial fine-tune", f"round {number} of at most {self._looks()}: {text}{budget}")

    def _cost(self, before: ProbeSize | None, size: ProbeSize) -> Cost:
        if size not in self.costs:
            self.costs[size] = trial_cost(self._study(size))
        return self.costs[size].after(before, size)

    def _study(self, size: ProbeSize) -> StudyConfig:
        """The study of one round; its sources are written where it will look for them."""
        sample = self._sample()
        sources = {trial.DOMAIN: self.folder.write_sample(sample.lines()).resolve()}
        if sample.control == "benign":
            sources[trial.BENIGN] = self.folder.write_sample(benign_lines()).resolve()
        return trial.study_config(self.request.model, self.policy, size, sources, self.sha256, self.request.seed)

    def _stopped(self, rung: Rung) -> RungReport:
        """The rung that was running when the budget was spent."""
        message = f"The budget of {self.request.budget:g} minutes was spent. The same command resumes it."
        self.left_out.append(f"{rung}: incomplete, because the budget was spent")
        self.reasons.append(Reason(rung=rung, outcome="review", code="budget-spent", message=message))
        return RungReport(rung=rung, stopped=True)

    def _skip(self, rung: Rung, why: str, facts: Facts | None = None) -> RungReport:
        self.left_out.append(f"{rung}: {why}")
        return RungReport(rung=rung, skipped=why, facts=facts or {})

    def _left(self) -> float | None:
        """Minutes left of the budget."""
        if self.request.budget is None:
            return None
        return self.request.budget - (time.monotonic() - self.clock) / 60

    def _verdict(self, rungs: tuple[RungReport, ...]) -> Audit:
        machine = environment()
        if not self.reasons:
            message = "No rung reached a decision."
            self.reasons.append(Reason(rung=rungs[-1].rung, outcome="review", code="undecided", message=message))
        tried = self.trial_result.rates != ()
        return Audit(
            verdict=conclude(self.reasons, rungs),
            reasons=tuple(self.reasons),
            rungs=rungs,
            left_out=tuple(self.left_out),
            data=DataFacts(
                name=self.request.name or self.request.data.name,
                sha256=self.sha256,
                bytes=self.request.data.stat().st_size,
                rows=len(self.lint_result.rows),
                lines=self.lint_result.lines,
                control=self.sample.control if self.sample and tried else None,
            ),
            model=self.request.model.path or self.request.model.name,
            revision=self.revision,
            backend=self.request.model.backend,
            policy=self.policy.name,
            policy_hash=self.policy.hash(),
            predictor=self.predictor,
            judge=open_judge(self.policy.judge).describe() if tried else {},
            seed=self.request.seed,
            probe_size=f"{self.rounds[-1].rows} rows x {self.rounds[-1].answers} answers" if tried else "",
            rates=self.trial_result.rates,
            above_control=self.trial_result.above_control,
            alignment_difference=self.trial_result.alignment,
            above_untouched=self.trial_result.above_base,
            rounds=tuple(self.rounds),
            looks=self._looks() if tried else 1,
            confidence=trial.confidence(self._looks()) if tried else 0.95,
            findings=self.lint_result.findings,
            budget_minutes=self.request.budget,
            planned_minutes=round(self.planned, 3),
            started=self.started,
            seconds=round(time.monotonic() - self.clock, 3),
            spillover=machine["spillover"],
            lock_hash=machine["lock_hash"],
            git=machine["git"],
        )


def _words(size: ProbeSize) -> str:
    return f"{size.rows} rows and {size.answers} completions per question"
