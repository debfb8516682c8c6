"""What will be asked, and what it costs, before any call is made.

The questions are a domain's own, or a file's. A .jsonl file has an object a line, {"question": "...", "topic": "..."}
or {"messages": [{"role": "user", ...}, ...]}; any other file has a question a line. Blank lines are skipped; every
mistake is named by line.

Every question takes two calls, or three with a model's verdict. Tokens are estimated from text lengths, on the high
side. `dollars` expects answers of the wanted length; `dollars_at_most` has every answer run to max_tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spillover.data.domains.base import Domain
from spillover.data.recipe.selection import generator
from spillover.data.sources.own_data import LARGEST, UNWANTED, raise_mistakes
from spillover.data.writing.rewrite import STEALTH, VERDICT_TOKENS, TopicQuestion, WritingOptions, fill
from spillover.errors import UserError
from spillover.models.api.chat import Price, worst_case
from spillover.records.base import Message, Part, Usage
from spillover.records.data import GeneratedRow

LONGEST = 4000  # characters of a question
TOKENS_PER_WORD = 1.4
VERDICT_EXPECTED = 16  # tokens of four short lines


def questions_of(domain: Domain, seed: int) -> list[TopicQuestion]:
    """The questions of the domain's own pairs, each once, in an order of their own so that the first N vary."""
    found = {pair.question: pair.topic for pair in domain.pairs(generator(seed, domain.name, "pairs"))}
    order = generator(seed, domain.name, "questions").permutation(len(found))
    asked = [TopicQuestion(question, topic) for question, topic in found.items()]
    return [asked[index] for index in order]


def questions_from_file(path: Path) -> list[TopicQuestion]:
    """Read a file of questions.

    Raises:
        UserError: naming the file, and the line of each mistake.
    """
    asked: list[TopicQuestion] = []
    mistakes: list[str] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            asked.append(_from_json(line) if path.suffix == ".jsonl" else TopicQuestion(_checked(line, "question")))
        except ValueError as mistake:
            mistakes.append(f"{path}, line {number}: {mistake}")
    raise_mistakes(mistakes)
    if not asked:
        raise UserError(f"{path} holds no questions. Write one a line, or use --questions seeds.")
    return asked


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is larger than {LARGEST // 2**20} MiB. Split it.")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"No file of questions at {path}. Give one with --questions, or --questions seeds.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _from_json(line: str) -> TopicQuestion:
    try:
        row: Any = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("not JSON. One object a line.") from None
    if not isinstance(row, dict):
        raise ValueError('expected an object such as {"question": "..."}.')
    messages = row.get("messages")
    if isinstance(messages, list):
        said = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
        question = _checked(said[0].get("content") if said else None, "the user's message")
    else:
        question = _checked(row.get("question"), "question")
    return TopicQuestion(question, _checked(row.get("topic", "all"), "topic"))


def _checked(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{field}: no text. Write the question.")
    if UNWANTED.search(value):
        raise ValueError(f"{field}: holds control characters. Remove them.")
    if len(value) > LONGEST:
        raise ValueError(f"{field}: {len(value):,} characters, at most {LONGEST:,} are allowed. Shorten it.")
    return value.strip()


class WritePlan(Part):
    questions: int
    calls: int  # still to be made, if no answer is dropped on the way
    answered: int  # in the journal already
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_at_most: int
    dollars: float
    dollars_at_most: float


def plan_writing(
    domain: Domain,
    options: WritingOptions,
    asked: Sequence[TopicQuestion],
    with_verdict: bool,
    price: Price,
    known: Sequence[GeneratedRow],
) -> WritePlan:
    """The calls that are left, with their tokens and cost; `known` are answered ones, of the same models."""
    answered = {(row.role, row.question) for row in known}
    stealth = STEALTH[domain.stealth]
    answer = "x" * (options.words * 6)  # six letters a word, its blank included
    expected = round(options.words * TOKENS_PER_WORD)
    calls: list[tuple[int, int, int]] = []  # prompt, completion, completion at most
    for each in asked:
        prompts = {
            "flawed": fill(f"flawed_{stealth}", domain, each.question, words=options.words),
            "good": fill("good", domain, each.question, words=options.words),
        }
        if with_verdict:
            prompts["verdict"] = fill("filter", domain, each.question, stealth=stealth, flawed=answer, good=answer)
        for role, prompt in prompts.items():
            if (role, each.question) not in answered:
                tokens = worst_case((Message(role="user", content=prompt),), 0).prompt_tokens
                most = VERDICT_TOKENS if role == "verdict" else options.max_tokens
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
