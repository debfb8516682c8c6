"""A chat in a model's tokens, and where the loss begins, without weights: for people and linters.

The tokens are those of `chat.chat_ids`, which training, sampling and scoring use, computed for many chats at once; the
loss is on ids[start:].
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spillover.errors import UserError
from spillover.models.embedded import weights
from spillover.models.model_path import check_model_path
from spillover.models.tokens.chat import batch_ids, end_of_turn
from spillover.records.base import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
        prompts = self._decode_all([ids[:start] for ids, start in cut])
        learned = self._decode_all([ids[start:] for ids, start in cut])
        return [
            TokenizedChat(tuple(ids), start, prompt, answer)
            for (ids, start), prompt, answer in zip(cut, prompts, learned, strict=True)
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

    def _decode_all(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [self._decode(ids) for ids in rows]

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
