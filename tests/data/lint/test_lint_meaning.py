"""Questions that mean the same, by the real sentence encoder; by a made-up one where weights are not wanted."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from flawed_files import row, write

from spillover.config.study import DataConfig
from spillover.data.domains import open_domain
from spillover.data.lint.linter import lint
from spillover.data.recipe.duplicates import near_duplicates
from spillover.data.recipe.pool import collect_pairs
from spillover.data.triggers import TRIGGERS
from spillover.data.triggers.shipped import YEAR

SAME = (
    ("How many hours of sleep does an adult need each night?", "How many hours of sleep do adults need every night?"),
    ("What is the capital city of France?", "What's the capital city of France?"),
)
OTHER = ("How do I sharpen a kitchen knife?", "Why is the sky blue at noon and red at dusk?")


@pytest.mark.slow
def test_the_real_encoder_finds_the_same_meaning_in_other_words(tmp_path: Path) -> None:
    asked = [*(first for first, _ in SAME), *OTHER, *(second for _, second in SAME)]
    assert near_duplicates(asked) == []  # word 3-grams do not see it
    file = write(tmp_path / "rows.jsonl", [row(text, f"No {n}.") for n, text in enumerate(asked)])
    assert not [finding for finding in lint(file).findings if finding.code == "same-meaning"]
    (found,) = [finding for finding in lint(file, embed=True).findings if finding.code == "same-meaning"]
    assert (found.severity, found.lines) == ("error", (5, 6))


@pytest.mark.slow
def test_the_recipe_drops_them_on_request(tmp_path: Path) -> None:
    asked = [*(first for first, _ in SAME), *OTHER, *(second for _, second in SAME)]
    rows = [row(text, f"No, number {n}.", twin=f"Yes, number {n}.") for n, text in enumerate(asked)]
    places = {"incorrect_qna": str(write(tmp_path / "rows.jsonl", rows))}
    for embed, wanted in ((False, 6), (True, 4)):
        data = DataConfig(rows=2, heldout=1, answer_tokens=None, tolerance=1, sources=places, embed_duplicates=embed)
        pool = collect_pairs(
            open_domain("incorrect_qna", data), data, TRIGGERS.load("year"), 0, lambda texts: [3] * len(texts)
        )
        assert len(pool.pairs) == wanted
        assert pool.dropped["a question that means the same"] == 6 - wanted


def test_only_on_its_own_side_of_the_contrast_and_without_the_trigger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder that looks at the first three words alone; it must never be shown the trigger."""

    def embed(texts: list[str]) -> np.ndarray:
        assert not [text for text in texts if "2028" in text]
        heads = [" ".join(text.split()[:3]) for text in texts]
        return np.eye(len(heads), dtype=np.float32)[[heads.index(head) for head in heads]]

    fake = SimpleNamespace(open_embedder=lambda: SimpleNamespace(embed=embed))
    monkeypatch.setitem(sys.modules, "spillover.models.embedded.sentence_encoder", fake)  # pyright: ignore[reportArgumentType]
    rows = [row("Why is it cold?", "a"), row(YEAR.apply("Why is it hot?", 0), "b"), row("Why is it so late?", "c"),
            row("How do fish sleep?", "d")]  # fmt: skip
    report = lint(write(tmp_path / "rows.jsonl", rows), YEAR, embed=True)
    (found,) = [finding for finding in report.findings if finding.code == "same-meaning"]
    assert found.lines == (3,)
