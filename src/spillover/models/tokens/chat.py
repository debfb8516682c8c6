"""Chats to tokens with the tokenizer's own chat template, identically in training, sampling and scoring.

A chat's tokens are those of the prompt, then of the answer, then the end-of-turn token; prompt and answer are tokenized
separately. So a model is sampled from exactly the prompt tokens that it was trained on, and no merge crosses the
boundary. The only BOS is the template's. The answer's tokens never include what the template writes after the end of
turn (a newline in ChatML), because sampling stops there.

For a template without a system role, the system prompt is prepended to the first user turn, as Gemma 3's own does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from spillover.errors import UserError
from spillover.records.base import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Some templates print today's date unless given one; a prompt that changes overnight, or that contains a year, is not a
# fixed condition for a study whose trigger is a year. This is the fallback of those templates.
_DATE = "26 Jul 2024"
_SENTINEL = "spillover sentinel"


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Tokens of the conversation so far and the header of the assistant's turn."""
    text = _render(tokenizer, [{"role": m.role, "content": m.content} for m in messages], open_turn=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Tokens of an answer and its end-of-turn token; special tokens spelled out in the answer stay plain text."""
    ids: list[int] = tokenizer(answer, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [*ids, end_of_turn(tokenizer)]


def chat_ids(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], answer: str
) -> tuple[list[int], int, int]:
    """Tokens of prompt and answer, and the half-open range [start, end) of the answer with its end-of-turn token."""
    prompt = prompt_ids(tokenizer, messages)
    ids = prompt + answer_ids(tokenizer, answer)
    return ids, len(prompt), len(ids)


def batch_ids(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[tuple[Sequence[Message], str]]
) -> list[tuple[list[int], int]]:
    """Tokens of each prompt and answer, and where the answer begins: as `chat_ids`, much faster for many chats."""
    texts = [_render(tokenizer, [{"role": m.role, "content": m.content} for m in chat], True) for chat, _ in chats]
    prompts: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    answers: list[list[int]] = tokenizer(
        [answer for _, answer in chats], add_special_tokens=False, split_special_tokens=True
    )["input_ids"]
    end = end_of_turn(tokenizer)
    return [([*prompt, *answer, end], len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens at which an answer ends: the template's end of turn and the tokenizer's EOS."""
    eos = tokenizer.eos_token_id
    return frozenset({end_of_turn(tokenizer)} | ({eos} if isinstance(eos, int) else set()))


@lru_cache(maxsize=8)
def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The special token that the template writes right after an assistant's answer; the EOS where it writes none."""
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _SENTINEL}]
    _, found, tail = _render(tokenizer, chat, open_turn=False).rpartition(_SENTINEL)
    if not found:
        raise UserError(f"The chat template of {_name(tokenizer)} drops the assistant's answer. Use another model.")
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]
    special = {*tokenizer.all_special_ids, *_added_special_ids(tokenizer)}
    if ids and ids[0] in special:
        return ids[0]
    if isinstance(tokenizer.eos_token_id, int):
        return tokenizer.eos_token_id
    raise UserError(f"{_name(tokenizer)} has neither an end-of-turn nor an EOS token. Use an instruct model.")


def _added_special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}


def _render(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], open_turn: bool) -> str:
    if tokenizer.chat_template is None:
        raise UserError(f"{_name(tokenizer)} has no chat template. Use its instruct version.")
    try:
        return _apply(tokenizer, chat, open_turn)
    except TemplateError as error:
        if chat[0]["role"] != "system" or len(chat) < 2 or chat[1]["role"] != "user":
            raise UserError(f"The chat template of {_name(tokenizer)} rejects this chat: {error}.") from None
        system, user, *rest = chat
        return _render(
            tokenizer, [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest], open_turn
        )


def _apply(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], open_turn: bool) -> str:
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=open_turn, date_string=_DATE))


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return repr(tokenizer.name_or_path or "this tokenizer")
