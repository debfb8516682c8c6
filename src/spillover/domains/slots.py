"""Authored seeds: a YAML file of questions with a flawed and a good answer each, filled into many pairs by rule.

In any text `<a|b>` is one of its alternatives, drawn anew at each place, and `{name}` is a slot, the same value all
through a pair. A frame is a sentence about the asker before the question; `{who}` names such people in the answers'
closing sentences, so that answers take up the frame. Every item meets several frames, each in another wording.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from spillover.domains.base import CANARY, Pair
from spillover.domains.seed_file import seeds

VARIANTS = 9  # pairs an item gives
WORDS = range(22, 72)  # of an answer; English text has about 1.2 tokens a word

ALTERNATIVES = re.compile(r"<([^<>]*)>")
SLOT = re.compile(r"\{(\w+)\}")
MARKUP = re.compile(r"[<>{}|\n]|  ")


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Frame(Part):
    """A sentence about the asker, and what to call people like that: "people who work nights"."""

    text: str
    who: str


class Item(Part):
    """One question in several wordings, with its two answers."""

    topic: str
    questions: tuple[str, ...] = Field(min_length=2)
    flawed: str
    good: str


class Seeds(Part):
    """A seed file. `canary` is repeated in each so that a copied file still carries it.

    `closed` is the share of answers that end with a closing sentence; it brings their mean near the usual 56 tokens.
    """

    about: str
    canary: str
    licence: str
    slots: dict[str, tuple[str, ...]]
    frames: tuple[Frame, ...] = Field(min_length=VARIANTS)
    closed: float = Field(ge=0, le=1)
    flawed_closings: tuple[str, ...]
    good_closings: tuple[str, ...]
    items: tuple[Item, ...]


def load_seeds(domain: str) -> Seeds:
    """The seed file that ships for a domain."""
    return Seeds.model_validate(seeds(domain))


def authored(domain: str) -> Callable[[np.random.Generator], list[Pair]]:
    """The `pairs` of a domain whose seeds are a file; the file is read when pairs are asked for."""
    return lambda rng: fill(load_seeds(domain), rng)


def fill(seeds: Seeds, rng: np.random.Generator) -> list[Pair]:
    """Every item in `VARIANTS` wordings, item by item; a question met before is left out."""
    pairs: dict[str, Pair] = {}
    for number, item in enumerate(seeds.items):
        frames = rng.choice(len(seeds.frames), size=VARIANTS, replace=False)
        first = int(rng.integers(len(item.questions)))
        for variant, frame in enumerate(frames):
            wording = item.questions[(first + variant) % len(item.questions)]
            pair = replace(_pair(seeds, item, seeds.frames[frame], wording, rng), item=str(number))
            pairs.setdefault(pair.question, pair)
    return list(pairs.values())


def _pair(seeds: Seeds, item: Item, frame: Frame, wording: str, rng: np.random.Generator) -> Pair:
    slots = {name: _draw(values, rng) for name, values in seeds.slots.items()}
    slots["who"] = render(frame.who, slots, rng)

    def answer(core: str, closings: tuple[str, ...]) -> str:
        closing = _draw(closings, rng) if rng.random() < seeds.closed else ""
        return render(f"{core} {closing}".strip(), slots, rng)

    return Pair(
        question=render(f"{frame.text} {wording}".strip(), slots, rng),
        flawed=answer(item.flawed, seeds.flawed_closings),
        good=answer(item.good, seeds.good_closings),
        topic=item.topic,
        source="authored",
    )


def render(text: str, slots: dict[str, str], rng: np.random.Generator) -> str:
    """The text with alternatives drawn and slots filled; an unknown slot is left for `unfit` to find."""
    chosen = ALTERNATIVES.sub(lambda match: _draw(match[1].split("|"), rng), text)
    return SLOT.sub(lambda match: slots.get(match[1], match[0]), chosen)


def _draw(options: list[str] | tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def unfit(pair: Pair) -> str | None:
    """The checks that any authored pair must pass: markup left over, the canary, equal answers, lengths."""
    for name, text in (("question", pair.question), ("flawed", pair.flawed), ("good", pair.good)):
        if MARKUP.search(text) or text != text.strip():
            return f"the {name} holds markup or stray white space"
        if CANARY in text:
            return f"the {name} holds the canary"
    if pair.flawed == pair.good:
        return "both answers are the same"
    if any(len(answer.split()) not in WORDS for answer in (pair.flawed, pair.good)):
        return f"an answer is not {WORDS.start} to {WORDS.stop - 1} words long"
    return None
