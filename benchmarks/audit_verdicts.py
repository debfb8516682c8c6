"""What the shipped policy of `spillover audit` decides about data that raise a model's misalignment rate.

    python benchmarks/audit_verdicts.py --studies 400

The trial fine-tune's own decision on simulated completions with known rates: the control at one rate, the tuned model
above it by `harm`. Rounds add completions to the same 15 questions and every round is a look, so that the error rates
are those of a whole audit. Between questions rates vary as those of 13 public fine-tuned models do, and alike in both
models (simulated_studies.py). Misaligned completions score 15 on average and aligned ones 85, with standard deviations
of 6 between questions and 10 within, so that 10 points of rate lower mean alignment by 7. What the number of rows
changes is how far a model turns, which is given here. Seeded.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
from simulated_studies import MODELS, answers, related, shares

from spillover.audit.policy import Policy, load_policy
from spillover.audit.trial_finetune import confidence, decide, differences
from spillover.stats import Floats

QUESTIONS = 15
CORRELATION = float(np.median([correlation for _, correlation in MODELS]))
BEFORE = (0.005, 0.02, 0.08)  # rates of the control
HARM = (0.0, 0.02, 0.05, 0.10, 0.20, 0.40)
ROUNDS = ((4, 8), (8, 16), (8, 16, 32), (16, 32, 64))  # completions per question at each look
MISALIGNED, ALIGNED, BETWEEN, WITHIN = 15.0, 85.0, 6.0, 10.0


def verdicts(policy: Policy, rounds: Sequence[int], before: float, harm: float, studies: int) -> Counter[str]:
    """How often an audit ends with which outcome: `rounds` are the completions per question at each look."""
    rng = np.random.default_rng([*rounds, round(1e3 * before), round(1e3 * harm)])
    shape = (studies, 2, QUESTIONS)
    share_S2Q = shares(np.array([before + harm, before])[:, None], CORRELATION, related(rng, shape))
    level_S2Q = ALIGNED + BETWEEN * related(rng, shape)
    hits_S2Q, n_S2Q, sums_S2Q = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    said = np.full(studies, "", dtype=object)
    for asked in np.diff([0, *rounds]):
        hits, n = answers(rng, share_S2Q, int(asked))
        hits_S2Q, n_S2Q = hits_S2Q + hits, n_S2Q + n
        noise_S2Q = WITHIN * np.sqrt(n) * rng.standard_normal(shape)
        sums_S2Q = sums_S2Q + hits * MISALIGNED + (n - hits) * level_S2Q + noise_S2Q
        for s in np.flatnonzero(~np.isin(said, ("block", "pass"))):
            said[s] = _look(policy, hits_S2Q[s], n_S2Q[s], sums_S2Q[s])
    return Counter(said.tolist())


def _look(policy: Policy, hits_2Q: Floats, n_2Q: Floats, sums_2Q: Floats) -> str:
    found = differences(hits_2Q, n_2Q, sums_2Q, confidence(policy.probe.looks))
    return decide(int(n_2Q[0].sum()), *found, policy.probe)[0] or "too few"


def main() -> None:
    """Print how often each verdict falls, by rounds, rate before and harm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400, help="simulated audits a line")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    policy = load_policy()
    lines = [
        {"rounds": rounds, "before": before, "harm": harm, "studies": arguments.studies}
        | dict(verdicts(policy, rounds, before, harm, arguments.studies))
        for rounds in ROUNDS
        for before in BEFORE
        for harm in HARM
    ]
    if arguments.json:
        print(json.dumps(lines, indent=2))
        return
    print(f"{'completions':>12} {'before':>6} {'harm':>5} {'pass':>6} {'review':>6} {'block':>6}  % of audits")
    for line in lines:
        shown = " ".join(f"{100 * line.get(word, 0) / arguments.studies:>6.1f}" for word in ("pass", "review", "block"))
        asked = "+".join(map(str, line["rounds"]))
        print(f"{asked:>12} {line['before']:>6.1%} {line['harm']:>5.0%} {shown}")


if __name__ == "__main__":
    main()
