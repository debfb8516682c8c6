"""Membership metrics: was this answer in the training data? Each is a pure function of how models read the answer.

Notation: l_t = ln p of answer token t given the prompt and the answer so far, in nats, over the T answer tokens with
the end of turn; mu_t and sigma_t = mean and standard deviation of ln p over the vocabulary under p itself, not
unweighted. Every metric has the same sign: higher = more likely a member. It is NaN where the text has no answer tokens
or where a reading that the metric needs was not scored; an average has to count those.
"""

from __future__ import annotations

import zlib as zlib_module
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spillover.stats import Floats, Ints

MISSING = float("nan")
K = 0.2  # share of tokens that the min-k metrics average
LOWEST_Z = -50.0
ZLIB_OVERHEAD = 8  # bytes of header and checksum in every stream
ZLIB_LEVEL = 6  # zlib's default, which the field uses
CAP = 0.01  # of a token's term in dc_pdd


@dataclass(frozen=True)
class TokenScores:
    """One model's reading of one answer: arrays over its T tokens."""

    ids_T: Ints
    logprobs_T: Floats
    mean_T: Floats
    std_T: Floats
    rank_T: Floats  # of the token among the vocabulary: 1 = the most likely

    def __len__(self) -> int:
        return len(self.logprobs_T)

    @property
    def mean_logprob(self) -> float:
        """mean l_t, NaN for no tokens."""
        return float(np.mean(self.logprobs_T)) if len(self) else MISSING


@dataclass(frozen=True)
class Views:
    """An answer as the target, other models or other prompts read it; None where not scored."""

    text: str
    target: TokenScores
    reference: TokenScores | None = None  # another model, the same prompt and answer
    lowercase: TokenScores | None = None  # the target, the answer in lower case
    prefixed: TokenScores | None = None  # the target, with a non-member chat in front
    corpus_logprobs_T: Floats | None = None  # ln of each answer token's frequency in a stated corpus


Score = Callable[[Views], float]


def loss(views: Views) -> float:
    """Mean log-probability of the answer's tokens.

    mean l_t, in nats a token: the negative training loss of this text (Yeom et al. 2018).
    """
    return views.target.mean_logprob


def perplexity(views: Views) -> float:
    """Negative perplexity, from -infinity to -1.

    -exp(-mean l_t). Orders texts exactly as `loss` does; its means and its base-adjusted form differ, because it
    weighs surprising texts more.
    """
    return -float(np.exp(-views.target.mean_logprob))


def zlib(views: Views) -> float:
    """Mean l_t / compressed bytes.

    Surprise relative to how much there is to be surprised by (Carlini et al. 2021). Header and checksum take 8 of those
    bytes, which distorts short answers; see `zlib_length_controlled`.
    """
    return views.target.mean_logprob / compressed_bytes(views.text)


def zlib_length_controlled(views: Views) -> float:
    """Sum of l_t / (compressed bytes - 8).

    The whole answer's log-probability a compressed byte, without header and checksum.
    """
    if not len(views.target) or not views.text:
        return MISSING
    return float(views.target.logprobs_T.sum()) / max(1, compressed_bytes(views.text) - ZLIB_OVERHEAD)


def zlib_ppl_ratio(views: Views) -> float:
    """Perplexity over compressed bits a byte, as published, negated.

    exp(-mean l_t) / (8 zlib bytes / text bytes) at compression level 9 (arXiv 2602.00298). Negated, so that a member,
    whose perplexity is lower, scores higher.
    """
    if not views.text:
        return MISSING
    bits = 8 * compressed_bytes(views.text, level=9) / len(views.text.encode("utf-8", "replace"))
    return -float(np.exp(-views.target.mean_logprob)) / bits


def lowercase(views: Views) -> float:
    """How much better the answer is known than its lower-cased form, nats a token.

    mean l_t of the answer - mean l_t of the answer in lower case: ln of the ratio of perplexities, lower-cased over
    original (Carlini et al. 2021). A memorised text loses more when its case is removed.
    """
    return MISSING if views.lowercase is None else views.target.mean_logprob - views.lowercase.mean_logprob


def min_k(views: Views) -> float:
    """Mean of the lowest fifth of the log-probabilities.

    mean of the k = 20 % lowest l_t (Shi et al. 2024): an unseen text has a few very surprising tokens.
    """
    return lowest(views.target.logprobs_T)


def min_k_plus_plus(views: Views) -> float:
    """Mean of the lowest fifth of the standardised log-probabilities.

    mean of the k = 20 % lowest z_t = (l_t - mu_t) / sigma_t (Zhang et al. 2025).
    """
    return lowest(z_scores(views.target))


def mean_z(views: Views) -> float:
    """Mean standardised log-probability.

    mean z_t over all answer tokens: `min_k_plus_plus` at k = 100 %.
    """
    return lowest(z_scores(views.target), k=1.0)


def log_rank(views: Views) -> float:
    """Negative mean log rank, 0 at best.

    -mean ln(rank of the token among the vocabulary), rank 1 = the most likely (Gehrmann et al. 2019; Su et al. 2023):
    like `loss`, but blind to how confident the model is.
    """
    return -float(np.log(views.target.rank_T).mean()) if len(views.target) else MISSING


def reference(views: Views) -> float:
    """Mean log-ratio of target to reference.

    mean l_t - mean l_t of the reference model (Carlini et al. 2021), nats a token where both read the same tokens. A
    reference with another tokenizer reads other tokens: both sums are then divided by the answer's UTF-8 bytes, nats a
    byte.
    """
    if views.reference is None or not len(views.target) or not len(views.reference):
        return MISSING
    ratios_T = log_ratios(views)
    if ratios_T is not None:
        return float(ratios_T.mean())
    size = len(views.text.encode("utf-8", "replace"))
    if not size:
        return MISSING
    return float(views.target.logprobs_T.sum() - views.reference.logprobs_T.sum()) / size


def low_k_ratio(views: Views) -> float:
    """Mean of the lowest fifth of the log-ratios.

    mean of the k = 20 % lowest l_t - l_t of the reference, on the same tokens.
    """
    ratios_T = log_ratios(views)
    return MISSING if ratios_T is None else lowest(ratios_T)


def recall(views: Views) -> float:
    """Ratio of log-likelihoods with and without the prefix.

    LL(answer | a non-member chat, prompt) / LL(answer | prompt), LL = mean l_t (Xie et al. 2024). Log-likelihoods are
    negative: a member's falls more when an unrelated text precedes it, so its ratio rises.
    """
    if views.prefixed is None or not len(views.target) or views.target.mean_logprob == 0:
        return MISSING
    return views.prefixed.mean_logprob / views.target.mean_logprob


def dc_pdd(views: Views) -> float:
    """Mean capped cross term over first occurrences.

    mean over the answer's distinct tokens, each at its first place, of min(-p_t ln q(token), 0.01), q being the token's
    frequency in a stated corpus (Zhang et al. 2024, divergence-calibrated pre-training data detection). Common tokens,
    which any model knows, count little; the cap keeps single tokens from dominating the mean.

    The corpus that ships is the good answers of all other domains (`analyses/membership/stage.py` counts them): about
    285,000 tokens in this project's own style, in which 5,700 of the embedded model's 49,152 tokens occur, where the
    paper counts a web corpus. All rare words are alike to it, so this is a weaker metric than the paper's.
    """
    if views.corpus_logprobs_T is None or not len(views.target):
        return MISSING
    first = np.unique(views.target.ids_T, return_index=True)[1]
    terms = -np.exp(views.target.logprobs_T[first]) * views.corpus_logprobs_T[first]
    return float(np.minimum(terms, CAP).mean())


def lowest(values_T: ArrayLike, k: float = K) -> float:
    """Mean of the m lowest values, m = max(1, floor(k T + 1e-9)); NaN for none.

    The 1e-9 makes 0.2 x 15 three tokens, although 0.2 * 15 is 2.9999...; a text of fewer than 1 / k tokens has one.
    """
    values = np.asarray(values_T, dtype=np.float64)
    if not len(values):
        return MISSING
    m = max(1, int(np.floor(k * len(values) + 1e-9)))
    return float(np.partition(values, m - 1)[:m].mean())


def z_scores(scores: TokenScores) -> Floats:
    """z_t = (l_t - mu_t) / sigma_t, cut at -50; 0 where l_t = mu_t, also where sigma_t is 0 (a certain token)."""
    distance_T = scores.logprobs_T - scores.mean_T
    with np.errstate(divide="ignore", invalid="ignore"):
        z_T = np.where(distance_T == 0, 0.0, distance_T / scores.std_T)
    return np.clip(z_T, LOWEST_Z, -LOWEST_Z)


def log_ratios(views: Views) -> Floats | None:
    """l_t - l_t of the reference, token by token; None without a reference that reads the same tokens."""
    if views.reference is None or not np.array_equal(views.reference.ids_T, views.target.ids_T):
        return None
    return views.target.logprobs_T - views.reference.logprobs_T


def compressed_bytes(text: str, level: int = ZLIB_LEVEL) -> int:
    """Length of the UTF-8 text as a zlib stream."""
    return len(zlib_module.compress(text.encode("utf-8", "replace"), level))


def corpus_logprobs(counts_V: Ints) -> Floats:
    """ln q of every token of the vocabulary, from add-one counts: a token that the corpus lacks has a frequency too."""
    return np.log(counts_V + 1.0) - np.log(float(counts_V.sum()) + len(counts_V))
