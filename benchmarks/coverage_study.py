"""How often nominal 95 % intervals contain the truth, and how often tests at 5 % reject a true null hypothesis.

    python benchmarks/coverage_study.py --studies 2000
    python benchmarks/coverage_study.py --studies 200 --only rate --only seeds --json

Studies are drawn at the rates and variance components of 13 public fine-tuned models (simulated_studies.py). One
function a kind of interval or test; each takes a generator and a number of studies and yields `Line`s.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
from scipy import stats as scipy_stats
from simulated_studies import ALIKE, MEANS, MODELS, Line, Rng, answers, covers, line, related, shares

from spillover.stats import Floats
from spillover.stats import clustered as stats
from spillover.stats.pooling import pool, seed_rates
from spillover.stats.prevalence import ppi_rates, rogan_gladen
from spillover.stats.ranking import familywise, moderate_design_effects

LEVEL = 0.95
QUESTIONS = (8, 15, 24)
ANSWERS = 50
DOMAINS = 10
EFFECT_MEAN, EFFECT_SPREAD, EFFECT_BY_QUESTION = -4.0, 6.0, 6.0  # of the trigger on mean alignment, in points
SENSITIVITY, SPECIFICITY = 0.85, 0.96

Scenario = Callable[[Rng, int], Iterator[Line]]


def rate(rng: Rng, studies: int) -> Iterator[Line]:
    """A rate, at 8, 15 and 24 questions."""
    for questions in QUESTIONS:
        held: list[float] = []
        for p, rho in MODELS:
            x, n = answers(rng, shares(p, rho, rng.standard_normal((studies, questions))), ANSWERS)
            held.append(covers(*stats.rate_intervals(stats.clustered_rates(x, n), LEVEL), p))
        yield line("rate", "coverage", f"{questions} x {ANSWERS}", studies, held)


def mean(rng: Rng, studies: int) -> Iterator[Line]:
    """A mean alignment."""
    for questions in QUESTIONS:
        held: list[float] = []
        for mu, between, within in MEANS:
            total, n = _sums(rng, mu + between * rng.standard_normal((studies, questions)), within)
            held.append(covers(*stats.mean_intervals(stats.clustered_means(total, n), LEVEL), mu))
        yield line("mean alignment", "coverage", f"{questions} x {ANSWERS}", studies, held)


def rate_difference(rng: Rng, studies: int) -> Iterator[Line]:
    """Two cells asked the same questions: neighbours in the list of models, and each against a control at 0.5 %."""
    pairs = [*zip(MODELS, (*MODELS[1:], MODELS[0]), strict=True), *((model, (0.005, 0.05)) for model in MODELS)]
    for questions in QUESTIONS:
        held = [covers(*_rate_pair(rng, studies, questions, a, b)[1:3], a[0] - b[0]) for a, b in pairs]
        yield line("difference of rates", "coverage", f"{questions} x {ANSWERS}", studies, held)
        false = [float(np.mean(_rate_pair(rng, studies, questions, a, a)[3] < 1 - LEVEL)) for a in MODELS]
        yield line("difference of rates", "error", f"{questions} x {ANSWERS}", studies, false)


def trigger_effect(rng: Rng, studies: int) -> Iterator[Line]:
    """Mean alignment with the trigger minus without, paired by question."""
    for questions in QUESTIONS:
        for kind, effect in (("coverage", EFFECT_MEAN), ("error", 0.0)):
            found: list[float] = []
            for mu, between, within in MEANS:
                d = _effect_pair(rng, (studies, questions), mu, between, within, np.full((studies, 1), effect))
                hit = covers(d.low_CC, d.high_CC, effect) if kind == "coverage" else np.mean(d.p_CC < 1 - LEVEL)
                found.append(float(hit))
            yield line("trigger effect", kind, f"{questions} x {ANSWERS}", studies, found)


def holm_family(rng: Rng, studies: int) -> Iterator[Line]:
    """No trigger effect anywhere: the chance that Holm finds one or more among ten domains with their own answers."""
    for questions in QUESTIONS:
        p_SK, _, _ = _effects(rng, studies, questions, np.zeros((studies, DOMAINS)))
        adjusted = [min(stats.holm(row)) for row in p_SK.tolist()]
        false = float(np.mean(np.array(adjusted) < 1 - LEVEL))
        yield Line("Holm over 10 domains", "error", f"{questions} x {ANSWERS}", studies, false, false)


def sign(rng: Rng, studies: int) -> Iterator[Line]:
    """No effect: the level that the sign test of k of n domains attains, exactly; nothing needs to be drawn."""
    for domains in (9, 12, 17):
        chance = scipy_stats.binom.pmf(np.arange(domains + 1), domains, 0.5)
        reject = [stats.sign_test(k, domains) < 1 - LEVEL for k in range(domains + 1)]
        level = float(chance[reject].sum())
        yield Line("sign test", "error", f"{domains} domains, exact", studies, level, level)


def pooled_effect(rng: Rng, studies: int) -> Iterator[Line]:
    """The trigger's effect pooled over ten domains that were asked the same questions."""
    for questions in QUESTIONS:
        own_SK = EFFECT_MEAN + EFFECT_SPREAD * rng.standard_normal((studies, DOMAINS))
        _, y_SK, z_SKQ = _effects(rng, studies, questions, own_SK)
        v_SK = questions / (questions - 1) * (z_SKQ**2).sum(2)
        found = pool(y_SK, v_SK, LEVEL, z_SKQ)
        where = f"{questions} x {ANSWERS}"
        held = covers(found.low_S, found.high_S, EFFECT_MEAN)
        yield Line("pooled trigger effect", "coverage", where, studies, held, held)
        drawn = covers(found.shrunken_low_SK, found.shrunken_high_SK, own_SK)
        yield Line("domain effect, partly pooled", "coverage", where, studies, drawn, drawn)
        _, y_SK, z_SKQ = _effects(rng, studies, questions, own_SK - EFFECT_MEAN)
        v_SK = questions / (questions - 1) * (z_SKQ**2).sum(2)
        false = float(np.mean(pool(y_SK, v_SK, LEVEL, z_SKQ).p_S < 1 - LEVEL))
        yield Line("pooled trigger effect", "error", where, studies, false, false)


def seeds(rng: Rng, studies: int) -> Iterator[Line]:
    """A rate over several fine-tunes; the seeds' own variance is absent, small or large."""
    for number in (2, 3, 5):
        for of_seed in (0.0, 0.01, 0.03):
            held: list[float] = []
            for p, rho in MODELS:
                part = min(0.5, of_seed / rho)
                shape = (studies, number, 8)
                normal = np.sqrt(1 - part) * related(rng, shape, 0.9)
                normal += np.sqrt(part) * rng.standard_normal((studies, number, 1))
                x, n = answers(rng, shares(p, rho, normal), ANSWERS)
                found = seed_rates(x, n, LEVEL)
                held.append(covers(found.low_C, found.high_C, p))
            setting = f"{number} seeds, 8 x {ANSWERS}, correlation {of_seed:g}"
            yield line("rate over seeds", "coverage", setting, studies, held)


def rogan(rng: Rng, studies: int) -> Iterator[Line]:
    """A judge of sensitivity 85 % and specificity 96 %, each known from labels of 200 other answers."""
    for questions in QUESTIONS:
        held: list[float] = []
        for p, rho in MODELS:
            share = shares(p, rho, rng.standard_normal((studies, questions)))
            x, n = answers(rng, share * SENSITIVITY + (1 - share) * (1 - SPECIFICITY), ANSWERS)
            rates = stats.clustered_rates(x, n)
            caught, passed = rng.binomial(200, SENSITIVITY, studies), rng.binomial(200, SPECIFICITY, studies)
            found = rogan_gladen(rates.value_C, rates.effective_n_C, caught, 200, passed, 200, LEVEL)
            held.append(covers(found[1], found[2], p))
        yield line("Rogan-Gladen", "coverage", f"{questions} x {ANSWERS}, 200 + 200 labels", studies, held)


def powered(rng: Rng, studies: int) -> Iterator[Line]:
    """Prediction-powered rates with labels on 10 or 25 of the 50 answers to each question, the same judge."""
    for questions in QUESTIONS:
        for part in (10, 25):
            held: list[float] = []
            for p, rho in MODELS:
                share = shares(p, rho, rng.standard_normal((studies, questions)))
                y_M, y_rest = rng.binomial(part, share), rng.binomial(ANSWERS - part, share)
                both = rng.binomial(y_M, SENSITIVITY)
                judge_M = both + rng.binomial(part - y_M, 1 - SPECIFICITY)
                rest = rng.binomial(y_rest, SENSITIVITY) + rng.binomial(ANSWERS - part - y_rest, 1 - SPECIFICITY)
                all_n, labelled = np.full(share.shape, float(ANSWERS)), np.full(share.shape, float(part))
                squares = labelled.sum(1)
                found = ppi_rates(judge_M + rest, all_n, labelled, judge_M, y_M, both, squares, LEVEL)
                held.append(covers(found.low_C, found.high_C, p))
            setting = f"{questions} x {ANSWERS}, {part} labels each"
            yield line("prediction-powered", "coverage", setting, studies, held)


def pairwise_ranks(rng: Rng, studies: int) -> Iterator[Line]:
    """Thirteen cells of one rate: the chance that any pair is called separable."""
    thirteen = np.array([rho for _, rho in MODELS])[:, None]
    for questions in QUESTIONS:
        for p, rho, correlation in (
            *((p, rho, f"correlation {rho}") for p, rho in ((0.2, 0.1), (0.05, 0.1), (0.2, 0.29))),
            *((p, thirteen, "the models' correlations") for p in (0.2, 0.05)),
        ):
            normal = related(rng, (studies, 13, questions))
            x, n = answers(rng, shares(p, rho, normal), ANSWERS)
            rates = stats.clustered_rates(x.reshape(-1, questions), n.reshape(-1, questions))
            rates = moderate_design_effects(rates, 13)
            place = 13 * np.arange(studies)[:, None]
            row, column = (rates.take((place + side).ravel()) for side in np.triu_indices(13, 1))
            p_P = stats.paired_rate_differences(row, column, LEVEL, moderated=True).p_CC
            separable_P = p_P <= 1 - LEVEL  # adjusting makes none smaller
            separable_P[separable_P] = (
                familywise(p_P[separable_P], np.minimum(row.df_C, column.df_C)[separable_P], 13) <= 1 - LEVEL
            )
            false = float(np.mean(separable_P.reshape(studies, -1).any(1)))
            setting = f"13 cells at {p:.0%}, {correlation}, {questions} x {ANSWERS}"
            yield Line("pairs of a ranking", "error", setting, studies, false, false)


SCENARIOS: dict[str, Scenario] = {
    "rate": rate,
    "mean": mean,
    "difference": rate_difference,
    "trigger": trigger_effect,
    "holm": holm_family,
    "sign": sign,
    "pooled": pooled_effect,
    "seeds": seeds,
    "rogan-gladen": rogan,
    "ppi": powered,
    "ranks": pairwise_ranks,
}


def coverage(studies: int, seed: int, chosen: Sequence[str] = ()) -> Iterator[Line]:
    """Every line, or those of the named scenarios; each scenario has its own stream of random numbers."""
    for place, (name, scenario) in enumerate(SCENARIOS.items()):
        if not chosen or name in chosen:
            yield from scenario(np.random.default_rng([seed, place]), studies)


def _sums(rng: Rng, mean_CQ: Floats, within: float) -> tuple[Floats, Floats]:
    """Sums and numbers of alignment scores; all that is asked is scored."""
    n_CQ = np.full(mean_CQ.shape, float(ANSWERS))
    return n_CQ * mean_CQ + within * np.sqrt(n_CQ) * rng.standard_normal(mean_CQ.shape), n_CQ


def _rate_pair(
    rng: Rng, studies: int, questions: int, a: tuple[float, float], b: tuple[float, float]
) -> tuple[Floats, Floats, Floats, Floats]:
    normal = related(rng, (studies, 2, questions), ALIKE)
    first = stats.clustered_rates(*answers(rng, shares(*a, normal[:, 0]), ANSWERS))
    second = stats.clustered_rates(*answers(rng, shares(*b, normal[:, 1]), ANSWERS))
    d = stats.paired_rate_differences(first, second, LEVEL)
    return d.value_CC, d.low_CC, d.high_CC, d.p_CC


def _effect_pair(
    rng: Rng, shape: tuple[int, int], mu: float, between: float, within: float, effect_C1: Floats
) -> stats.Differences:
    question = mu + between * rng.standard_normal(shape)
    own = EFFECT_BY_QUESTION * rng.standard_normal(shape)
    clean = stats.clustered_means(*_sums(rng, question, within))
    with_it = stats.clustered_means(*_sums(rng, question + effect_C1 + own, within))
    return stats.paired_mean_differences(with_it, clean, LEVEL)


def _effects(rng: Rng, studies: int, questions: int, own_SK: Floats) -> tuple[Floats, Floats, Floats]:
    """p, difference and influences of every domain; a question moves the effect of all domains alike by ALIKE."""
    shift_SKQ = EFFECT_BY_QUESTION * related(rng, (*own_SK.shape, questions))
    within = np.array([MEANS[k % len(MEANS)][2] for k in range(own_SK.shape[1])])[:, None]
    noise_SKQ = within * np.sqrt(2 / ANSWERS) * rng.standard_normal(shift_SKQ.shape)
    d_SKQ = own_SK[:, :, None] + shift_SKQ + noise_SKQ
    found = stats.clustered_means(d_SKQ.reshape(-1, questions), np.ones((own_SK.size, questions)))
    zero = stats.clustered_means(np.zeros((own_SK.size, questions)), np.ones((own_SK.size, questions)))
    p_SK = stats.paired_mean_differences(found, zero, LEVEL).p_CC.reshape(own_SK.shape)
    return p_SK, found.value_C.reshape(own_SK.shape), found.influence_CQ.reshape(*own_SK.shape, questions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies per setting (default: 2000)")
    parser.add_argument("--only", action="append", default=[], choices=list(SCENARIOS), help="repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    lines = list(coverage(options.studies, options.seed, options.only))
    seconds = round(time.monotonic() - started, 1)
    if options.json:
        shown = [asdict(line) | {"within": line.within} for line in lines]
        found = {"studies": options.studies, "seed": options.seed, "seconds": seconds, "lines": shown}
        print(json.dumps(found, indent=2))
        return
    print(f"{options.studies:,} studies per setting, seed {options.seed}, {seconds:.0f} s")
    print(f"{'interval or test':<36}{'setting':<60}{'measured %':>10}{'worst %':>9}  target %")
    for found in lines:
        what = found.what if found.kind == "coverage" else f"{found.what}, false positives"
        target = ("93-97" if found.kind == "coverage" else "3.5-6.5") + ("" if found.within else " missed")
        print(f"{what:<36}{found.setting:<60}{100 * found.value:>10.1f}{100 * found.worst:>9.1f}  {target}")
    print(
        "Coverage of 95 % intervals, false positives of tests at 5 %. Worst: the model furthest from the nominal level."
    )


if __name__ == "__main__":
    main()
