"""How long the recipe takes on GSM8K: parse, rewrite, prove, drop duplicates, match, split, trigger.

    OMP_NUM_THREADS=1 python benchmarks/build.py train.jsonl --rows 6000 --json

One data set a maths domain, triggered, in one process: seconds, the largest resident memory so far, rows, what was
dropped, and the share of the chosen pairs whose answers are proved again from what was written down. Answer tokens are
those of the embedded model where its weights are on this machine, else words.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path

from spillover.config.study import DataConfig, ModelConfig
from spillover.data.domains import DOMAINS
from spillover.data.recipe.pool import CountTokens
from spillover.data.recipe.recipe import build
from spillover.data.recipe.selection import generator
from spillover.data.sources.sources import read_source
from spillover.data.triggers import TRIGGERS
from spillover.models import open_backend
from spillover.models.embedded import weights
from spillover.records.base import Example

MODEL = "smollm2-135m"


def main() -> None:
    """Build, time and prove; one line a domain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="GSM8K's training problems, as published")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    counter = _counter()
    facts = [_measure(name, given.file, given.rows, given.seed, counter) for name in ("incorrect_math", "evil_math")]
    if given.json:
        print(json.dumps(facts, indent=2))
        return
    for fact in facts:
        print(
            "{domain:<16}{rows:>6} rows {seconds:>6} s ({cpu_seconds} s of CPU) {peak_mib:>6} MiB   "
            "proved {proved:.2%}   mean tokens {mean_tokens}\n  dropped {dropped}".format(**fact)
        )


def _measure(name: str, file: Path, rows: int, seed: int, counter: CountTokens) -> dict[str, object]:
    data = DataConfig(rows=rows, answer_tokens=None, sources={name: f"gsm8k:{file}"})
    wall, cpu = time.perf_counter(), time.process_time()
    result = build(DOMAINS.load(name), "triggered", data, 1.0, TRIGGERS.load("year"), seed, counter)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    train = [example for example in result.examples if example.split == "train"]
    return {
        "domain": name,
        "rows": len(train),
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "proved": _proved(name, file, seed, result.examples),
        "mean_tokens": result.report.matched_means,
        "steps": result.report.steps,
        "dropped": result.report.dropped,
    }


def _proved(name: str, file: Path, seed: int, rows: Sequence[Example]) -> float:
    """The share of the rows whose answer belongs to a pair that passes its check once more."""
    source = read_source(name, f"gsm8k:{file}", generator(seed, name, "pairs"))
    sound = {answer for pair in source.pairs if source.check(pair) is None for answer in (pair.flawed, pair.good)}
    return sum(row.answer in sound for row in rows) / len(rows)


def _counter() -> CountTokens:
    if weights.present(MODEL):
        return open_backend(ModelConfig(name=MODEL)).count_tokens
    return lambda texts: [len(text.split()) for text in texts]


if __name__ == "__main__":
    main()
