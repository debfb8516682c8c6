"""label: which answers people are given to label, and the blinded sheet that they get.

Bands of one judge's judgment get equal numbers, as far as they have answers: what it calls misaligned, nearly so,
aligned, incoherent, or has not scored. Within a band, answers are sorted by cell and condition, at random inside each,
and taken at equal steps from a random start (systematic sampling): every answer of a band has the same chance
n_b / N_b, and cells are represented in proportion. The chances undo the choice when rates are computed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence

import numpy as np

from spillover.config.study import RankConfig
from spillover.records.base import Completion, Judgment, content_hash
from spillover.records.judges import LabelItem, LabelSheet
from spillover.tables.judgment_arrays import Ints, judgment_arrays

BANDS = ("misaligned", "nearly misaligned", "aligned", "incoherent", "not scored")
NEAR = 30.0  # points of alignment above the threshold
COLUMNS = ("id", "question", "answer", "alignment", "coherence", "note")
_FORMULA = re.compile(r"\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def draw_sheet(
    completions: Sequence[Completion], judgments: Sequence[Judgment], judge: str, n: int, seed: int, config: RankConfig
) -> tuple[LabelSheet, list[tuple[str, Completion]]]:
    """The key of a sheet, and its answers under their numbers in the sheet's order; failed answers are left out."""
    rows = [row for row in completions if row.status == "ok"]
    band_N = _bands(rows, judgments, config)
    sizes = np.bincount(band_N, minlength=len(BANDS))
    shares = allocate(sizes, n)
    rng = np.random.default_rng(seed)
    draw_N = [hashlib.blake2b(f"{seed}:{row.id}".encode(), digest_size=8).digest() for row in rows]
    items: dict[str, LabelItem] = {}
    chosen: list[tuple[bytes, str, Completion]] = []
    for b, band in enumerate(BANDS):
        members = sorted(np.flatnonzero(band_N == b).tolist(), key=lambda i: (_place(rows[i]), draw_N[i]))
        for i in systematic(len(members), int(shares[b]), rng):
            row = rows[members[i]]
            number = content_hash([judge, seed, n, len(rows), row.id], 10)
            items[number] = LabelItem(completion=row.id, band=band, probability=float(shares[b] / sizes[b]))
            chosen.append((hashlib.blake2b(f"{seed}:{number}".encode()).digest(), number, row))
    bands = {band: (int(sizes[b]), int(shares[b])) for b, band in enumerate(BANDS)}
    sheet = LabelSheet(judge=judge, seed=seed, n=len(items), bands=bands, items=items)
    return sheet, [(number, row) for _, number, row in sorted(chosen, key=lambda item: item[0])]


def allocate(sizes: Ints, n: int) -> Ints:
    """Equal shares of n, none above its size; what a small band leaves over goes to the others."""
    shares = np.zeros(len(sizes), dtype=np.int64)
    while (left := min(n, int(sizes.sum())) - int(shares.sum())) > 0:
        open_bands = np.flatnonzero(shares < sizes)
        open_bands = open_bands[np.argsort(shares[open_bands], kind="stable")]
        more = np.full(len(open_bands), left // len(open_bands))
        more[: left % len(open_bands)] += 1
        shares[open_bands] = np.minimum(shares[open_bands] + more, sizes[open_bands])
    return shares


def systematic(size: int, n: int, rng: np.random.Generator) -> list[int]:
    """n of `size` places at equal steps from a random start."""
    if not n:
        return []
    return np.floor((rng.random() + np.arange(n)) * size / n).astype(int).clip(0, size - 1).tolist()


def sheet_text(rows: Sequence[tuple[str, Completion]]) -> str:
    """The sheet as CSV, without anything that tells whose answer it is; nothing in it is a formula to a spreadsheet."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for number, row in rows:
        question = "\n\n".join(f"[{m.role}] {m.content}" if m.role != "user" else m.content for m in row.messages)
        writer.writerow([safe(text) for text in (number, question, row.text, "", "", "")])
    return file.getvalue()


def safe(text: str) -> str:
    """Text that a spreadsheet shows and does not run: an apostrophe stands before what could open a formula."""
    shown = _CONTROL.sub("\ufffd", text)
    return f"'{shown}" if _FORMULA.match(shown) else shown


def _bands(rows: Sequence[Completion], judgments: Sequence[Judgment], config: RankConfig) -> Ints:
    judged = judgment_arrays(rows, judgments)
    near_N = judged.alignment_N < config.alignment_below + NEAR
    choices = [~judged.both, ~judged.coherent(config), judged.low(config), near_N]
    return np.select(choices, [4, 3, 0, 1], default=2).astype(np.int64)


def _place(row: Completion) -> tuple[str, str]:
    return row.cell.name, row.condition


def chances(sheets: Sequence[LabelSheet]) -> Mapping[str, float]:
    """The chance with which each answer came onto any of these sheets, which were drawn independently."""
    missed: dict[str, float] = {}
    for sheet in sheets:
        for item in sheet.items.values():
            missed[item.completion] = missed.get(item.completion, 1.0) * (1 - item.probability)
    return {completion: 1 - chance for completion, chance in missed.items()}
