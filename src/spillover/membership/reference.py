"""reference: mean l_t minus the reference model's (Carlini et al. 2021): what this model knows better than another.

With the same tokens it is nats a token. A reference with another tokenizer reads other tokens, so that both sides are
then divided by the answer's UTF-8 bytes: nats a byte.
"""

from spillover.membership.base import MISSING, Views, log_ratios


def score(views: Views) -> float:
    """Mean log-ratio of target to reference."""
    if views.reference is None or not len(views.target) or not len(views.reference):
        return MISSING
    ratios_T = log_ratios(views)
    if ratios_T is not None:
        return float(ratios_T.mean())
    size = len(views.text.encode("utf-8", "replace"))
    if not size:
        return MISSING
    return float(views.target.logprobs_T.sum() - views.reference.logprobs_T.sum()) / size
