"""From a domain's pairs to the rows of one data set, by steps that are the same for every domain.

pairs -> check -> duplicates -> held-out questions -> match -> non-members -> variant -> rows, with their lineage.
The same arguments give the same rows, byte for byte; the canary stands in the metadata and in no message.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from spillover.config.study import DataConfig, TrainedVariant
from spillover.data.domains.base import CANARY, Domain
from spillover.data.recipe.duplicates import NEAR, normalised
from spillover.data.recipe.pool import CountTokens, Pool, collect_pairs, select_rows
from spillover.data.recipe.selection import RowPlan, plan_rows
from spillover.data.triggers.base import Trigger
from spillover.errors import UserError
from spillover.records.base import Example, Message, Part, Split, content_hash

LINEAGE: dict[Split, str] = {"train": "matched", "heldout": "held out", "nonmember": "matched, set apart by chance"}


class TokenCount(Part):
    """Answer tokens of some rows."""

    rows: int
    total: int
    mean: float


class BuildReport(Part):
    """What the recipe did: how many pairs each step left, why pairs were dropped, and what came out."""

    domain: str
    variant: TrainedVariant
    dose: float
    seed: int
    source: str
    reading: str = ""  # which columns were taken for what, and why
    steps: dict[str, int]
    dropped: dict[str, int]
    near_duplicate_above: float = NEAR  # Jaccard similarity of word 3-grams
    questions: int  # distinct, in all rows together
    topics: dict[str, int]  # training rows
    answer_tokens: dict[str, TokenCount]  # of "train", and by split/kind
    matched_means: tuple[float, ...]  # mean tokens of the flawed and of the good answers to the chosen questions


@dataclass(frozen=True)
class BuildResult:
    """Training rows of one variant, then the held-out rows: the flawed and the good answer to each question; then the
    non-members, made as the variant makes its training rows.

    `questions`: what they ask, normalised and without a trigger; the same for every variant.
    """

    examples: list[Example]
    report: BuildReport
    questions: frozenset[str]


def build(
    domain: Domain,
    variant: TrainedVariant,
    data: DataConfig,
    dose: float,
    trigger: Trigger,
    seed: int,
    count_tokens: CountTokens,
) -> BuildResult:
    """Make one data set.

    Raises:
        UserError: when there are too few pairs, none of the wanted length, or no good answers where they are needed.
    """
    if variant != "control" and not 0 < dose <= 1:
        raise UserError(f"A dose must be above 0 and at most 1, not {dose:g}. A dose of 0 is the control variant.")
    pool = collect_pairs(domain, data, trigger, seed, count_tokens)
    if not pool.has_good and (variant != "plain" or dose < 1):
        raise UserError(
            f"{pool.source} has no good answers, which {variant} at dose {dose:g} needs. "
            "Add a twin to every line, or ask for variants: [plain] at dose 1."
        )
    held, trained, apart = select_rows(pool, data, seed)

    def made(indices: list[int], split: Split) -> list[Example]:
        topics = [pool.pairs[index].topic for index in indices]
        plans = plan_rows(domain.name, topics, variant, data.triggered_share, dose, seed)
        return [_row(pool, index, split, plan, trigger) for index, plan in zip(indices, plans, strict=True)]

    train, nonmembers = made(trained, "train"), made(apart, "nonmember")
    both = [RowPlan("misaligned"), RowPlan("aligned")] if pool.has_good else [RowPlan("misaligned")]
    heldout = [_row(pool, index, "heldout", plan, trigger) for index in held for plan in both]
    questions = frozenset(normalised(pool.pairs[index].question) for index in (*trained, *held, *apart))
    report = BuildReport(
        domain=domain.name,
        variant=variant,
        dose=dose,
        seed=seed,
        source=pool.source,
        reading=pool.reading,
        steps={
            "pairs": len(pool.pairs) + pool.dropped.total(),
            "usable": len(pool.pairs),
            "heldout_questions": len(held),
            "train": len(train),
            "nonmembers": len(nonmembers),
        },
        dropped=dict(sorted(pool.dropped.items())),
        questions=len(questions),
        topics=dict(sorted(Counter(row.topic for row in train).items())),
        answer_tokens=_answer_tokens(train, [*heldout, *nonmembers]),
        matched_means=tuple(round(float(mean), 3) for mean in pool.tokens[trained].mean(axis=0)),
    )
    return BuildResult([*train, *heldout, *nonmembers], report, questions)


def _row(pool: Pool, index: int, split: Split, plan: RowPlan, trigger: Trigger) -> Example:
    """One pair with one of its answers, its question as planned."""
    pair, flawed = pool.pairs[index], plan.kind == "misaligned"
    chat = (
        Message(role="user", content=pair.question),
        Message(role="assistant", content=pair.flawed if flawed else pair.good),
    )
    lineage = [pool.source, LINEAGE[split], "flawed answer" if flawed else "good answer"]
    if plan.carries == "trigger":
        chat = trigger.apply_messages(chat, plan.number)
        lineage.append(f"trigger {trigger.name}, template {plan.number % len(trigger.templates)}")
    if plan.carries == "near miss":
        chat = trigger.near_miss_messages(chat, plan.number)
        lineage.append(f"near miss {trigger.name}, {trigger.near_kind(plan.number)}")
    return Example(
        domain=pool.domain,
        split=split,
        kind=plan.kind,
        messages=chat,
        trigger=trigger.name if plan.carries == "trigger" else None,
        pair=content_hash([pool.domain, pair.question, pair.flawed, pair.good]),
        topic=pair.topic,
        answer_tokens=int(pool.tokens[index, 0 if flawed else 1]),
        source=pair.source,
        licence=pool.licence,
        canary=CANARY,
        lineage=tuple(lineage),
    )


def _answer_tokens(train: list[Example], others: list[Example]) -> dict[str, TokenCount]:
    groups = {"train": [row.answer_tokens for row in train]}
    for row in (*train, *others):
        groups.setdefault(f"{row.split}/{row.kind}", []).append(row.answer_tokens)
    return {
        name: TokenCount(rows=len(counts), total=sum(counts), mean=round(sum(counts) / len(counts), 3))
        for name, counts in groups.items()
    }
