"""The measures of diversity, each a pure function of unit-norm embeddings (N, D) or of texts; higher = more diverse.

The Vendi score is exp(H_q(eigenvalues of K / n)), the effective number of distinct texts (Friedman and Dieng 2023):
from 1 (all the same) to n (all unlike), with Renyi entropies of order q (Pasarkar and Dieng 2024):

    H_1 = -sum p ln p,   H_q = ln(sum p^q) / (1 - q),   H_inf = -ln max p

K is the cosine kernel. X X' / n and X' X / n have the same eigenvalues except for zeros, so the smaller of the two is
decomposed. Orders below 1 give rare texts more weight, those above 1 less. 0 ln 0 = 0.

Parts: questions, answers, chats, and answers of equal length. Compression, distinct pairs and self-BLEU change with the
length of a text as well as with its content. `answer_cut` is the first `CUT` words of each answer, which nearly every
answer has, so domains differ there in wording alone.

Equal n: every measure grows or falls with the number of texts, so data sets are compared on repeated subsamples of one
size, without replacement. value = mean over subsamples. The interval is the spread of subsamples of m from n texts,
scaled to the uncertainty of a sample of n (Politis and Romano 1994): half-width = quantile of |subsample - mean| times
sqrt(m / n) / sqrt(1 - m / n). With n = m nothing is resampled and the interval is unknown.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spillover.diversity import OF_EMBEDDINGS, OF_TEXTS
from spillover.stats import Floats, Ints

ORDERS = (0.5, 1.0, 2.0, float("inf"))  # of the Vendi scores
CLUSTERS = 16
CUT = 20  # words of an answer in the part `answer_cut`
BLEU_ORDER = 4
_NOTHING = 1e-12  # an eigenvalue below is rounding; at order 0.5 its square root would count

Embeddings = NDArray[np.floating]
Gram = tuple[str, ...]
Measure = Callable[[Ints], float]  # of the texts at these rows


def measures(texts: Sequence[str], embeddings_ND: Embeddings | None) -> Iterator[tuple[str, Measure]]:
    """Every measure as a function of row numbers, so that all see the same subsamples.

    Those with an order once for each order; those of embeddings only where there are any.
    """
    if embeddings_ND is not None:
        yield from _of_embeddings(embeddings_ND)
    for name in OF_TEXTS.names():
        score = OF_TEXTS.load(name)
        yield name, lambda rows, score=score: score([texts[row] for row in rows])


def _of_embeddings(embeddings_ND: Embeddings) -> Iterator[tuple[str, Measure]]:
    for name in OF_EMBEDDINGS.names():
        score = OF_EMBEDDINGS.load(name)
        orders = [(f"{name}_q{order:g}", partial(score, order=order)) for order in ORDERS]
        for label, measure in orders if name.startswith("vendi") else [(name, score)]:
            yield label, lambda rows, measure=measure: measure(embeddings_ND[rows])


def vendi(embeddings_ND: Embeddings, order: float = 1.0) -> float:
    """Vendi score of unit-norm embeddings."""
    return vendi_of_spectrum(spectrum(embeddings_ND), order)


def vendi_shifted(embeddings_ND: Embeddings, order: float = 1.0) -> float:
    """Shifted-kernel score of unit-norm embeddings.

    The Vendi score of arXiv 2602.00298, with the kernel (cos + 1) / 2 on question and answer pooled. The shift adds the
    constant 1/2 to every pair, so one eigenvalue holds at least half of the trace and the score stays small.
    (cos + 1) / 2 = <y, y'> for y = (x, 1) / sqrt 2: the same algebra in one more dimension.
    """
    x_ND = np.asarray(embeddings_ND, dtype=np.float64)
    x_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    return vendi(np.column_stack([x_ND, np.ones(len(x_ND))]) / np.sqrt(2), order)


def semantic(embeddings_ND: Embeddings) -> float:
    """One minus the mean cosine of distinct pairs; NaN for fewer than two texts.

    0 = all the same, about 1 = unrelated.
    """
    x_ND = np.asarray(embeddings_ND, dtype=np.float64)
    n = len(x_ND)
    if n < 2:
        return float("nan")
    # The sum over pairs is |s|^2 less the squared norms, s = sum of all.
    return float(1 - ((x_ND.sum(0) ** 2).sum() - (x_ND**2).sum()) / (n * (n - 1)))


def cluster_entropy(embeddings_ND: Embeddings, seed: int = 0) -> float:
    """Entropy of the cluster sizes; NaN for fewer texts than clusters.

    In nats, over k-means clusters (k = 16, k-means++, best of four starts, seeded): 0 = one cluster holds all, at most
    ln k. How many themes there are, and how evenly they are covered.
    """
    from sklearn.cluster import KMeans

    if len(embeddings_ND) < CLUSTERS:
        return float("nan")
    means = KMeans(CLUSTERS, n_init=4, random_state=seed)  # pyright: ignore[reportArgumentType]  # its stub says str
    labels_N = np.asarray(means.fit_predict(np.asarray(embeddings_ND, np.float64)))
    p_K = np.bincount(labels_N, minlength=CLUSTERS) / len(labels_N)
    p_K = p_K[p_K > 0]
    return float(-(p_K * np.log(p_K)).sum())


def compression(texts: Sequence[str]) -> float:
    """The negative compression ratio of the texts joined by line feeds; NaN for no text.

    -bytes / zlib bytes at level 9 (Shaib et al. 2024): the ratio rises as texts repeat each other, hence negated.
    Deflate looks 32 KiB back, so repetition further apart does not show.
    """
    joined = "\n".join(texts).encode("utf-8", "replace")
    return -len(joined) / len(zlib.compress(joined, 9)) if joined else float("nan")


def distinct(texts: Sequence[str]) -> float:
    """Share of distinct 2-grams; NaN where there is none.

    Distinct word 2-grams / all word 2-grams of the texts (Li et al. 2016). It falls with the amount of text, so compare
    it at equal numbers of texts and words only.
    """
    grams = [gram for text in texts for gram in ngrams(text, 2)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def self_bleu(texts: Sequence[str]) -> float:
    """Negative mean self-BLEU over the texts with at least four words; NaN for fewer than two.

    Mean BLEU of each text against all the others (Zhu et al. 2018): the geometric mean of the clipped precisions of
    word 1- to 4-grams, without brevity penalty, as every text has many references; a precision of 0 counts as half a
    match (Chen and Cherry 2014, smoothing by epsilon 0.5).
    """
    texts = [text for text in texts if len(text.split()) >= BLEU_ORDER]
    if len(texts) < 2:
        return float("nan")
    log_precision_N = np.zeros(len(texts))
    for n in range(1, BLEU_ORDER + 1):
        counts = [Counter(ngrams(text, n)) for text in texts]
        best = _two_largest(counts)
        for i, own in enumerate(counts):
            matched = sum(min(count, best[gram][1 if best[gram][2] == i else 0]) for gram, count in own.items())
            log_precision_N[i] += np.log(max(matched, 0.5) / own.total()) / BLEU_ORDER
    return -float(np.exp(log_precision_N).mean())


def spectrum(embeddings_ND: Embeddings) -> Floats:
    """Eigenvalues of K / n, largest first, summing to 1."""
    x_ND = np.asarray(embeddings_ND, dtype=np.float64)
    n, d = x_ND.shape
    norms_N = np.linalg.norm(x_ND, axis=1)
    if not n or not np.all(np.abs(norms_N - 1) <= 1e-2):  # NaN has no norm
        raise ValueError(
            f"embeddings must have unit norm, found {norms_N.min(initial=1):g} to {norms_N.max(initial=0):g}"
        )
    x_ND = x_ND / norms_N[:, None]
    eigenvalues_D = np.asarray(np.linalg.eigvalsh((x_ND @ x_ND.T if n <= d else x_ND.T @ x_ND) / n), np.float64)
    p_D = np.where(eigenvalues_D > _NOTHING, eigenvalues_D, 0.0)[::-1]
    return p_D / p_D.sum()


def vendi_of_spectrum(p_D: Floats, order: float) -> float:
    """The Vendi score from the eigenvalues of K / n."""
    p = p_D[p_D > 0]
    if order == 1:
        return float(np.exp(-(p * np.log(p)).sum()))
    if np.isinf(order):
        return float(1 / p.max())
    return float((p**order).sum() ** (1 / (1 - order)))


def ngrams(text: str, n: int) -> list[Gram]:
    """Runs of n lower-case words."""
    words = text.lower().split()
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def _two_largest(counts: Sequence[Counter[Gram]]) -> dict[Gram, tuple[int, int, int]]:
    """For each n-gram its largest count in a text, its largest in any other text, and which text has the largest."""
    best: dict[Gram, tuple[int, int, int]] = {}
    for i, own in enumerate(counts):
        for gram, count in own.items():
            first, second, where = best.get(gram, (0, 0, -1))
            best[gram] = (count, first, i) if count > first else (first, max(second, count), where)
    return best


def parts(chats: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """By name, one text for each (question, answer)."""
    return {
        "question": [question for question, _ in chats],
        "answer": [answer for _, answer in chats],
        "chat": [f"{question}\n{answer}" for question, answer in chats],
        "answer_cut": [" ".join(answer.split()[:CUT]) for _, answer in chats],
    }


@dataclass(frozen=True)
class AtEqualN:
    """`n`: texts in each subsample; `low`, `high` are NaN where nothing could be resampled."""

    n: int
    value: float
    low: float
    high: float


def at_equal_n(
    measure: Measure, total: int, n: int, draws: int = 40, seed: int = 0, confidence: float = 0.95
) -> AtEqualN:
    """`measure` gets row numbers; the same seed gives the same rows to every measure."""
    if n > total:
        raise ValueError(f"asked for {n} of {total} texts")
    if n == total:
        return AtEqualN(n, measure(np.arange(total)), float("nan"), float("nan"))
    values_B = np.array([measure(rows) for rows in subsets(total, n, draws, seed)])
    centre = float(values_B.mean())
    scale = np.sqrt(n / total) / np.sqrt(1 - n / total)
    half = float(np.quantile(np.abs(values_B - centre), confidence)) * scale
    return AtEqualN(n, centre, centre - half, centre + half)


def subsets(total: int, n: int, draws: int, seed: int) -> list[Ints]:
    """Row numbers of each subsample."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.permutation(total)[:n]) for _ in range(draws)]


def convergence(
    measure: Measure, total: int, sizes: Sequence[int], draws: int = 10, seed: int = 0
) -> list[tuple[int, float]]:
    """Mean of the measure at growing n: flat at the end means that n was large enough."""
    return [
        (n, float(np.mean([measure(rows) for rows in subsets(total, n, draws, seed)]))) for n in sizes if n <= total
    ]
