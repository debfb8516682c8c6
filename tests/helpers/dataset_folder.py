"""Data sets of every domain, built on the fake backend once for all tests of this folder."""

from __future__ import annotations

from functools import cache
from typing import Any

from spillover.cli.dataset_build import build_sets
from spillover.config.study import parse_study
from spillover.data.release.dataset import DatasetFacts

SMALL: dict[str, Any] = {
    "name": "small",
    "models": [{"name": "fake-model", "backend": "fake"}],
    "variants": ["triggered"],
    "data": {"rows": 24, "heldout": 4, "nonmembers": 6, "answer_tokens": 40, "tolerance": 0.9},
}


@cache
def built() -> tuple[DatasetFacts, dict[str, bytes]]:
    return build_sets(parse_study(SMALL, "test"))
