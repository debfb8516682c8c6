"""min_k: mean of the k = 20 % lowest l_t (Shi et al. 2024); an unseen text has a few very surprising tokens."""

from spillover.membership.base import Views, lowest


def score(views: Views) -> float:
    """Mean of the lowest fifth of the log-probabilities."""
    return lowest(views.target.logprobs_T)
