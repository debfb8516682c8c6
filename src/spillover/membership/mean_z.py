"""mean_z: mean of z_t = (l_t - mu_t) / sigma_t over all answer tokens; min_k_plus_plus at k = 100 %."""

from spillover.membership.base import Views, lowest
from spillover.membership.min_k_plus_plus import z_scores


def score(views: Views) -> float:
    """Mean standardised log-probability."""
    return lowest(z_scores(views.target), k=1.0)
