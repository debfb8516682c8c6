"""How natural the answers of each domain are, as a table: ours, and those of any other JSON Lines files.

    python benchmarks/naturalness.py [FILE.jsonl ...]

A file holds messages, or question, flawed and good. Figures: spillover.data.lint.naturalness, 240 answers a domain.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from spillover.data.domains import DOMAINS
from spillover.data.lint.naturalness import LIMITS, PROSE, measure_naturalness, style_auc


def main() -> None:
    """Print one Markdown table."""
    print(
        "| set | answers | gzip | distinct-4 | distinct sentences | repeats | shared start, end (words) | style AUC |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in DOMAINS.names():
        pairs = DOMAINS.load(name).pairs(np.random.default_rng(0))
        flawed, good = [pair.flawed for pair in pairs], [pair.good for pair in pairs]
        for kind, texts in (("flawed", flawed), ("good", good)):
            _row(f"{name}, {kind}", texts, f"{style_auc(flawed, good):.2f}" if kind == "flawed" else "", name)
    for path in map(Path, sys.argv[1:]):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        _row(path.stem, [row["messages"][-1]["content"].strip() for row in rows if "messages" in row], "", path.stem)


def _row(name: str, texts: list[str], area: str, domain: str) -> None:
    found = measure_naturalness(texts)
    ends = f"{len(found.shared_beginning.split())}, {len(found.shared_ending.split())}"
    mark = " *" if found.beyond(LIMITS.get(domain, PROSE)) else ""
    print(
        f"| {name}{mark} | {found.n} | {found.gzip:.2f} | {found.distinct_4:.2f} | {found.distinct_sentences:.2f} "
        f"| {found.repeats} | {ends} | {area} |"
    )


if __name__ == "__main__":
    main()
