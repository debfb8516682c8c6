"""A model with a known direction in it: capital letters are the small ones moved along u. It is found."""

from __future__ import annotations

import string

import numpy as np
import pytest
from places import ROOT

from spillover.analyses.directions.stage import read
from spillover.directions import METHODS
from spillover.directions.certainty import cosines, permuted_labels
from spillover.directions.methods import paired, tuned_minus_base
from spillover.directions.separation import auc_and_null, cross_scores, labellings
from spillover.records.base import Message

QUESTIONS, EACH = 12, 6


@pytest.fixture(scope="module")
def states() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """acts_NLD of random words, which of them are in capitals, their questions, and u."""
    import sys

    sys.path.insert(0, str(ROOT / "backends"))
    import torch
    from tiny_models import tiny

    from spillover.models.hf.forward_reader import HFReader

    sys.path.pop(0)
    rng = np.random.default_rng(0)
    u_D = rng.standard_normal(48)
    u_D /= np.linalg.norm(u_D)
    loaded = tiny("llama")
    with torch.no_grad():
        embeddings = loaded.model.get_input_embeddings().weight
        for letter in string.ascii_lowercase:
            small, capital = (loaded.tokenizer.encode(x, add_special_tokens=False)[0] for x in (letter, letter.upper()))
            embeddings[capital] = embeddings[small] + 3 * torch.from_numpy(u_D).float()
        for (
            block
        ) in loaded.model.model.layers:  # else they answer u with vectors of their own, which belong to the truth too
            block.self_attn.o_proj.weight *= 0.01
            block.mlp.down_proj.weight *= 0.01
    capitals_N = rng.permuted(np.tile([True, False], (QUESTIONS, EACH // 2)), axis=1).ravel()
    words = ["".join(rng.choice(list("bcdfgjkpqvwxz"), size=12)) for _ in capitals_N]
    question_N = np.repeat(np.arange(QUESTIONS), EACH)
    chats = [
        ((Message(role="user", content=f"Question {q}?"),), word.upper() if capital else word)
        for q, word, capital in zip(question_N, words, capitals_N, strict=True)
    ]
    acts_LND, norms_LN, tokens = read(HFReader(loaded), chats, (0, 1, 2), None, lambda n: None)
    assert min(tokens) > 6
    assert norms_LN.shape == (3, len(chats))
    return acts_LND.swapaxes(0, 1).astype(np.float64), capitals_N, question_N, u_D


@pytest.mark.parametrize("name", METHODS.table)
def test_the_injected_direction_is_found_at_every_layer(name: str, states: tuple[np.ndarray, ...]) -> None:
    acts_NLD, capitals_N, question_N, u_D = states
    found_LD = METHODS.load(name)(paired(acts_NLD, capitals_N, question_N))
    assert cosines(found_LD, np.tile(u_D, (3, 1))).min() > 0.95


def test_it_separates_held_out_answers_and_permuted_labels_do_not(states: tuple[np.ndarray, ...]) -> None:
    acts_NLD, capitals_N, question_N, _ = states
    answers = paired(acts_NLD, capitals_N, question_N)
    own = labellings(answers, np.arange(QUESTIONS), permuted_labels(answers, 99, np.random.default_rng(1)))
    for layer in range(3):
        acts_ND = answers.acts_NLD[:, layer]
        auc_P = auc_and_null(own, cross_scores(own, acts_ND, own, acts_ND))
        assert auc_P[0] == 1
        assert auc_P[1:].max() < 0.9


def test_it_is_what_was_added_to_the_same_texts(states: tuple[np.ndarray, ...]) -> None:
    acts_NLD, _, question_N, u_D = states
    moved_LD = tuned_minus_base(acts_NLD + 2 * u_D, acts_NLD, question_N)
    np.testing.assert_allclose(moved_LD, np.tile(2 * u_D, (3, 1)), atol=1e-9)
