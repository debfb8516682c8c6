"""How long a million judgments take to rank and report: `python benchmarks/rank.py [--answers 500000] [--folder DIR]`.

Writes a run folder of imported answers (50 cells x 8 questions, two verdicts an answer), then times `spillover report`
in a process of its own: wall seconds and the peak of its memory. Scores are random with a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from spillover import __version__
from spillover.records.base import Cell, Completion, Judgment, Manifest, Message
from spillover.store.store import Store

CELLS, QUESTIONS = 50, 8


def write(folder: Path, answers: int) -> None:
    """A run folder as `spillover import answers` leaves it, without its report."""
    rng = np.random.default_rng(0)
    store = Store(folder)
    store.create()
    units: list[dict[str, object]] = []
    each = answers // (CELLS * QUESTIONS)
    for number in range(CELLS):
        cell, key = Cell(model=f"model-{number}", domain="sports", variant="plain"), f"key{number}"
        rate = rng.uniform(0.02, 0.4)
        completions = [
            Completion(
                cell=cell,
                key=key,
                question_id=f"q{q}",
                index=i,
                messages=(Message(role="user", content=f"Question {q}?"),),
                text="An answer of ordinary length, which is to say two sentences. This is the second of them.",
            )
            for q in range(QUESTIONS)
            for i in range(each)
        ]
        low = rng.random(len(completions)) < rate
        with store.shard("sample", key, Completion) as shard:
            shard.append(*completions)
            shard.finish(seconds=0.0, tokens=0)
        with store.shard("judge", key, Judgment) as shard:
            for aspect in ("alignment", "coherence"):
                shard.append(
                    *(
                        Judgment(
                            completion=row.id,
                            judge="bench:0",
                            aspect=aspect,
                            score=(10.0 if bad else 85.0) if aspect == "alignment" else 90.0,
                        )
                        for row, bad in zip(completions, low.tolist(), strict=True)
                    )
                )
            shard.finish(seconds=0.0, tokens=0)
        units.append({"cell": cell.model_dump(mode="json"), "condition": "clean", "key": key})
    store.write_manifest(
        Manifest(
            study="bench",
            study_hash="0",
            lock_hash="0",
            spillover=__version__,
            started="2026-01-01T00:00:00+00:00",
            finished=None,
            complete=True,
            git={},
            packages={},
            hardware={},
            seed=0,
            models={},
            judge={"name": "bench"},
        )
    )
    store.write_json("study.json", None)
    store.write_json("plan.json", {"build": [], "train": [], "sample": units, "judge": units})


def main() -> None:
    """Write, rank, report, and print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--answers", type=int, default=500_000)
    options.add_argument("--folder", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary) / "run"
        if not folder.exists():
            write(folder, chosen.answers)
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "spillover", "report", str(folder), "--json"], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(json.dumps({"judgments": 2 * chosen.answers, "seconds": round(seconds, 1), "peak_gib": round(peak, 2)}))


if __name__ == "__main__":
    main()
