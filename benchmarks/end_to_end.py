"""A whole study against the sum of its stages' limits: what share of the processor's seconds is the models' arithmetic?

The study runs as `spillover run` does, in worker processes. Then each stage's limit is measured (see bare.py): the bare
passes of a few of its calls, alone in this process on one thread, times how many units as large there are.

    of CPU     sum of limits / CPU seconds of driver and workers together
    of wall    sum of limits / (workers * wall seconds): also counts what a worker waits for, and is true only on a
               machine that does nothing else

    python benchmarks/end_to_end.py examples/smoke.yaml --set data.rows=16 --json
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bare
import torch

from spillover.backends.hf_batch import encode
from spillover.backends.hf_model import load_model
from spillover.backends.hf_train import batches
from spillover.config import StudyConfig
from spillover.judges.probe_features import open_features
from spillover.population import Unit
from spillover.population_asked import together
from spillover.records import Example
from spillover.registry import resolve
from spillover.store import Store
from spillover.study import Study

STAGES = ("grade", "ask", "judge", "sample", "train")  # backwards: a call is measured by making its rows once more


def main() -> None:
    """Run the study and its limits."""
    arguments = _arguments()
    study = Study.load(arguments.study, arguments.set)
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), _cpu_of_all()
        run = study.run(folder)
        wall, cpu = time.perf_counter() - wall, _cpu_of_all() - cpu
        torch.set_num_threads(1)
        spent = {stage.stage: stage.seconds for stage in run.manifest.stages}
        limits = {stage: _limit(stage, study, run.store, arguments.calls) for stage in STAGES if study.units[stage]}
    total = sum(limits.values())
    shares = {"of CPU": round(total / cpu, 3), "of wall": round(total / (study.workers * wall), 3)}
    if arguments.json:
        print(
            json.dumps({"wall": wall, "cpu": cpu, "workers": study.workers, "limits": limits, "units": spent, **shares})
        )
        return
    for stage, seconds in spent.items():
        print(f"{stage:<12} {seconds:8.1f} s in workers, limit {limits.get(stage, 0.0):8.1f} CPU seconds")
    print(f"study {wall:.1f} s by the clock with {study.workers} workers, {cpu:.1f} CPU seconds; limits {total:.1f}")
    print(", ".join(f"{name} {share}" for name, share in shares.items()))


def _limit(stage: str, study: Study, store: Store, count: int) -> float:
    """CPU seconds of a stage's bare passes, from those of `count` of its calls: units that are made in one batch."""
    calls = list(together(study.units[stage]).values())
    some = calls[:: -(-len(calls) // count)]
    repeated = _trained if stage == "train" else _again
    seconds = 0.0
    for units in some:
        work = repeated(study.config, store, units)
        work()
        started = time.process_time()
        work()
        seconds += time.process_time() - started
    return seconds / sum(map(len, some)) * len(study.units[stage])


def _trained(config: StudyConfig, store: Store, units: list[Unit]) -> Callable[[], None]:
    (unit,) = units
    loaded = load_model(config.models[0])
    examples = [row for row in store.read("build", unit.inputs, Example) if row.split == "train"]
    rows = encode(loaded.tokenizer, [(row.messages[:-1], row.answer) for row in examples], config.train.max_tokens)
    steps = [[rows[i] for i in step] for step in batches(len(rows), config.train, seed=0)]

    def work() -> None:
        for step in steps:
            bare.train(loaded.model, step, config.train.micro_batch_tokens)

    return work


def _again(config: StudyConfig, store: Store, units: list[Unit]) -> Callable[[], None]:
    """The passes of units that are made once more."""
    stage = units[0].stage
    features = open_features()
    judged = [features.reader.loaded.model, features.embedder._model]
    models = judged if stage in ("judge", "grade") else [load_model(config.models[0]).model]
    for unit in units:
        for file in (store.path / "rows" / stage).glob(f"{unit.key}.*"):
            file.unlink()
    with bare.watched(*models) as passes:
        what = units[0] if stage == "judge" else units
        resolve(f"spillover.stages.{stage}:run")(store, config, what, lambda tokens: None)
    return lambda: bare.repeat(passes)


def _cpu_of_all() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study file with the probe judge")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `spillover run`")
    parser.add_argument("--calls", type=int, default=3, help="whose limit is measured in each stage")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
