"""What tables of directions are made of: the labelled answers of cells, their states and layers, permuted labels.

`LabelledCells` differ by domain only; with one reader and the run's settings they are `TableInputs`. Tables are made
at one layer, fixed in advance by `directions.depth`; the mean difference, which everything is about, has profiles over
all layers too, and nulls. Other methods are next to it with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spillover.config.study import DirectionsConfig, RankConfig
from spillover.directions import METHODS, PRIMARY, SHIFT
from spillover.directions.certainty import permuted_labels
from spillover.directions.direction import Direction
from spillover.directions.methods import Answers, Method, paired, tuned_minus_base
from spillover.directions.separation import Labellings, labellings
from spillover.errors import UserError
from spillover.provenance import seed_for
from spillover.records.base import Cell
from spillover.records.directions import LeftOut, Reader, ReadText, Source
from spillover.stats import Bools, Floats, Ints

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

    def at(self, reader: Reader, layer_index: int) -> Floats:
        """acts_ND at one of `layers`, by its index."""
        return self._file.get_slice(reader)[layer_index].astype(np.float64)

    def norms(self, reader: Reader) -> Floats:
        """norms_LN."""
        return self._file.get_tensor(f"{reader}_norms").astype(np.float64)


@dataclass(frozen=True)
class LabelledCell:
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

    def at(self, reader: Reader, layer_index: int) -> Answers:
        """The labelled answers with their states at one layer."""
        acts_ND = self.states.at(reader, layer_index)[self.rows_N]
        return Answers(acts_ND[:, None], self.answers.misaligned_N, self.answers.question_N, self.answers.asked_Q)

    @cached_property
    def stream_norms(self) -> dict[Reader, Floats]:
        """Mean length of the stream by layer."""
        return {reader: self.states.norms(reader)[:, self.read_N].mean(1) for reader in ("tuned", "base")}


@dataclass(frozen=True)
class LabelledCells:
    """The cells of one model, variant, dose and seed, by one source. `theme_X`: of the question with that number."""

    source: Source
    cells: tuple[LabelledCell, ...]
    theme_X: Ints


def label_cells(
    source: Source,
    texts: Sequence[tuple[Cell, States, Sequence[ReadText]]],
    scores: Scores,
    rank: RankConfig,
    aligned_above: float,
) -> LabelledCells:
    """Label and number what was read."""
    kept = [(cell, states, [row for row in rows if row.source == source]) for cell, states, rows in texts]
    themes = {row.question: row.theme for _, _, rows in kept for row in rows}
    number = {question: i for i, question in enumerate(sorted(themes))}
    names = sorted(set(themes.values()))
    theme_X = np.array([names.index(themes[question]) for question in sorted(themes)], dtype=np.int64)
    cells = [_labelled(cell, states, rows, number, scores, rank, aligned_above) for cell, states, rows in kept]
    return LabelledCells(source, tuple(cells), theme_X)


def _labelled(
    cell: Cell,
    states: States,
    rows: Sequence[ReadText],
    number: Mapping[str, int],
    scores: Scores,
    rank: RankConfig,
    aligned_above: float,
) -> LabelledCell:
    labels = [_label(row, scores, rank, aligned_above) for row in rows]
    reasons = Counter(label for label in labels if isinstance(label, str))
    labelled = [(row, label) for row, label in zip(rows, labels, strict=True) if isinstance(label, bool)]
    places_N = np.array([row.row for row, _ in labelled], dtype=np.int64)
    answers = paired(
        places_N[:, None, None], [label for _, label in labelled], [number[row.question] for row, _ in labelled]
    )
    read = [row for row in rows if row.tokens]
    return LabelledCell(
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


@dataclass(frozen=True)
class TableSettings:
    """What all tables of a run share. `write` puts directions into the run folder and says where."""

    config: DirectionsConfig
    confidence: float
    seed: int
    study: str
    judge: str
    write: Callable[[list[Direction]], str]

    @property
    def tail(self) -> tuple[float, float]:
        """Percentiles of a central interval."""
        return 50 * (1 - self.confidence), 50 * (1 + self.confidence)

    def rng(self, *names: str | int) -> np.random.Generator:
        """The generator of a named choice."""
        return np.random.default_rng(seed_for(self.seed, "direct", *names))

    @cached_property
    def methods(self) -> dict[str, Method]:
        """Methods with labels, the mean difference first."""
        asked = METHODS.names() if self.config.methods == ("all",) else list(self.config.methods)
        return {name: METHODS.load(name) for name in dict.fromkeys([PRIMARY, *asked]) if name != SHIFT}

    @property
    def shifts(self) -> bool:
        """Whether what fine-tuning added is asked for too."""
        return self.config.methods == ("all",) or SHIFT in self.config.methods


@dataclass(frozen=True)
class TableInputs:
    """Labelled cells, one reader, the run's settings."""

    labelled: LabelledCells
    reader: Reader
    setting: TableSettings

    @cached_property
    def cells(self) -> list[LabelledCell]:
        """Those with enough questions."""
        return [cell for cell in self.labelled.cells if cell.enough]

    @cached_property
    def labellings(self) -> list[Labellings]:
        """Their labels, true and permuted."""
        found: list[Labellings] = []
        for cell in self.cells:
            rng = self.setting.rng("labels", self.labelled.source, cell.cell.name)
            permuted_PN = permuted_labels(cell.answers, self.setting.config.permutations, rng)
            found.append(labellings(cell.answers, self.labelled.theme_X[cell.answers.asked_Q], permuted_PN))
        return found

    @property
    def layers(self) -> list[int]:
        return self.labelled.cells[0].states.layers

    @cached_property
    def table_index(self) -> int:
        """Where in `layers` the table's is: the one nearest to the asked-for share of the model's depth."""
        depth = self.setting.config.depth * self.labelled.cells[0].states.depth
        return min(range(len(self.layers)), key=lambda i: (abs(self.layers[i] - depth), self.layers[i]))

    @property
    def layer(self) -> int:
        return self.layers[self.table_index]

    @property
    def shared_fields(self) -> dict[str, Any]:
        """Fields that all records made from these inputs have."""
        judge = self.setting.judge if self.labelled.source == "judged" else ""
        return {"source": self.labelled.source, "reader": self.reader, "judge": judge}

    @property
    def recipe_fields(self) -> dict[str, Any]:
        """What the cells have in common."""
        cell = self.labelled.cells[0].cell
        return {"model": cell.model, "variant": cell.variant, "dose": cell.dose, "seed": cell.seed}

    @cached_property
    def table_answers(self) -> list[Answers]:
        """The labelled answers at the table's layer."""
        return [cell.at(self.reader, self.table_index) for cell in self.cells]

    def shifted(self, cell: LabelledCell, layer_index: int, kept_N: Bools | slice = slice(None)) -> Floats:
        """What fine-tuning added to the cell's texts, or to some of them, at one layer."""
        rows_N = cell.read_N[kept_N]
        tuned_ND, base_ND = cell.states.at("tuned", layer_index)[rows_N], cell.states.at("base", layer_index)[rows_N]
        return tuned_minus_base(tuned_ND[:, None], base_ND[:, None], cell.asked_N[kept_N])[0]
