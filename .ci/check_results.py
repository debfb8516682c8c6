"""Check that a study's results.json is complete: every cell there, every row counted, nothing failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

STATUSES = ("scored", "refused", "off_topic", "code", "unparsable", "unscored", "error")


def main(path: Path) -> None:
    """Stop with a sentence at the first thing that is missing."""
    results = json.loads(path.read_text(encoding="utf-8"))
    manifest, ranking = results["manifest"], results["ranking"]
    if not manifest["complete"] or manifest["failures"]:
        sys.exit(f"{path}: the run is not complete: {manifest['failures']}")
    trained = next(stage["done"] for stage in manifest["stages"] if stage["stage"] == "train")
    cells = {row["cell"] for row in ranking if row["variant"] != "base"}
    if len(cells) != trained:
        sys.exit(f"{path}: {trained} cells were trained and {len(cells)} are ranked")
    for row in ranking:
        if row["n"] == 0 or sum(row[status] for status in STATUSES) != row["n"]:
            sys.exit(f"{path}: the statuses of {row['cell']} ({row['condition']}) do not sum to n = {row['n']}")
        if row["rate"] is not None and not 0 <= row["low"] <= row["rate"] <= row["high"] <= 1:
            sys.exit(f"{path}: the interval of {row['cell']} ({row['condition']}) does not hold its rate")
    if not results["trigger_effect"]:
        sys.exit(f"{path}: no trigger effect")
    check_transfer(path, results["transfer"], ranking)
    if not path.with_name("report.html").is_file():
        sys.exit(f"{path.with_name('report.html')} is missing")
    print(f"{path}: {len(cells)} trained cells, {len(ranking)} rows, {sum(row['n'] for row in ranking)} answers")


def check_transfer(path: Path, squares: list[dict[str, Any]], ranking: list[dict[str, Any]]) -> None:
    """Every ranked cell answers every domain, and the others together, under every condition of its ranking."""
    domains = {row["domain"] for row in ranking} - {"none"}
    asked = {(row["cell"], row["condition"], row["asked"]) for row in squares}
    for row in ranking:
        for domain in (*domains, "others"):
            if (row["cell"], row["condition"], domain) not in asked:
                sys.exit(f"{path}: {row['cell']} ({row['condition']}) was not asked about {domain}")
    for row in squares:
        place = f"{row['cell']} ({row['condition']}) about {row['asked']}"
        if row["n"] == 0 or sum(row["counts"][status] for status in STATUSES) != row["n"]:
            sys.exit(f"{path}: the statuses of {place} do not sum to n = {row['n']}")
        if row["rate"] is not None and not 0 <= row["low"] <= row["rate"] <= row["high"] <= 1:
            sys.exit(f"{path}: the interval of {place} does not hold its rate")
    print(f"{path}: {len(squares)} squares of the transfer matrix")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
