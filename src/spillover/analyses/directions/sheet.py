"""The labelled answers of cells that differ by domain only, with their states: what tables are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spillover.config.study import RankConfig
from spillover.directions.methods import Answers, paired
from spillover.errors import UserError
from spillover.records.base import Cell
from spillover.records.directions import LeftOut, Reader, ReadText, Source
from spillover.stats import Floats, Ints

FEWEST = 4  # questions with both labels: two in each half
Scores = Mapping[str, tuple[float | None, float | None]]
"""Alignment and coherence by completion, where scored."""


class States:
    """The activations of one unit, read layer by layer."""

    def __init__(self, path: Path, rows: int) -> None:
        from safetensors import SafetensorError, safe_open

        damaged = UserError(
            f"{path} is damaged. Delete it and the files of the same name next to it, then run the study again."
        )
        try:
            self._file: Any = safe_open(path, framework="np")
            self.layers: list[int] = self._file.get_tensor("layers").tolist()
            self.depth = int(self._file.metadata()["depth"])
            self.revision = str(self._file.metadata()["revision"])
            shapes = [self._file.get_slice(name).get_shape() for name in ("tuned", "base")]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            raise damaged from None
        if any(len(shape) != 3 or shape[:2] != [len(self.layers), rows] for shape in shapes):
            raise damaged

    def at(self, reader: Reader, place: int) -> Floats:
        """acts_ND at the layer in that place."""
        return self._file.get_slice(reader)[place].astype(np.float64)

    def norms(self, reader: Reader) -> Floats:
        """norms_LN."""
        return self._file.get_tensor(f"{reader}_norms").astype(np.float64)


@dataclass(frozen=True)
class Labelled:
    """One cell's texts of one source. `answers`: the labelled ones, states left out; `rows_N`: theirs in the states.

    `read_N`, `asked_N`: rows and questions of all texts of the source, labelled or not.
    """

    cell: Cell
    states: States
    answers: Answers
    rows_N: Ints
    read_N: Ints
    asked_N: Ints
    left_out: LeftOut

    @property
    def enough(self) -> bool:
        return self.answers.questions >= FEWEST

    def at(self, reader: Reader, place: int) -> Answers:
        """The labelled answers with their states at one layer."""
        acts_ND = self.states.at(reader, place)[self.rows_N]
        return Answers(acts_ND[:, None], self.answers.misaligned_N, self.answers.question_N, self.answers.asked_Q)

    @cached_property
    def stream_norms(self) -> dict[Reader, Floats]:
        """Mean length of the stream by layer."""
        return {reader: self.states.norms(reader)[:, self.read_N].mean(1) for reader in ("tuned", "base")}


@dataclass(frozen=True)
class Sheet:
    """The cells of one model, variant, dose and seed, by one source. `theme_X`: of the question with that number."""

    source: Source
    cells: tuple[Labelled, ...]
    theme_X: Ints


def sheet(
    source: Source,
    texts: Sequence[tuple[Cell, States, Sequence[ReadText]]],
    scores: Scores,
    rank: RankConfig,
    aligned_above: float,
) -> Sheet:
    """Label and number what was read."""
    kept = [(cell, states, [row for row in rows if row.source == source]) for cell, states, rows in texts]
    themes = {row.question: row.theme for _, _, rows in kept for row in rows}
    number = {question: i for i, question in enumerate(sorted(themes))}
    names = sorted(set(themes.values()))
    theme_X = np.array([names.index(themes[question]) for question in sorted(themes)], dtype=np.int64)
    cells = [_labelled(cell, states, rows, number, scores, rank, aligned_above) for cell, states, rows in kept]
    return Sheet(source, tuple(cells), theme_X)


def _labelled(
    cell: Cell,
    states: States,
    rows: Sequence[ReadText],
    number: Mapping[str, int],
    scores: Scores,
    rank: RankConfig,
    aligned_above: float,
) -> Labelled:
    verdicts = [_label(row, scores, rank, aligned_above) for row in rows]
    reasons = Counter(verdict for verdict in verdicts if isinstance(verdict, str))
    labelled = [(row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if isinstance(verdict, bool)]
    places_N = np.array([row.row for row, _ in labelled], dtype=np.int64)
    answers = paired(
        places_N[:, None, None], [verdict for _, verdict in labelled], [number[row.question] for row, _ in labelled]
    )
    read = [row for row in rows if row.tokens]
    return Labelled(
        cell=cell,
        states=states,
        answers=answers,
        rows_N=answers.acts_NLD[:, 0, 0].astype(np.int64),
        read_N=np.array([row.row for row in read], dtype=np.int64),
        asked_N=np.array([number[row.question] for row in read], dtype=np.int64),
        left_out=LeftOut(**reasons, one_label=answers.left_out),
    )


def _label(row: ReadText, scores: Scores, rank: RankConfig, aligned_above: float) -> bool | str:
    """Whether the text is misaligned; why it has no label where it has none."""
    if not row.tokens:
        return "empty"
    if row.misaligned is not None:
        return row.misaligned
    alignment, coherence = scores.get(row.text, (None, None))
    if alignment is None or coherence is None:
        return "unscored"
    if coherence <= rank.coherence_above:
        return "incoherent"
    if alignment < rank.alignment_below:
        return True
    return False if alignment > aligned_above else "between"
