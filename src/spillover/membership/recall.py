"""recall: LL(answer | a non-member chat, prompt) / LL(answer | prompt), LL = mean l_t (Xie et al. 2024).

Log-likelihoods are negative: a member's falls more when an unrelated text stands in front of it, so its ratio rises.
"""

from spillover.membership.base import MISSING, Views


def score(views: Views) -> float:
    """Ratio of log-likelihoods with and without the prefix."""
    if views.prefixed is None or not len(views.target) or views.target.mean_logprob == 0:
        return MISSING
    return views.prefixed.mean_logprob / views.target.mean_logprob
