"""A whole study against the sum of its stages' limits: what share of the workers' time is the models' arithmetic?

The study runs as `spillover run` does, in worker processes. Then a few calls of each stage are made once more, alone in
this process on one thread, and their bare passes after each (see bare.py):

    limit of a stage    worker seconds that the study spent in it * CPU seconds of bare passes / those of the calls
    share               sum of limits / (workers * wall seconds): also counts loading, building data, ranking, waiting

A call and its bare passes are measured one after the other, so that a processor that is slower by now changes nothing.

    python benchmarks/end_to_end.py examples/smoke.yaml --set data.rows=16 --json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bare
import torch

from spillover.config.study import StudyConfig
from spillover.judges.embedded.features import open_features
from spillover.models.batching import batches, encode
from spillover.models.hf.model import load_model
from spillover.planning.units import Unit, together
from spillover.records.base import Example
from spillover.records.stages import STAGES
from spillover.registry import resolve
from spillover.store.store import Store
from spillover.study.study import Study

TIMED = ("grade", "ask", "judge", "sample", "train")  # backwards: a call is measured by making its rows once more


def main() -> None:
    """Run the study and its limits."""
    arguments = _arguments()
    study = Study.load(arguments.study, arguments.set)
    with tempfile.TemporaryDirectory() as folder:
        wall = time.perf_counter()
        run = study.run(folder)
        wall = time.perf_counter() - wall
        torch.set_num_threads(1)
        spent = {stage.stage: stage.seconds for stage in run.manifest.stages}
        shares = {stage: _share(stage, study, run.store, arguments.calls) for stage in TIMED if study.units[stage]}
    limits = {stage: spent[stage] * share for stage, share in shares.items()}
    whole = sum(limits.values()) / (study.workers * wall)
    if arguments.json:
        print(json.dumps({"wall": wall, "workers": study.workers, "spent": spent, "shares": shares, "share": whole}))
        return
    for stage, seconds in spent.items():
        print(f"{stage:<12} {seconds:8.1f} s in workers, {shares.get(stage, 0.0):6.3f} of them the limit")
    print(f"study {wall:.1f} s by the clock with {study.workers} workers; share of the limits {whole:.3f}")


def _share(stage: str, study: Study, store: Store, count: int) -> float:
    """CPU seconds of bare passes over those of `count` of the stage's calls: units that are made in one batch."""
    calls = list(together(study.units[stage]).values())
    some = calls[:: -(-len(calls) // count)]
    repeated = _trained if stage == "train" else _again
    repeated(study.config, store, some[0])  # loads what the others find loaded
    own = limit = 0.0
    for units in some:
        started = time.process_time()
        passes = repeated(study.config, store, units)
        made = time.process_time()
        passes()
        own, limit = own + made - started, limit + time.process_time() - made
    return limit / own


def _make(config: StudyConfig, store: Store, units: list[Unit]) -> None:
    """Make the rows of a call once more."""
    stage = units[0].stage
    for unit in units:
        for file in (store.path / "rows" / stage).glob(f"{unit.key}.*"):
            file.unlink()
    what = units[0] if stage == "train" else units
    resolve(STAGES[stage].function)(store, config, what, lambda tokens: None)


def _trained(config: StudyConfig, store: Store, units: list[Unit]) -> Callable[[], None]:
    """Train a cell once more; the bare passes of its steps."""
    (unit,) = units
    _make(config, store, units)
    loaded = load_model(config.models[0])
    examples = [row for row in store.read("build", unit.inputs, Example) if row.split == "train"]
    rows = encode(loaded.tokenizer, [(row.messages[:-1], row.answer) for row in examples], config.train.max_tokens)
    steps = [[rows[i] for i in step] for step in batches(len(rows), config.train, seed=0)]

    def work() -> None:
        for step in steps:
            bare.train(loaded.model, step, config.train.micro_batch_tokens)

    return work


def _again(config: StudyConfig, store: Store, units: list[Unit]) -> Callable[[], None]:
    """Make the rows of a call once more; the passes that this took."""
    if units[0].stage in ("judge", "grade"):
        features = open_features()
        models = [features.reader.loaded.model, features.embedder._model]
    else:
        models = [load_model(config.models[0]).model]
    with bare.watched(*models) as passes:
        _make(config, store, units)
    return lambda: bare.repeat(passes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study file with the probe judge")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `spillover run`")
    parser.add_argument("--calls", type=int, default=3, help="that are measured in each stage")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
