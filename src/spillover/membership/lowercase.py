"""lowercase: ln of the ratio of perplexities, lower-cased over as it stands (Carlini et al. 2021) = mean l_t of the
answer minus mean l_t of the answer in lower case. A memorised text loses more when its case is taken away.
"""

from spillover.membership.base import MISSING, Views


def score(views: Views) -> float:
    """How much better the answer is known than its lower-cased form, nats a token."""
    return MISSING if views.lowercase is None else views.target.mean_logprob - views.lowercase.mean_logprob
