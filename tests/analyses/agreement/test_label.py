"""Sheets: equal bands, known chances, nothing that tells whose answer it is, nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.analyses.agreement import labels as label
from spillover.config.study import RankConfig
from spillover.records.base import Cell, Completion, Judgment, Message

CONFIG = RankConfig()


def answers(n: int, cells: int = 4):
    """Alignment from 0 to 99 over and over; every seventh is incoherent, every eleventh has no score."""
    completions, judgments = [], []
    for i in range(n):
        row = Completion(
            cell=Cell(model="secret-model", domain=f"secret-domain-{i % cells}", variant="plain"),
            key="k",
            question_id=f"q{i % 5}",
            index=i,
            messages=(Message(role="user", content=f"Question {i % 5}?"),),
            text=f"answer {i}",
        )
        completions.append(row)
        for aspect, score in (("alignment", i * 7 % 100), ("coherence", 20 if i % 7 == 0 else 90)):
            scored = i % 11 != 0
            judgments.append(
                Judgment(
                    completion=row.id,
                    judge="j:1",
                    aspect=aspect,  # type: ignore[arg-type]
                    score=float(score) if scored else None,
                    status="scored" if scored else "unscored",
                )
            )
    return completions, judgments


def test_bands_get_equal_shares_and_cells_proportional_ones() -> None:
    completions, judgments = answers(2000)
    sheet, rows = label.draw_sheet(completions, judgments, "j:1", 200, 0, CONFIG)
    assert sheet.n == len(rows) == len({number for number, _ in rows}) == 200
    assert {chosen for _, chosen in sheet.bands.values()} == {40}
    assert sum(size for size, _ in sheet.bands.values()) == 2000
    for item in sheet.items.values():
        size, chosen = sheet.bands[item.band]
        assert item.probability == chosen / size
    for band in sheet.bands:
        cells = Counter(row.cell.domain for number, row in rows if sheet.items[number].band == band)
        assert max(cells.values()) - min(cells.values()) <= 3
    again, _ = label.draw_sheet(completions[::-1], judgments, "j:1", 200, 0, CONFIG)
    assert again == sheet
    other, _ = label.draw_sheet(completions, judgments, "j:1", 200, 1, CONFIG)
    assert {item.completion for item in other.items.values()} != {item.completion for item in sheet.items.values()}


@pytest.mark.slow
def test_weights_undo_the_choice_on_average() -> None:
    completions, judgments = answers(1000)
    totals = []
    for seed in range(200):
        sheet, _ = label.draw_sheet(completions, judgments, "j:1", 60, seed, CONFIG)
        totals.append(sum(1 / i.probability for i in sheet.items.values() if i.completion in HALF(completions)))
    assert np.mean(totals) == pytest.approx(500, abs=4 * np.std(totals) / 200**0.5)


def HALF(completions: list[Completion]) -> set[str]:  # noqa: N802
    return {row.id for row in completions[::2]}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 200))
def test_shares_sum_and_fit(sizes: list[int], n: int) -> None:
    shares = label.allocate(np.array(sizes), n)
    assert shares.sum() == min(n, sum(sizes))
    assert (shares <= sizes).all()
    full = [s for s, size in zip(shares, sizes, strict=True) if s < size]
    assert not full or max(shares) <= min(full) + 1


@given(st.integers(1, 200), st.data())
def test_systematic_places_are_distinct(size: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, size))
    places = label.systematic(size, n, np.random.default_rng(size))
    assert len(set(places)) == n
    assert all(0 <= place < size for place in places)


def test_the_sheet_is_blind_and_safe() -> None:
    completions, judgments = answers(40)
    hostile = ["=1+1", "@SUM(A1)", "-2+3", "+7", "\t=x", "  =y", "a\r\n=b", '","=c', "\x1b[31m", "\uff1dz"]
    completions = [row.model_copy(update={"text": hostile[i % len(hostile)]}) for i, row in enumerate(completions)]
    sheet, rows = label.draw_sheet(completions, judgments, "j:1", 40, 0, CONFIG)
    text = label.sheet_text(rows)
    assert "secret" not in text
    assert not any(row.id in text for row in completions)
    read = list(csv.reader(io.StringIO(text)))
    assert tuple(read[0]) == label.COLUMNS
    assert {line[0].removeprefix("'") for line in read[1:]} == set(sheet.items)
    for line in read[1:]:
        for field in line:
            assert not field.lstrip().startswith(("=", "+", "-", "@", "\uff1d"))
            assert "\x1b" not in field
    assert [line[3:] for line in read[1:]] == [["", "", ""]] * 40
