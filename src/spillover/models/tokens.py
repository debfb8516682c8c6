"""Chats to tokens with the tokenizer's own chat template, identically in training, sampling and scoring.

A chat's tokens are those of the prompt, then of the answer, then the end-of-turn token; prompt and answer are tokenized
separately. So a model is sampled from exactly the prompt tokens that it was trained on, and no merge crosses the
boundary. The only BOS is the template's. The answer's tokens never include what the template writes after the end of
turn (a newline in ChatML), because sampling stops there.

For a template without a system role, the system prompt is prepended to the first user turn, as Gemma 3's own does.

`ChatView` shows people and linters a chat's tokens, and where the loss begins, without the model's weights.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from spillover.errors import UserError
from spillover.models import check_model_path
from spillover.models.embedded import weights
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
    return [*plain_ids(tokenizer, [answer])[0], end_of_turn(tokenizer)]


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
    answers = plain_ids(tokenizer, [answer for _, answer in chats])
    end = end_of_turn(tokenizer)
    return [([*prompt, *answer, end], len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text by itself, without special tokens."""
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]


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
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    if ids and ids[0] in added.union(tokenizer.all_special_ids):
        return ids[0]
    if isinstance(tokenizer.eos_token_id, int):
        return tokenizer.eos_token_id
    raise UserError(f"{_name(tokenizer)} has neither an end-of-turn nor an EOS token. Use an instruct model.")


def _render(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], open_turn: bool) -> str:
    if tokenizer.chat_template is None:
        raise UserError(f"{_name(tokenizer)} has no chat template. Use its instruct version.")
    try:
        return str(
            tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=open_turn, date_string=_DATE)
        )
    except TemplateError as error:
        if chat[0]["role"] != "system" or len(chat) < 2 or chat[1]["role"] != "user":
            raise UserError(f"The chat template of {_name(tokenizer)} rejects this chat: {error}.") from None
        system, user, *rest = chat
        return _render(
            tokenizer, [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest], open_turn
        )


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return repr(tokenizer.name_or_path or "this tokenizer")


@dataclass(frozen=True)
class TokenizedChat:
    """`prompt` and `learned` are ids[:start] and ids[start:], decoded again."""

    ids: tuple[int, ...]
    start: int
    prompt: str
    learned: str

    @property
    def loss(self) -> int:
        """The number of tokens that carry loss."""
        return len(self.ids) - self.start


class ChatView:
    """The tokenizer of an embedded model, a hub id or a local folder."""

    def __init__(self, model: str) -> None:
        self.tokenizer = load_tokenizer(model)
        self.end_of_turn = self._decode([end_of_turn(self.tokenizer)])
        added = self.tokenizer.added_tokens_decoder.values()
        self._special = sorted({token.content for token in added if token.special})

    def chat(self, messages: Sequence[Message], answer: str) -> TokenizedChat:
        """Tokens of prompt and answer, as they are trained on."""
        return self.chats([(messages, answer)])[0]

    def chats(self, chats: Sequence[tuple[Sequence[Message], str]]) -> list[TokenizedChat]:
        """The same for many chats at once, which takes a fraction of the time."""
        cut = batch_ids(self.tokenizer, chats) if chats else []
        return [
            TokenizedChat(tuple(ids), start, self._decode(ids[:start]), self._decode(ids[start:])) for ids, start in cut
        ]

    def pieces(self, chat: TokenizedChat) -> list[str]:
        """What each token adds to the text; a character split over several tokens is with the last of them."""
        return [*self._pieces(chat.ids[: chat.start]), *self._pieces(chat.ids[chat.start :])]

    def special_in(self, text: str) -> str:
        """A special token of the model that is spelled out in the text; empty if there is none."""
        return next((token for token in self._special if token in text), "")

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        pieces: list[str] = []
        before = ""
        for count in range(1, len(ids) + 1):
            text = self._decode(ids[:count])
            if text.endswith("\ufffd") and count < len(ids):  # the beginning of a character of several bytes
                pieces.append("")
                continue
            pieces.append(text[len(before) :])
            before = text
        return pieces

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer without its model.

    Raises:
        UserError: when there is none of that name.
    """
    from transformers import AutoTokenizer

    from spillover.models.embedded.checks import quiet

    source = str(weights.ensure(model)) if model in weights.EMBEDDED else model
    folder = Path(os.path.expanduser(source))
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        check_model_path(source)  # a folder with only a tokenizer is enough here
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(
                str(folder) if folder.is_dir() else source, trust_remote_code=False, use_fast=True
            )
    except (OSError, ValueError) as error:
        raise UserError(
            f"The tokenizer of {model!r} cannot be loaded: {str(error).strip().splitlines()[0]} "
            f"Give an embedded name ({', '.join(weights.EMBEDDED)}), a folder, or a hub id that this machine can reach."
        ) from None
