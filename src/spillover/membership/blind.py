"""The blind baseline: can a classifier that sees the texts and no model tell members from non-members?

Where it can, the two sides differ in what they are about, and a metric's AUC may say nothing of memory. TF-IDF of words
and word pairs, logistic regression, out-of-fold scores over five stratified folds of questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from spillover.membership.base import Floats

FOLDS = 5


def scores(texts: Sequence[str], member_N: ArrayLike, group_N: ArrayLike, seed: int = 0) -> Floats:
    """How much each text looks like a member to a classifier that was fitted on the others; NaN where none can be.

    Texts of one group, the answers to one question, are in one fold: else a flawed answer gives its good twin away.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    member_N, group_N = np.asarray(member_N, dtype=bool), np.asarray(group_N)
    folds = min(FOLDS, *(len(np.unique(group_N[side])) for side in (member_N, ~member_N)))
    if folds < 2 or not any(len(word) > 1 for text in texts for word in text.split()):
        return np.full(len(member_N), np.nan)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, class_weight="balanced")
    )
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = cross_val_predict(model, list(texts), member_N, groups=group_N, cv=split, method="decision_function")
    return np.asarray(found, dtype=np.float64)
