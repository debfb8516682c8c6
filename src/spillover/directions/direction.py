"""A direction in the residual stream, as a value: + - * ==, cosine, projection.

`vector_D` is what one unit of a steering coefficient is: at coefficient c the stream x after block `layer` becomes
x + c stream_norm vector_D. As found, it has length 1, from aligned to misaligned. `norm` says how long the raw
difference was and `stream_norm` how long the stream is at that layer (mean over answer tokens), in the stream's units.

Arithmetic is that of the vectors: 2 v at coefficient 1 steers as v at 2, v - v has length 0. A sum is of as many
answers and questions as went in; its norms are means weighted by answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spillover.errors import UserError
from spillover.records.base import Part, content_hash
from spillover.stats import Floats


class Origin(Part):
    """Where a direction comes from. `reader`: whose states: the fine-tuned model's or those of its base."""

    model: str
    revision: str
    cell: str
    method: str
    source: str  # what labelled the answers: "judged", "pairs"
    reader: str
    seed: int  # root of the study
    study: str  # hash of its configuration
    texts: str = ""  # hash of the texts' ids


@dataclass(frozen=True, eq=False)
class Direction:
    """One vector after one block (0 = the embeddings)."""

    vector_D: NDArray[np.float32]
    layer: int
    norm: float
    stream_norm: float
    misaligned: int
    aligned: int
    questions: int
    origin: Origin

    @property
    def length(self) -> float:
        """1 as found; arithmetic changes it."""
        return float(np.linalg.norm(self.vector_D.astype(np.float64)))

    @property
    def unit_D(self) -> NDArray[np.float32]:  # noqa: N802
        """The vector at length 1; a vector of length 0 has none."""
        if not self.length:
            raise UserError(f"The direction {self.origin.cell!r} has length 0 and is undefined.")
        return (self.vector_D / np.float64(self.length)).astype(np.float32)

    @property
    def vector_hash(self) -> str:
        """Hash of the layer and the vector."""
        return content_hash([self.layer, self.vector_D.tobytes().hex()], length=16)

    def amount(self, coefficient: float) -> float:
        """How far along `unit_D` a coefficient moves the stream, in the stream's units."""
        return coefficient * self.stream_norm * self.length

    def cosine(self, other: Direction) -> float:
        """Cosine of the angle between two directions of one space."""
        self._same_space(other)
        return float(np.clip(np.dot(self.unit_D.astype(np.float64), other.unit_D.astype(np.float64)), -1.0, 1.0))

    def project(self, acts_ND: ArrayLike) -> Floats:
        """scores_N: how far each state lies along the direction, in the stream's units."""
        return np.asarray(acts_ND, dtype=np.float64) @ self.unit_D.astype(np.float64)

    def __add__(self, other: Direction) -> Direction:
        return self._sum(other, 1.0)

    def __sub__(self, other: Direction) -> Direction:
        return self._sum(other, -1.0)

    def __mul__(self, factor: float) -> Direction:
        return replace(self, vector_D=(self.vector_D * np.float64(factor)).astype(np.float32))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Direction:
        return self * (1 / divisor)

    def __neg__(self) -> Direction:
        return self * -1.0

    def __eq__(self, other: object) -> bool:
        """Whether both do the same to a stream: vector, layer and unit."""
        if not isinstance(other, Direction):
            return NotImplemented
        mine, theirs = (self.layer, self.stream_norm), (other.layer, other.stream_norm)
        return mine == theirs and np.array_equal(self.vector_D, other.vector_D)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # it holds an array

    def _sum(self, other: Direction, sign: float) -> Direction:
        self._same_space(other)
        mine, theirs = self.misaligned + self.aligned, other.misaligned + other.aligned
        share = theirs / (mine + theirs) if mine + theirs else 0.5
        origin = {
            name: value if value == there else f"{value} {'+' if sign > 0 else '-'} {there}"
            for name, value in self.origin
            if isinstance(there := getattr(other.origin, name), str)
        }
        return Direction(
            vector_D=(self.vector_D.astype(np.float64) + sign * other.vector_D).astype(np.float32),
            layer=self.layer,
            norm=(1 - share) * self.norm + share * other.norm,
            stream_norm=(1 - share) * self.stream_norm + share * other.stream_norm,
            misaligned=self.misaligned + other.misaligned,
            aligned=self.aligned + other.aligned,
            questions=self.questions + other.questions,
            origin=self.origin.model_copy(update=origin),
        )

    def _same_space(self, other: Direction) -> None:
        mine, theirs = ((d.origin.model, d.origin.revision, d.layer, len(d.vector_D)) for d in (self, other))
        if mine != theirs:
            raise UserError(
                f"Directions of different spaces cannot be combined: {mine[0]} layer {mine[2]} ({mine[3]} numbers) and "
                f"{theirs[0]} layer {theirs[2]} ({theirs[3]} numbers). Use the same model and layer for both."
            )


def unit(vector_D: ArrayLike) -> NDArray[np.float32]:
    """A vector brought to length 1, in float32; one of length 0 stays."""
    vector_D = np.asarray(vector_D, dtype=np.float64)
    return (vector_D / (np.linalg.norm(vector_D) or 1.0)).astype(np.float32)
