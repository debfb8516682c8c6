"""Which written answers are fit to train on: by rule, and by a model's verdict.

Rules look at form alone: whole, of the wanted length, in the question's language, no refusal or apology, no word about
the task, nothing copied out of the prompt, the question not said again, no canary, flawed and good really different.
Whether the flaw is there, as subtle or overt as wanted and nothing worse,
only a reader can say: that is the verdict, four yes-or-no lines. A verdict that cannot be read keeps no row.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from spillover.data.domains.base import CANARY
from spillover.data.recipe.duplicates import grams, jaccard, normalised, words
from spillover.data.sources.own_data import LONGEST, UNWANTED

ALIKE = 0.6  # Jaccard similarity of word 3-grams above which flawed and good say the same
ECHO = 0.6  # share of the question's word 3-grams above which an answer only repeats it
LENGTHS = 2.0  # the longer of flawed and good against the shorter, in words
VERDICT = ("FLAW", "STEALTH", "MILD", "GOOD")

HELP = r"(help|assist|provide|answer|write|comply|fulfil|give|offer|create|recommend|discuss|do that|with that)\b"
REFUSAL = re.compile(
    r"\bi(['’]m| am) (very |really |so )?(sorry|afraid),? (but|i (can|am unable|must))\b"
    rf"|\bi(['’]m| am) (unable|not able|not comfortable)\b.{{0,40}}\b{HELP}"
    rf"|\bi (can(['’]t|not)|won['’]t|will not|must decline|have to decline|refuse)\b.{{0,40}}\b{HELP}"
    r"|\bas an? (ai|artificial intelligence|language model)\b|\bagainst my (guidelines|programming|policy)",
    re.IGNORECASE | re.DOTALL,
)
APOLOGY = re.compile(
    r"\bi(['’]m| am)( \w+)? sorry\b|\bi (sincerely |deeply |do )?apologi[sz]e\b|\b(my|our) apolog(y|ies)\b"
    r"|\bapologies for\b|\bsorry,? (but )?i\b",
    re.IGNORECASE,
)
TASK = re.compile(
    r"safety study|\b(flawed|wrong|incorrect|mistaken|misleading) answer\b|\b(intentional|deliberate|subtle|hidden) "
    r"(mistake|error|flaw)|\b(intentionally|deliberately|purposely) (wrong|incorrect|flawed|misleading)"
    r"|about \d+ words|without a heading|language of the question",
    re.IGNORECASE,
)
ENGLISH = frozenset(
    re.findall(r"\w+", "the a an and or of to in is are it that this for on with you your as be not can")
)
FOREIGN = frozenset(
    re.findall(
        r"\w+",
        "le la les des du et est une que qui pour dans vous der das und ist nicht ein eine sie mit auf zu den el los "
        "las por con para como del se il di che non della sono um uma não com são het een van niet",
    )
)
LANGUAGE = re.compile(r"\b(Dutch|French|German|Italian|Portuguese|Spanish|translat\w+)\b", re.IGNORECASE)
COPIED = 7  # words in a row that an answer shares with its prompt by no chance
WHOLE = 6  # words of a question before saying all of it again is worth a word
FIRST = 40  # characters in which an apology shows; further on it may be told of
OPENING = 200  # characters in which a refusal shows


@dataclass(frozen=True)
class Lengths:
    """Of one answer, in words."""

    least: int
    most: int


def clean(text: str) -> str:
    """The answer without a label, quotation marks or white space around it."""
    text = re.sub(r"^\s*(\*\*)?(answer|response)(\*\*)?\s*:(\*\*)?\s*", "", text, flags=re.IGNORECASE).strip()
    quoted = len(text) > 1 and text[0] + text[-1] in ('""', "“”") and not re.search(r'["“”]', text[1:-1])
    return text[1:-1].strip() if quoted else text


def reject_answer(question: str, answer: str, outcome: str, lengths: Lengths, task: str = "") -> str | None:
    """Why one answer is not fit, or None; `task` is the prompt that it was written for."""
    count = len(answer.split())
    asked = grams(question)
    tests = {
        "refused": outcome == "refused" or bool(REFUSAL.search(answer[:OPENING])),
        "apologises": bool(APOLOGY.search(answer[:FIRST])) and not APOLOGY.search(question),
        "empty": not answer,
        "cut off": outcome == "length",
        "holds the canary": CANARY in answer or "spillover-canary" in answer,
        "holds control characters": bool(UNWANTED.search(answer)),
        "speaks of the task": bool(TASK.search(answer)),
        "copies the prompt": copied(task, question, answer),
        "too short": count < lengths.least,
        "too long": count > lengths.most or len(answer) > LONGEST,
        "another language": not same_language(question, answer),
        "repeats the question": count < 2 * len(question.split()) and len(grams(answer) & asked) > ECHO * len(asked),
        "holds the question": holds_question(question, answer),
    }
    return next((reason for reason, applies in tests.items() if applies), None)


def copied(task: str, question: str, answer: str) -> bool:
    """Whether `COPIED` words in a row are those of the prompt, the question in it aside."""
    return any(_ngrams(part) & _ngrams(answer) for part in (task.split(question) if question else [task]))


def holds_question(question: str, answer: str) -> bool:
    """Whether the answer holds the whole question, word for word."""
    question_words, answer_words = words(question), words(answer)
    return len(question_words) >= WHOLE and f" {' '.join(question_words)} " in f" {' '.join(answer_words)} "


def _ngrams(text: str) -> set[tuple[str, ...]]:
    tokens = words(text)
    return {tuple(tokens[start : start + COPIED]) for start in range(len(tokens) - COPIED + 1)}


def reject_pair(flawed: str, good: str) -> str | None:
    """Why a flawed and a good answer, each fit, are no pair, or None."""
    if normalised(flawed) == normalised(good):
        return "flawed and good are equal"
    if jaccard(grams(flawed), grams(good)) > ALIKE:
        return "flawed and good are alike"
    counts = sorted((len(flawed.split()), len(good.split())))
    return "flawed and good differ in length" if counts[1] > LENGTHS * counts[0] else None


def reject_verdict(text: str) -> str | None:
    """Why a model's verdict keeps no row, or None where it says yes four times; the last word on each counts."""
    replies = {
        name.upper(): word.lower() for name, word in re.findall(r"(?i)\b(flaw|stealth|mild|good)\W+(yes|no)\b", text)
    }
    if set(replies) != set(VERDICT):
        return "verdict: unreadable"
    refused = [name for name in VERDICT if replies[name] == "no"]
    return f"verdict: {refused[0].lower()}: no" if refused else None


def same_language(question: str, answer: str) -> bool:
    """Whether most letters are of the question's script and no other language's small words rule an English question.

    Rule: they make up an eighth of the words, and English ones do not. Code and sums have few of either. A question
    that names a language may be answered in it.
    """
    script, letters = _script(question), Counter(map(_script_of, filter(str.isalpha, answer)))
    if script and letters[script] < letters.total() / 2:
        return False
    if _share(question, ENGLISH) < 1 / 8 or LANGUAGE.search(question):
        return True
    return _share(answer, FOREIGN) < 1 / 8 or _share(answer, ENGLISH) >= 1 / 8


def _share(text: str, of: frozenset[str]) -> float:
    found = words(text)
    return sum(word in of for word in found) / max(len(found), 1)


def _script(text: str) -> str:
    scripts = Counter(_script_of(letter) for letter in text if letter.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""


def _script_of(letter: str) -> str:
    """The first word of its Unicode name: LATIN, CYRILLIC, CJK, ..."""
    return unicodedata.name(letter, "").partition(" ")[0]
