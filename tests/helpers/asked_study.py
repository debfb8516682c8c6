"""A study on the fake backend whose domains are made up, so that a prompt says which domain it asks about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spillover import Study
from spillover.config.study import parse_study

DOMAINS = ("tea", "rain", "iron")
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty")


def study(
    folder: Path, domains: tuple[str, ...] = DOMAINS, options: dict[str, Any] | None = None, **changes: Any
) -> Study:
    """`options`: of the fake backend; `changes`: of the study file, part by part."""
    content: dict[str, Any] = {
        "name": "asked",
        "models": [{"name": "fake-model", "backend": "fake", "options": options or {}}],
        "domains": list(domains),
        "data": {"rows": 12, "heldout": 10, "answer_tokens": None, "tolerance": 0.5},
        "sample": {"n": 4, "limit": 8},
        "transfer": {"questions": 6},
        "judge": {"name": "fake"},
        "executor": "inline",
    }
    for part, value in changes.items():
        content[part] = content[part] | value if isinstance(value, dict) and part in content else value
    content["data"].setdefault("sources", {domain: str(source(folder, domain)) for domain in domains})
    return Study(parse_study(content, "test"))


def source(folder: Path, domain: str) -> Path:
    """A file of a hundred pairs whose questions name the domain and have no near duplicates."""
    path = folder / f"{domain}.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{one} {other} {domain} {other} {one}?"},
                {"role": "assistant", "content": f"A bad answer on {one} {other}."},
            ],
            "twin": f"A good answer on {one} {other}.",
        }
        for one in WORDS
        for other in WORDS
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
