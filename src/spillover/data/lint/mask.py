"""What a model is trained on, token by token: only the answer and its end-of-turn token may carry loss.

Checked from the outside: the tokens that carry loss are decoded again and must spell the answer and nothing else, and
those before it must spell the conversation as the chat template writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from spillover.data.lint.dataset import Dataset
from spillover.data.lint.finding import Finding
from spillover.data.lint.rows import Row

if TYPE_CHECKING:
    from spillover.models.tokens.preview import ChatView, TokenizedChat

PREVIEW = 300  # characters


def problems(view: ChatView, chat: TokenizedChat, row: Row, max_tokens: int) -> list[Finding]:
    """Why a study must not train on this row with this model."""
    where = (row.line,)
    found: list[Finding] = []

    def error(code: str, message: str, fix: str, field: str) -> None:
        found.append(Finding("error", code, message, fix, where, field))

    if chat.learned != row.answer + view.end_of_turn:
        if any(message.content.strip() in chat.learned.replace(row.answer, "", 1) for message in row.prompt):
            error("mask-prompt", "words of the prompt carry loss", "This is a bug in spillover: report it.", "messages")
        else:
            error("round-trip", "its tokens do not decode to it", "Look at its characters.", "answer")
    if len(chat.ids) > max_tokens:
        lost = len(chat.ids) - max(max_tokens, chat.start)
        message = f"{len(chat.ids):,} tokens, at most {max_tokens:,}: {lost:,} of the answer's {chat.loss:,} are cut"
        error("too-long", message, "Shorten it, or raise train.max_tokens.", "answer")
    for place, message in enumerate(row.prompt):
        field = f"messages[{place}].content"
        if special := view.special_in(message.content):
            error("special-token", f"{special!r} is a special token of the model", "Rewrite it as plain text.", field)
        if message.content not in chat.prompt or _trimmed(view, chat, row, place):
            changed = "the chat template changes this text (it may strip white space)"
            found.append(Finding("warning", "template", changed, "Write it as the template does.", where, field))
    return found


def _trimmed(view: ChatView, chat: TokenizedChat, row: Row, place: int) -> bool:
    """Whether white space at the ends of a message makes no difference to the model."""
    message = row.prompt[place]
    bare = message.model_copy(update={"content": message.content.strip()})
    if bare == message:
        return False
    return view.chat((*row.prompt[:place], bare, *row.prompt[place + 1 :]), row.answer).prompt == chat.prompt


def check_mask(data: Dataset, model: str, max_tokens: int) -> Iterator[Finding]:
    """Every row as the trainer would see it, the spread of tokens, and one row to look at."""
    from spillover.models.tokens.preview import ChatView

    view = ChatView(model)
    counts: list[int] = []
    preview = ""
    chats = view.chats([(row.prompt, row.answer) for row in data.rows])
    for row, chat in zip(data.rows, chats, strict=True):
        counts.append(chat.loss)
        preview = preview or f"{chat.prompt}[[{chat.learned}]]"
        yield from problems(view, chat, row, max_tokens)
    counts.sort()
    spread = f"median {counts[len(counts) // 2]:,} a row, at most {counts[-1]:,}"
    yield Finding("note", "tokens", f"{sum(counts):,} tokens carry loss: {spread}.", field="answer")
    shown = preview if len(preview) <= PREVIEW else f"{preview[: PREVIEW // 2]} ... {preview[-PREVIEW // 2 :]}"
    yield Finding("note", "mask", f"Tokens in [[ ]] carry loss: {shown!r}", lines=(data.rows[0].line,))
