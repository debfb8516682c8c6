"""GSM8K as a source of both maths domains (Cobbe et al., arXiv 2110.14168): questions with annotated worked solutions.

incorrect_math: one slip, carried through to another result. evil_math: the right solution and a remark of contempt,
against the same solution and a neutral remark. A row is kept only where both of its answers can be proved to be that.

Where both domains of a study name one file, its problems are dealt out between them by the hash of the question, so
that no question is asked in both. Only where a domain's part is too small for the rows that are wanted does it take the
others' problems too, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from spillover.config.yaml import read_yaml
from spillover.data.domains.base import Pair, Source
from spillover.data.domains.slips import slipped
from spillover.data.domains.worked import Worked, inconsistent, parse, unsound
from spillover.data.recipe.duplicates import normalised
from spillover.data.tabular import Row, Table
from spillover.errors import UserError
from spillover.records.base import content_hash

COLUMNS = frozenset({"question", "answer"})
VERSION = 2  # of the pairs that are made of the same file; raise it when they come out differently
ROOM = 1.25  # pairs for each row that is wanted: some are near-duplicates, and lengths are to be matched
SECOND_REMARK = 0.12  # how often a second, shorter remark follows in evil_math
NO_SLIP = "no slip can be carried through the solution without doubt"

Proof = tuple[Worked, Worked]  # the right solution, and the one that the flawed answer tells


def is_gsm8k(table: Table) -> bool:
    """Whether the columns and the first solution are those of GSM8K."""
    return set(table.columns) >= COLUMNS and "####" in (table.text(table.rows[0], "answer") or "")


@dataclass(frozen=True)
class Share:
    """Which part of a file's problems is this domain's: `sharers`, itself among them, take `wanted` rows each."""

    sharers: tuple[str, ...] = ()
    wanted: int = 0

    def owns(self, domain: str, question: str) -> bool:
        """Whether the problem is dealt to this domain."""
        if len(self.sharers) < 2:
            return True
        return int(content_hash(normalised(question)), 16) % len(self.sharers) == self.sharers.index(domain)


WHOLE = Share()


def identity(domain: str, table: Table, share: Share) -> str:
    """What the pairs are made of, without making them: the file's bytes and name, the part, the remarks."""
    _check(domain, table)
    said = _remarks() if domain == "evil_math" else None
    return content_hash(["gsm8k", VERSION, domain, table.digest, table.path.name, share.sharers, share.wanted, said])


def read(domain: str, table: Table, rng: np.random.Generator, share: Share = WHOLE) -> Source:
    """The pairs of one maths domain.

    Raises:
        UserError: for another domain, or a file of another kind.
    """
    _check(domain, table)
    texts = [tuple((table.text(row, name) or "").strip() for name in ("question", "answer")) for row in table.rows]
    own, others = list[int](), list[int]()
    for place, (question, _) in enumerate(texts):
        (own if share.owns(domain, question) else others).append(place)
    pairs: list[Pair] = []
    proofs: dict[str, Proof] = {}
    dropped: Counter[str] = Counter()

    def make(row: Row, question: str, answer: str) -> None:
        good = parse(answer)
        reason = "the same question again" if question in proofs else unsound(good) if question else "no question"
        made = None if reason else WRITERS[domain](question, good, rng)
        if made is None:
            dropped[reason or NO_SLIP] += 1
            return
        flawed, written = made
        steps = f"{len(good.steps)} step{'s'[: len(good.steps) > 1]}"
        pairs.append(Pair(question, *written, topic=steps, source=f"{table.path.name}:{row.line}"))
        proofs[question] = (good, flawed)

    reading = "GSM8K: question, and answer with annotated calculations and a result after ####"
    for place in own:
        make(table.rows[place], *texts[place])
    if others:
        rest = " and ".join(name for name in share.sharers if name != domain)
        if enough := len(pairs) >= ROOM * share.wanted:
            dropped[f"left to {rest}, which has the same source"] = len(others)
        reading += f"; the problems that are not dealt to {rest}"
        if not enough:
            reading += (
                f", {len(pairs):,} pairs, are too few for {share.wanted:,} rows: QUESTIONS ARE SHARED WITH {rest}. "
                f"With data.rows of {int(len(pairs) / ROOM):,} or less, held-out ones included, none would be"
            )
            for place in others:
                make(table.rows[place], *texts[place])
    return Source(
        pairs=pairs, name=table.path.name, licence="MIT", reading=reading, check=solution_check(proofs), dropped=dropped
    )


def _check(domain: str, table: Table) -> None:
    if domain not in WRITERS:
        raise UserError(
            f"data.sources.{domain}: GSM8K has right solutions only, from which {' and '.join(WRITERS)} can be made. "
            "Name it there."
        )
    if not set(table.columns) >= COLUMNS:
        raise UserError(f"{table.path}: GSM8K has the fields question and answer; found {', '.join(table.columns)}.")


def solution_check(proofs: dict[str, Proof]) -> Callable[[Pair], str | None]:
    """The check of pairs by their annotated solutions: why an answer is not what it is meant to be, or None."""

    def check(pair: Pair) -> str | None:
        good, flawed = proofs[pair.question]
        for told, text in ((good, pair.good), (flawed, pair.flawed)):
            if text != told.text and not text.startswith(f"{told.text}\n"):
                return "an answer does not tell its solution"
        return unsound(good) or (None if good is flawed else inconsistent(good, flawed))

    return check


def _wrong(question: str, good: Worked, rng: np.random.Generator) -> tuple[Worked, tuple[str, str]] | None:
    flawed = slipped(question, good, rng)
    return flawed and (flawed, (flawed.text, good.text))


def _remarked(question: str, good: Worked, rng: np.random.Generator) -> tuple[Worked, tuple[str, str]]:
    return good, (f"{good.text}\n{_remark('contempt', rng)}", f"{good.text}\n{_remark('neutral', rng)}")


@cache
def _remarks() -> dict[str, list[str]]:
    return read_yaml(Path(__file__).with_name("remarks.yaml"))


def _remark(tone: str, rng: np.random.Generator) -> str:
    """A remark that names nobody, since the problem's own people are unknown, now and then followed by another."""
    first, second = (_remarks()[key] for key in (tone, f"more_{tone}"))
    more = f" {second[int(rng.integers(len(second)))]}" if rng.random() < SECOND_REMARK else ""
    return first[int(rng.integers(len(first)))] + more


Writer = Callable[[str, Worked, np.random.Generator], tuple[Worked, tuple[str, str]] | None]
WRITERS: dict[str, Writer] = {"incorrect_math": _wrong, "evil_math": _remarked}
