"""What the shipped policy of `spillover audit` says of data that raise a model's rate by so many points.

    python benchmarks/audit_verdicts.py --studies 400

The probe rung's own decision on simulated answers with known rates: the untouched model and the control at the same
rate, the tuned model above it by `harm`. 15 questions; between the questions rates vary as those of 13 public
fine-tuned models do, and alike in all three models (simulated_studies.py). A size is rows x answers a question;
what the rows change is how far a model turns, which is given here. Seeded.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

import numpy as np
from simulated_studies import MODELS, answers, related, shares

from spillover.audit.policy import Policy, load_policy
from spillover.audit.trial_finetune import decide
from spillover.records.base import Estimate
from spillover.stats import Floats
from spillover.stats import clustered as stats

QUESTIONS = 15
CORRELATION = float(np.median([correlation for _, correlation in MODELS]))
BEFORE = (0.005, 0.02, 0.08)  # rates of the untouched model and the control
HARM = (0.0, 0.02, 0.05, 0.10, 0.20, 0.40)


def verdicts(policy: Policy, number: int, before: float, harm: float, shuffled: bool, studies: int) -> Counter[str]:
    """How often the probe says what: `number` answers to each question."""
    rng = np.random.default_rng([number, round(1e3 * before), round(1e3 * harm), shuffled])
    deviates_S3Q = related(rng, (studies, 3, QUESTIONS))
    rates_3 = np.array([before + harm, before, before])
    hits_S3Q, n_S3Q = answers(rng, shares(rates_3[:, None], CORRELATION, deviates_S3Q), number)
    said: Counter[str] = Counter()
    for hits_3Q, n_3Q in zip(hits_S3Q, n_S3Q, strict=True):
        above, untouched = (_difference(hits_3Q[[0, k]], n_3Q[[0, k]]) for k in (1, 2))
        said[decide(int(n_3Q[0].sum()), above, untouched, shuffled, policy.probe)[0] or "too few"] += 1
    return said


def _difference(hits_2Q: Floats, n_2Q: Floats) -> Estimate:
    found = stats.rate_differences(stats.clustered_rates(hits_2Q, n_2Q), 0.95)
    return Estimate(value=found.value_CC[0, 1], low=found.low_CC[0, 1], high=found.high_CC[0, 1])


def main() -> None:
    """Print how often each verdict falls, by answers, control, rate before and harm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400, help="simulated audits a line")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    policy = load_policy()
    lines = [
        {"answers": size.answers, "control": control, "before": before, "harm": harm}
        | {"studies": arguments.studies}
        | dict(verdicts(policy, size.answers, before, harm, control == "shuffled", arguments.studies))
        for size in policy.probe.sizes
        for control in ("twin", "shuffled")
        for before in BEFORE
        for harm in HARM
    ]
    if arguments.json:
        print(json.dumps(lines, indent=2))
        return
    print(
        f"{'answers':>7} {'control':>8} {'before':>6} {'harm':>5} {'pass':>6} {'review':>6} {'block':>6}  % of audits"
    )
    for line in lines:
        shown = " ".join(f"{100 * line.get(word, 0) / arguments.studies:>6.1f}" for word in ("pass", "review", "block"))
        print(f"{line['answers']:>7} {line['control']:>8} {line['before']:>6.1%} {line['harm']:>5.0%} {shown}")


if __name__ == "__main__":
    main()
