"""low_k_ratio: mean of the k = 20 % lowest token log-ratios l_t - l_t of the reference, on the same tokens."""

from spillover.membership.base import MISSING, Views, log_ratios, lowest


def score(views: Views) -> float:
    """Mean of the lowest fifth of the log-ratios."""
    ratios_T = log_ratios(views)
    return MISSING if ratios_T is None else lowest(ratios_T)
