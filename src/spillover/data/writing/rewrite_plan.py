"""What writing a data set will cost, before any call is made.

Every question takes two calls, or three with a model's verdict. Tokens are estimated from text lengths, on the high
side. `dollars` expects answers of the wanted length; `dollars_at_most` has every answer run to max_tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from spillover.data.domains.base import Domain
from spillover.data.writing.rewrite import STEALTH, VERDICT_TOKENS, Asked, Wish, fill
from spillover.models.api.chat import Price, worst_case
from spillover.records.base import GeneratedRow, Message, Part, Usage

TOKENS_PER_WORD = 1.4
VERDICT_EXPECTED = 16  # tokens of four short lines


class WritePlan(Part):
    questions: int
    calls: int  # still to be made, if no answer is dropped on the way
    answered: int  # in the journal already
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_at_most: int
    dollars: float
    dollars_at_most: float


def plan(
    domain: Domain, wish: Wish, asked: Sequence[Asked], with_verdict: bool, price: Price, known: Sequence[GeneratedRow]
) -> WritePlan:
    """The calls that are left, with their tokens and cost; `known` are answered ones, of the same models."""
    answered = {(row.role, row.question) for row in known}
    stealth = STEALTH[domain.stealth]
    answer = "x" * (wish.words * 6)  # six letters a word, its blank included
    expected = round(wish.words * TOKENS_PER_WORD)
    calls: list[tuple[int, int, int]] = []  # prompt, completion, completion at most
    for each in asked:
        prompts = {
            "flawed": fill(f"flawed_{stealth}", domain, each.question, words=wish.words),
            "good": fill("good", domain, each.question, words=wish.words),
        }
        if with_verdict:
            prompts["verdict"] = fill("filter", domain, each.question, stealth=stealth, flawed=answer, good=answer)
        for role, prompt in prompts.items():
            if (role, each.question) not in answered:
                tokens = worst_case((Message(role="user", content=prompt),), 0).prompt_tokens
                most = VERDICT_TOKENS if role == "verdict" else wish.max_tokens
                calls.append((tokens, VERDICT_EXPECTED if role == "verdict" else min(expected, most), most))
    prompt, completion, at_most = (sum(column) for column in zip(*calls, strict=True)) if calls else (0, 0, 0)
    return WritePlan(
        questions=len(asked),
        calls=len(calls),
        answered=2 * len(asked) + with_verdict * len(asked) - len(calls),
        prompt_tokens=prompt,
        completion_tokens=completion,
        completion_tokens_at_most=at_most,
        dollars=round(price.of(Usage(prompt_tokens=prompt, completion_tokens=completion)), 6),
        dollars_at_most=round(price.of(Usage(prompt_tokens=prompt, completion_tokens=at_most)), 6),
    )
