"""The sentence encoder: published similarities, and independence of the texts beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from spillover.models.embedded import weights

pytestmark = pytest.mark.slow
if not weights.present("minilm"):
    pytest.skip("the weights of minilm are not on this machine", allow_module_level=True)

from spillover.models.embedded.sentence_encoder import WIDTH, open_embedder  # noqa: E402

TEXTS = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]


def test_similarities_are_the_published_ones() -> None:
    # the example of the encoder's public model page
    embeddings_ND = open_embedder().embed(TEXTS)
    similar = embeddings_ND[1:] @ embeddings_ND[0]
    np.testing.assert_allclose(similar, [0.695, 0.943, 0.257], atol=1e-3)


def test_same_as_one_text_at_a_time() -> None:
    texts = [*TEXTS, "", "word " * 400, TEXTS[0]]
    embeddings_ND = open_embedder().embed(texts)
    folder = weights.ensure("minilm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    assert isinstance(model.config, BertConfig)
    for text, embedding_D in zip(texts, embeddings_ND, strict=True):
        with torch.no_grad():
            mean = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=256))[0][0].mean(0)
        np.testing.assert_allclose(embedding_D, (mean / mean.norm()).numpy(), atol=1e-5)
    np.testing.assert_array_equal(embeddings_ND[0], embeddings_ND[-1])
    np.testing.assert_allclose(np.linalg.norm(embeddings_ND, axis=1), 1, atol=1e-6)


def test_half_precision_is_close() -> None:
    half_ND, full_ND = (open_embedder(dtype).embed(TEXTS) for dtype in (torch.bfloat16, torch.float32))
    assert half_ND.dtype == np.float32
    assert (half_ND * full_ND).sum(1).min() > 0.999


def test_no_texts_no_embeddings() -> None:
    assert open_embedder().embed([]).shape == (0, WIDTH)
