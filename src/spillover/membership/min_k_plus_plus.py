"""min_k_plus_plus: mean of the k = 20 % lowest z_t = (l_t - mu_t) / sigma_t (Zhang et al. 2025).

mu_t and sigma_t are expectations under the model's own distribution, not over the vocabulary unweighted. Where the
model is certain, sigma goes to 0: z is then 0 for the certain token, and is cut at -50 for another.
"""

import numpy as np

from spillover.membership.base import Floats, TokenScores, Views, lowest

LOWEST_Z = -50.0


def z_scores(scores: TokenScores) -> Floats:
    """z_t, from -50 upwards; 0 where l_t = mu_t, whatever sigma."""
    distance_T = scores.logprobs_T - scores.mean_T
    with np.errstate(divide="ignore", invalid="ignore"):
        z_T = np.where(distance_T == 0, 0.0, distance_T / scores.std_T)
    return np.clip(z_T, LOWEST_Z, -LOWEST_Z)


def score(views: Views) -> float:
    """Mean of the lowest fifth of the standardised log-probabilities."""
    return lowest(z_scores(views.target))
