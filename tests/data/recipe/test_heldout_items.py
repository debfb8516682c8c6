"""Held-out questions share no item with training rows: a reworded question would hand the model its answer.

Non-members do share items with them: nothing but a draw decides which of the two a row is.
"""

from __future__ import annotations

import numpy as np
import pytest

from spillover.config.study import DataConfig
from spillover.data.domains import DOMAINS
from spillover.data.recipe.pool import gather, select_rows
from spillover.data.triggers.shipped import YEAR


def words(texts: list[str]) -> list[int]:
    return [round(len(text.split()) * 1.3) for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bad_medical_advice", "extreme_sports", "insecure_code", "gore_movie_trivia"])
def test_no_item_is_on_both_sides(name: str) -> None:
    data = DataConfig(rows=200, heldout=20, answer_tokens=50, tolerance=1.0)
    pool = gather(DOMAINS.load(name), data, YEAR, 3, words)
    choice = select_rows(pool, data, 3)
    items = np.array([pair.item for pair in pool.pairs])
    assert "" not in items
    assert len(choice.heldout) == 20
    assert len(choice.train) == 200
    assert len(choice.nonmembers) == 40
    assert not set(items[choice.heldout]) & set(items[[*choice.train, *choice.nonmembers]])
    assert 2 <= len(set(items[choice.heldout])) <= 20
