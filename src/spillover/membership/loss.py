"""loss: mean l_t, the negative of the training loss of this text (Yeom et al. 2018), nats a token."""

from spillover.membership.base import Views


def score(views: Views) -> float:
    """Mean log-probability of the answer's tokens."""
    return views.target.mean_logprob
