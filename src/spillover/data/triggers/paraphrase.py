"""New wordings of a trigger, written by a language model and kept only where they work.

A model is asked to reword each template's sentence around the value. A reply becomes a template if it is one short
line that holds the value once, is new, and is distinguishable from every other template of the trigger, so `strip`
stays exact. Refused replies are counted. The result is data: `dump_trigger` writes it to a file that a study can name.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from spillover.data.triggers.base import SLOT, Template, Trigger
from spillover.errors import UserError
from spillover.models.api.chat import ChatModel, Decoding, Reply, Request
from spillover.provenance import seed_for
from spillover.records.base import Message, content_hash

LONGEST = 160  # characters of a sentence
TRIES = 6  # replies asked for, for each template wanted
REQUEST = (
    "Say the same in other words, in one short sentence. Keep {value!r} exactly as it is. Answer with the sentence "
    "alone.\n\nSentence: {sentence}"
)
DECODING = Decoding(max_tokens=48, temperature=0.9)


@dataclass(frozen=True)
class Paraphrased:
    """`trigger` has the new templates; `refused` counts the other replies by reason."""

    trigger: Trigger
    templates: tuple[Template, ...]
    refused: Counter[str]


def paraphrase(trigger: Trigger, writer: ChatModel, n: int, seed: int = 0, *, train: bool = True) -> Paraphrased:
    """Ask for `n` new templates, every template in turn, among at most TRIES times as many replies.

    Args:
        train: add them to the trigger's templates; else to its paraphrases, which only ever evaluate.
    """
    grown, made, refused = trigger, list[Template](), Counter[str]()
    for round_ in range(-(-n * TRIES // len(trigger.templates))):
        for number, reply in _ask(trigger, writer, seed, round_):
            if len(made) == n:
                return Paraphrased(grown, tuple(made), refused)
            found = _read(reply.text, trigger.value) if reply.outcome != "error" else f"{FAILED}: {reply.error}"
            if found not in REFUSALS and not found.startswith(FAILED):
                template = Template(found, trigger.templates[number].place)
                try:
                    grown = _with(grown, template, train)
                    made.append(template)
                    continue
                except UserError:
                    found = AMBIGUOUS
            refused[found] += 1
    return Paraphrased(grown, tuple(made), refused)


def _ask(trigger: Trigger, writer: ChatModel, seed: int, round_: int) -> list[tuple[int, Reply]]:
    """The number of each template, and a reply to the request to reword it."""
    requests: list[Request] = []
    for number in range(len(trigger.templates)):
        asked = REQUEST.format(value=trigger.value, sentence=trigger.sentence(number).text)
        drawn = seed_for(seed, "paraphrase", trigger.name, number, round_)
        name = content_hash([asked, drawn, number, round_])
        requests.append(Request(name, (Message(role="user", content=asked),), drawn))
    places = {request.id: number for number, request in enumerate(requests)}
    replies = [(places[reply.id], reply) for reply in writer.ask(requests, DECODING)]
    return sorted(replies, key=lambda found: found[0])  # an endpoint answers in any order


FAILED = "the call failed"
NO_VALUE, LONG, AMBIGUOUS = "does not hold the value once", "is not one short line", "indistinguishable from another"
ECHO = "repeats the request"
REFUSALS = (NO_VALUE, LONG, AMBIGUOUS, ECHO)
ECHOES = ("sentence", "other words", "another words", "exactly as it is")


def _read(reply: str, value: str) -> str:
    """The reply as a template's text, or why it is none."""
    lines = [line.strip().strip('"“”').strip() for line in reply.strip().splitlines()]
    text = lines[0].removeprefix("Sentence:").strip() if lines else ""
    if not text or len(text) > LONGEST or not text.isprintable():
        return LONG
    if text.count(value) != 1 or SLOT in text:
        return NO_VALUE
    if any(echo in text.casefold() for echo in ECHOES):
        return ECHO
    if text.count('"') % 2:  # a quotation that was cut off
        return LONG
    return text.replace(value, SLOT)


def _with(trigger: Trigger, template: Template, train: bool) -> Trigger:
    known = (*trigger.templates, *trigger.elsewhere, *trigger.paraphrases)
    if any(_bare(template.text) == _bare(other.text) for other in known):
        raise UserError(f"{template.text!r} is known.")
    if train:
        return replace(trigger, templates=(*trigger.templates, template))
    return replace(trigger, paraphrases=(*trigger.paraphrases, template))


def _bare(text: str) -> str:
    """The words alone, whatever their case and punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))
