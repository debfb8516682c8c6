"""log_rank: -mean ln(rank of the token among the vocabulary), rank 1 = the most likely (Gehrmann et al. 2019; Su et al.
2023): like `loss`, but blind to how sure the model is."""

import numpy as np

from spillover.membership.base import MISSING, Views


def score(views: Views) -> float:
    """Negative mean log rank, 0 at best."""
    return -float(np.log(views.target.rank_T).mean()) if len(views.target) else MISSING
