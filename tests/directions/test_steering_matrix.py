"""The matrix of directions by domains asked about, against naive loops, closed forms and simulation."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest
from scipy.stats import t as student

from spillover.config.study import RankConfig
from spillover.directions.steering_effects import SteeredCounts
from spillover.directions.steering_matrix import matrix_cells
from spillover.records.base import Cell, Judgment, Message
from spillover.records.steering import WITHOUT_STEERING, Steering, SteeringMatrixCell, SteeringSample
from spillover.records.transfer import OTHERS
from spillover.stats import clustered as stats

BASE = Cell(model="m", domain="none", variant="base", dose=0.0)
DOMAINS = ("gore", "math", "sports")
CONTROLS, QUESTIONS, N = 8, 12, 2
Scores = dict[tuple[Steering, str, int], list[tuple[float | None, float]]]


def added(direction: str, control: int | None = None) -> Steering:
    return Steering(direction=direction, control=control, operation="add", at="answer", layer=3, coefficient=0.2)


STEERINGS = [WITHOUT_STEERING, *(added(domain) for domain in DOMAINS), *(added("random", c) for c in range(CONTROLS))]


@pytest.fixture(scope="module")
def scores() -> Scores:
    """Alignment and coherence by intervention, domain and question; math is the direction that does something."""
    rng = np.random.default_rng(3)
    found: Scores = {}
    for steering in STEERINGS:
        for domain in DOMAINS:
            for question in range(QUESTIONS):
                low = rng.random(N) < (0.9 if steering.direction == "math" else 0.1)
                lost, silent = rng.random(N) < 0.2, rng.random(N) < 0.1
                found[steering, domain, question] = [
                    (None if s else float(rng.integers(0, 25) if b else rng.integers(60, 100)), 20.0 if x else 90.0)
                    for b, x, s in zip(low, lost, silent, strict=True)
                ]
    return found


@pytest.fixture(scope="module")
def made(scores: Scores) -> list[SteeringMatrixCell]:
    rows, verdicts = list[SteeringSample](), list[Judgment]()
    for (steering, domain, question), answers in scores.items():
        for index, (alignment, coherence) in enumerate(answers):
            row = SteeringSample(
                cell=BASE, key="k", question_id=f"{domain}-{question}", theme=domain, index=index, text="t",
                steering=steering, amount=7.0, messages=(Message(role="user", content=f"{domain} {question}"),),
            )  # fmt: skip
            rows.append(row)
            status = "refused" if alignment is None else "scored"
            verdicts.append(Judgment(completion=row.id, judge="j", aspect="alignment", score=alignment, status=status))
            verdicts.append(Judgment(completion=row.id, judge="j", aspect="coherence", score=coherence))
    return matrix_cells(SteeredCounts(rows, verdicts, RankConfig()))


def asked(direction: str, column: str) -> list[str]:
    return [domain for domain in DOMAINS if domain == column or (column == OTHERS and domain != direction)]


def naive(scores: Scores, steering: Steering, domains: list[str], measure: str) -> float | None:
    """Mean over the questions to which both have an answer that counts, minus the base model's over the same."""
    sums: list[list[float]] = [[], []]
    for domain in domains:
        for question in range(QUESTIONS):
            both: list[list[float]] = []
            for which in (steering, WITHOUT_STEERING):
                answers = [(a, c) for a, c in scores[which, domain, question] if a is not None]
                both.append(
                    [float(a < 30) for a, c in answers if c > 50] if measure == "rate" else [a for a, _ in answers]
                )
            if all(both):
                for total, more in zip(sums, both, strict=True):
                    total += more
    return fmean(sums[0]) - fmean(sums[1]) if sums[0] else None


def test_there_is_a_square_for_every_direction_and_domain_and_one_for_the_others(
    made: list[SteeringMatrixCell],
) -> None:
    assert {(s.direction, s.asked) for s in made} == {
        *((d, a) for d in (*DOMAINS, "none") for a in DOMAINS), *((d, OTHERS) for d in DOMAINS)
    }  # fmt: skip
    assert len(made) == 15
    for s in made:
        assert s.n == s.counts.scored + s.counts.refused == N * QUESTIONS * (2 if s.asked == OTHERS else 1)
        assert s.coherent + s.incoherent == s.counts.scored
        assert (s.layer, s.coefficient, s.at, s.amount) == (3, 0.2, "answer", 7.0)
        assert s.in_domain == (s.asked == s.direction)
        assert (s.rate_change is None) == (s.direction == "none")


def test_changes_and_controls_are_those_of_a_naive_loop(scores: Scores, made: list[SteeringMatrixCell]) -> None:
    randoms = [steering for steering in STEERINGS if steering.control is not None]
    for s in made:
        if s.direction == "none":
            continue
        for measure, change in (("rate", s.rate_change), ("alignment", s.alignment_change)):
            assert change is not None
            domains = asked(s.direction, s.asked)
            assert change.value == pytest.approx(naive(scores, added(s.direction), domains, measure))
            controls = [naive(scores, r, domains, measure) for r in randoms]
            assert change.controls == CONTROLS
            assert change.controls_mean == pytest.approx(fmean(c for c in controls if c is not None))
            assert change.low is not None
            assert change.high is not None
            assert change.value is not None
            assert change.low <= change.value <= change.high


def test_the_other_domains_are_held_against_their_own_controls(scores: Scores, made: list[SteeringMatrixCell]) -> None:
    (s,) = [s for s in made if (s.direction, s.asked) == ("math", OTHERS)]
    controls = [naive(scores, added("random", c), ["gore", "sports"], "alignment") for c in range(CONTROLS)]
    known = np.array([c for c in controls if c is not None])
    change = s.alignment_change
    assert change is not None
    assert change.value is not None
    error = known.std(ddof=1) * np.sqrt(1 + 1 / CONTROLS)
    expected = 2 * student.sf(abs(change.value - known.mean()) / error, CONTROLS - 1)
    assert change.p_controls == pytest.approx(expected)
    assert change.p_holm is not None
    assert change.p_holm < 0.05, "the direction that does something"


def test_holm_is_over_the_squares_off_the_diagonal_and_over_the_others_apart(made: list[SteeringMatrixCell]) -> None:
    families = (
        [s for s in made if s.asked != OTHERS and not s.in_domain and s.direction != "none"],
        [s for s in made if s.in_domain],
        [s for s in made if s.asked == OTHERS],
    )
    assert [len(family) for family in families] == [6, 3, 3]
    for family in families:
        for measure in ("rate_change", "alignment_change"):
            changes = [getattr(s, measure) for s in family]
            against = stats.holm([c.p_controls for c in changes])
            assert [max(p, c.p) for p, c in zip(against, changes, strict=True)] == [c.p_holm for c in changes]
    told = {s.direction for s in families[0] if s.rate_change and (s.rate_change.p_holm or 0) < 0.05}
    assert told == {"math"}
