"""An audit, from a file to a verdict: the order of the rungs. Read this first in this room.

    lint (seconds) -> surprise (minutes) -> probe (minutes to hours)

A rung that decides ends the audit. A budget in minutes takes the largest rungs that are expected to fit, stops what is
under way when it is spent, and says so. The folder keeps the sample, what was measured and the probe's run, so that the
same command, or one with a larger budget, goes on from there with its budget anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from spillover.audit import card, lint, surprise
from spillover.audit import trial_finetune as probe_tune
from spillover.audit.folder import Folder
from spillover.audit.plan import fitting, small, surprise_minutes
from spillover.audit.policy import Policy, ProbeSize, load_policy
from spillover.audit.sample import Sample, draw
from spillover.audit.verdict import Audit, DataFacts, Facts, Reason, Rung, RungReport, conclude
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
class Wish:
    """What is to be audited, and by what."""

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


def _fitted(path: Path | None) -> Predictor | None:
    found = Predictor.load(path) if path else None
    if found and found.target != "rate":
        raise UserError(f"{path} predicts {found.target!r}, and an audit's thresholds are on 'rate'. Name another.")
    return found


class Auditor:
    """One audit in one folder; `run` reaches its verdict, or goes on with one that was interrupted."""

    def __init__(self, wish: Wish, out: Path, progress: Progress | None = None) -> None:
        self.wish, self.policy = wish, wish.policy
        self.progress = progress or Progress(lambda event: None)
        self.sha256 = digest(wish.data)
        self.predictor = f"{wish.predictor.name}:{digest(wish.predictor)[:12]}" if wish.predictor else ""
        self.fitted = _fitted(wish.predictor)
        asked = [self.sha256, wish.model.hash(), self.policy.hash(), self.predictor, wish.seed]
        self.folder = Folder(out, content_hash(asked))
        self.started, self.clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        self.limited = self.progress if wish.budget is None else self.progress.until(self.clock + 60 * wish.budget)
        self.looked = lint.Looked((), 0, (), (), {})
        self.sample: Sample | None = None
        self.probed = probe_tune.Probed(None, (), {})
        self.size: ProbeSize | None = None
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
        for name, climb in order:
            decided = next((rung.rung for rung in rungs if rung.outcome is not None), None)
            if decided is not None:
                rungs.append(RungReport(rung=name, skipped=f"{decided} has decided"))
                continue
            begun = time.monotonic()
            try:
                report = climb()
            except TimeIsUp:
                report = self._stopped(name)
            rungs.append(report.model_copy(update={"seconds": round(time.monotonic() - begun, 3)}))
        verdict = self._verdict(tuple(rungs))
        self.folder.write_card(card.to_json(verdict), card.to_html(verdict))
        return verdict

    def _lint(self) -> RungReport:
        with self.progress.stage("lint", 1) as events:
            self.looked = lint.look(self.wish.data, self.policy, self.wish.model)
            events.advance(units=1)
        self.reasons += self.looked.reasons
        blocked = any(reason.outcome == "block" for reason in self.looked.reasons)
        return RungReport(rung="lint", outcome="block" if blocked else None, facts=self.looked.facts)

    def _surprise(self) -> RungReport:
        policy, rows = self.policy.surprise, self.looked.rows
        if len(rows) < 2:
            return self._skip("surprise", f"{len(rows)} rows are too few")
        if self.wish.model.backend in ANSWERS_ONLY:
            return self._skip("surprise", f"a {self.wish.model.backend} model gives answers only")
        expected = surprise_minutes(self.wish.model, min(policy.rows, len(rows)), self.looked.facts)
        left = self._left()
        if left is not None and expected > left:
            return self._skip("surprise", f"about {expected:.1f} minutes do not fit into what is left of the budget")
        if left is not None and not self.predictor and self._least_probe() > left - SLACK * expected:
            return self._skip("surprise", "without a predictor it decides nothing; the budget is kept for the probe")
        self.planned += expected
        model, subsample = self.wish.model, self.fitted.provenance.subsample if self.fitted else None
        policy = policy if policy.subsample else policy.model_copy(update={"subsample": subsample})
        asked = [policy.rows, policy.embeddings, policy.subsample, self.wish.seed]
        key = content_hash([self.sha256, model.hash(), *asked], 12)
        chats = surprise.choose(rows, policy, self.wish.seed)
        executor: Executor = EXECUTORS.load(self.policy.probe.executor)(Pool(cores() if small(model) else 1))
        calls = surprise.calls(model, chats, policy, self.wish.seed)
        values = surprise.measure(calls, executor, self.folder, key, self.limited)
        facts, self.revision = surprise.joined(values, self.looked.facts)
        said, reason = self._predicted(facts)
        self.reasons += [reason] if reason else []
        return RungReport(rung="surprise", outcome=reason.outcome if reason else None, facts=facts | said)

    def _predicted(self, facts: Facts) -> tuple[Facts, Reason | None]:
        """What the predictor adds to the rung's facts, and the reason that it gives, if it gives one."""
        if self.fitted is None:
            return {}, None
        found, why = surprise.predict(self.fitted, facts, self.wish.model.name)
        said: Facts = {"predictor": f"decides nothing: {why}" if why else "inside its range"}
        if found is None:
            return said, None
        said |= {"predicted_rate": found.value, "predicted_low": found.low, "predicted_high": found.high}
        return said, None if why else surprise.decide(found, self.policy.surprise)

    def _least_probe(self) -> float:
        """Minutes of the smallest probe; 0 where there is none to keep a budget for."""
        if len(self._sample().pairs) < probe_tune.FEWEST_ROWS:
            return 0.0
        return min(probe_tune.minutes(self._study(size)) for size in self.policy.probe.sizes)

    def _sample(self) -> Sample:
        if self.sample is None:
            most = max(size.rows for size in self.policy.probe.sizes)
            self.sample = draw(self.looked.rows, most, self.wish.seed)
        return self.sample

    def _probe(self) -> RungReport:
        policy = self.policy.probe
        self.sample = self._sample()
        facts: Facts = {f"dropped: {why}": count for why, count in self.sample.dropped.items()}
        usable = len(self.sample.pairs)
        if usable < probe_tune.FEWEST_ROWS:
            message = f"Only {usable} rows can be trained on, {probe_tune.FEWEST_ROWS} are needed."
            self.reasons.append(
                Reason(rung="probe", outcome="review", code="too-few-rows", message=message, value=usable)
            )
            return self._skip("probe", message, facts)
        self.size, expected = self._size()
        if self.size is None:
            return self._skip(
                "probe", f"about {expected:.1f} minutes do not fit into what is left of the budget", facts
            )
        if self.size != policy.sizes[0]:
            first = policy.sizes[0]
            said = f"{self.size.rows} rows and {self.size.answers} answers a question"
            self.left_out.append(f"probe: {said}, in place of {first.rows} and {first.answers}, to fit the budget")
        self.planned += expected
        config = self._study(self.size)
        self.probed = probe_tune.run(config, self.sample, self.policy, self.folder.probe, self.limited)
        self.reasons += self.probed.reasons
        self.revision = self.probed.revision or self.revision
        return RungReport(rung="probe", outcome=self.probed.outcome, facts=facts | self.probed.facts)

    def _size(self) -> tuple[ProbeSize | None, float]:
        """The largest probe that the budget allows, and its minutes; an audit that goes on keeps the one it began."""

        def minutes(size: ProbeSize) -> float:
            return probe_tune.minutes(self._study(size))

        sizes = self.policy.probe.sizes
        key = content_hash([self.wish.budget, [size.model_dump() for size in sizes]], 12)
        if kept := self.folder.kept("size", key):
            size = ProbeSize.model_validate(kept)
            return size, minutes(size)
        size, expected = fitting(sizes, minutes, self._left())
        if size is not None:
            self.folder.keep("size", key, size.model_dump())
        return size, expected

    def _study(self, size: ProbeSize) -> StudyConfig:
        """The probe of one size; its sample is written where the study will look for it."""
        sample = self._sample()
        source = self.folder.write_sample(sample.lines())
        rows = min(size.rows, len(sample.pairs))
        return probe_tune.study_config(
            self.wish.model, self.policy, size, source.resolve(), rows, self.sha256, self.wish.seed
        )

    def _stopped(self, rung: Rung) -> RungReport:
        """The rung that was under way when the budget was spent."""
        message = f"The budget of {self.wish.budget:g} minutes was spent. The same command goes on from there."
        self.left_out.append(f"{rung}: the rest of it, as the budget was spent")
        self.reasons.append(Reason(rung=rung, outcome="review", code="budget-spent", message=message))
        return RungReport(rung=rung, stopped=True)

    def _skip(self, rung: Rung, why: str, facts: Facts | None = None) -> RungReport:
        self.left_out.append(f"{rung}: {why}")
        return RungReport(rung=rung, skipped=why, facts=facts or {})

    def _left(self) -> float | None:
        """Minutes left of the budget."""
        if self.wish.budget is None:
            return None
        return self.wish.budget - (time.monotonic() - self.clock) / 60

    def _verdict(self, rungs: tuple[RungReport, ...]) -> Audit:
        machine = environment()
        if not self.reasons:
            message = "No rung that ran can tell harm from none."
            self.reasons.append(Reason(rung=rungs[-1].rung, outcome="review", code="undecided", message=message))
        asked = self.probed.rates != ()
        return Audit(
            verdict=conclude(self.reasons, rungs),
            reasons=tuple(self.reasons),
            rungs=rungs,
            left_out=tuple(self.left_out),
            data=DataFacts(
                name=self.wish.name or self.wish.data.name,
                sha256=self.sha256,
                bytes=self.wish.data.stat().st_size,
                rows=len(self.looked.rows),
                lines=self.looked.lines,
                control=self.sample.control if self.sample and asked else None,
            ),
            model=self.wish.model.path or self.wish.model.name,
            revision=self.revision,
            backend=self.wish.model.backend,
            policy=self.policy.name,
            policy_hash=self.policy.hash(),
            predictor=self.predictor,
            judge=open_judge(self.policy.judge).describe() if asked else {},
            seed=self.wish.seed,
            probe_size=f"{self.size.rows} rows x {self.size.answers} answers" if asked and self.size else "",
            rates=self.probed.rates,
            above_control=self.probed.above_control,
            above_untouched=self.probed.above_untouched,
            findings=self.looked.findings,
            budget_minutes=self.wish.budget,
            planned_minutes=round(self.planned, 3),
            started=self.started,
            seconds=round(time.monotonic() - self.clock, 3),
            spillover=machine["spillover"],
            lock_hash=machine["lock_hash"],
            git=machine["git"],
        )
