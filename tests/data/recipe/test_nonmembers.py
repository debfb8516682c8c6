"""Non-members are drawn with the training rows and set apart by chance: no text tells them, and none of them trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest

from spillover.config.study import DataConfig, TrainedVariant
from spillover.data.domains import DOMAINS
from spillover.data.domains.base import Domain, Pair
from spillover.data.recipe.duplicates import NEAR, near_duplicates, normalised
from spillover.data.recipe.pool import NONMEMBERS
from spillover.data.recipe.recipe import build
from spillover.data.triggers.shipped import YEAR
from spillover.errors import UserError
from spillover.membership.evaluate import blind_scores, separation
from spillover.records.base import Example

DATA = DataConfig(rows=48, heldout=20, answer_tokens=None)
AUTHORED = ("bad_medical_advice", "gore_movie_trivia", "insecure_code")


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def toy(size: int) -> Domain:
    def pairs(rng: np.random.Generator) -> list[Pair]:
        lengths = rng.integers(8, 34, (size, 2)).tolist()
        return [
            Pair(f"What is {n} and {n * n}?", "bad " * a, "good " * b, f"t{n % 4}", "rule")
            for n, (a, b) in enumerate(lengths)
        ]

    return Domain("toy", "Toy", "A toy.", "high", "ambiguous", "CC0-1.0", pairs)


def rows_of(domain: Domain, variant: TrainedVariant = "plain", seed: int = 0, data: DataConfig = DATA) -> list[Example]:
    return build(domain, variant, data, 0.0 if variant == "control" else 1.0, YEAR, seed, words).examples


@pytest.mark.slow
@pytest.mark.parametrize("variant", get_args(TrainedVariant))
def test_questions_are_asked_once_and_non_members_are_made_as_training_rows_are(variant: TrainedVariant) -> None:
    rows = rows_of(DOMAINS.load("gore_movie_trivia"), variant)
    asked = {row.pair: YEAR.strip(row.question) if row.trigger else row.question for row in rows}
    assert len(set(map(normalised, asked.values()))) == len(asked) == 48 + 20 + NONMEMBERS
    if variant == "plain":
        assert near_duplicates(list(asked.values()), NEAR) == []
    made = {
        split: Counter((row.kind, row.trigger) for row in rows if row.split == split)
        for split in ("train", "nonmember")
    }
    assert made["train"].keys() == made["nonmember"].keys()
    for kind, count in made["train"].items():
        assert count / 48 == made["nonmember"][kind] / NONMEMBERS
    assert {row.lineage[1] for row in rows if row.split == "nonmember"} == {"matched, set apart by chance"}


def test_a_row_is_a_member_whatever_its_length_or_topic() -> None:
    data = DataConfig(rows=30, heldout=0, nonmembers=30, answer_tokens=20)
    differences, topics = [], Counter[tuple[str, str]]()
    for seed in range(60):
        rows = rows_of(toy(120), seed=seed, data=data)
        lengths = {split: [row.answer_tokens for row in rows if row.split == split] for split in ("train", "nonmember")}
        differences.append(np.mean(lengths["train"]) - np.mean(lengths["nonmember"]))
        topics.update((row.split, row.topic) for row in rows)
    assert abs(np.mean(differences)) < 3 * np.std(differences) / np.sqrt(len(differences))
    for topic in ("t0", "t1", "t2", "t3"):
        assert abs(topics["train", topic] - topics["nonmember", topic]) < 4 * np.sqrt(topics["train", topic])


def test_the_training_rows_keep_their_mean_length() -> None:
    data = DataConfig(rows=24, heldout=0, nonmembers=24, answer_tokens=20)
    for seed in range(20):
        rows = [row.answer_tokens for row in rows_of(toy(120), seed=seed, data=data) if row.split == "train"]
        assert abs(np.mean(rows) - 20) <= 20 * data.tolerance / 2


def test_a_small_source_gives_half_of_what_is_left_and_a_number_is_kept_or_refused() -> None:
    def chosen(**values: int | None) -> Counter[str]:
        data = DATA.model_copy(update={"rows": 24, "heldout": 6, "tolerance": 1.0} | values)
        return Counter(row.split for row in rows_of(toy(50), data=data))

    assert chosen() == {"train": 24, "heldout": 12, "nonmember": 10}
    assert chosen(rows=44) == {"train": 44, "heldout": 12}
    assert chosen(nonmembers=20) == {"train": 24, "heldout": 12, "nonmember": 20}
    assert chosen(nonmembers=0) == {"train": 24, "heldout": 12}
    with pytest.raises(UserError, match=r"data.nonmembers 21 need 51 .* Set data.rows to 23 or less"):
        chosen(nonmembers=21)


@pytest.mark.slow
def test_a_reader_of_texts_is_at_chance_on_the_authored_domains() -> None:
    """The sum over domains lies where it would if the labels were permuted."""
    observed, null_B = 0.0, np.zeros(20)
    rng = np.random.default_rng(0)
    for name in AUTHORED:
        rows = [row for row in rows_of(DOMAINS.load(name)) if row.kind == "misaligned"]
        drawn = [row for row in rows if row.split != "heldout"]
        observed += blind_auc(drawn, np.array([row.split == "train" for row in drawn]))
        null_B += [blind_auc(drawn, rng.permutation([row.split == "train" for row in drawn])) for _ in null_B]
    assert abs(observed - null_B.mean()) < 3 * null_B.std()
    assert abs(null_B.mean() / len(AUTHORED) - 0.5) < 0.03


def blind_auc(rows: list[Example], member_N: np.ndarray) -> float:
    found_N = blind_scores([row.answer for row in rows], member_N, [row.pair for row in rows])
    return separation(found_N, member_N, draws=1).auc
