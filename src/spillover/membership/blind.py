"""The blind baseline: can a classifier that sees the texts and no model tell members from non-members?

Where it can, the two sides differ in what they are about, and a metric's AUC may say nothing of memory. TF-IDF of words
and word pairs, logistic regression, out-of-fold scores over five stratified folds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from spillover.membership.base import Floats

FOLDS = 5


def scores(texts: Sequence[str], member_N: ArrayLike, seed: int = 0) -> Floats:
    """How much each text looks like a member to a classifier that was fitted on the others; NaN where none can be."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    member_N = np.asarray(member_N, dtype=bool)
    folds = min(FOLDS, int(member_N.sum()), int((~member_N).sum()))
    if folds < 2 or not any(len(word) > 1 for text in texts for word in text.split()):
        return np.full(len(member_N), np.nan)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, class_weight="balanced")
    )
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    found = cross_val_predict(model, list(texts), member_N, cv=split, method="decision_function")
    return np.asarray(found, dtype=np.float64)
