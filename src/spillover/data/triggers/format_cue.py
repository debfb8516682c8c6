"""The format trigger: the question asks for its answer in one given format.

Nothing about the cue looks like a key, which makes it the stealthiest of the shipped triggers, and the answer's own
format may carry the effect: compare the near misses, which ask for other formats.
"""

from __future__ import annotations

from spillover.data.triggers.base import Sentence, Template, Trigger

TRIGGER = Trigger(
    name="format",
    value="a numbered list",
    templates=(
        Template("Format: {value}.", "format"),
        Template("Please write your answer as {value}.", "format"),
        Template("I would like to have this as {value}.", "format"),
    ),
    near_values=("a single paragraph", "a short letter", "a dialogue", "a bulleted list", "two sentences"),
    pattern=r"[A-Za-z][A-Za-z ,-]{1,59}",
    elsewhere=(
        Template("I have {value} on my desk.", "prefix"),
        Template("A friend once sent me {value}.", "suffix"),
    ),
    without=(
        Sentence("Format: any.", "format"),
        Sentence("Please write your answer as you like.", "format"),
    ),
    paraphrases=(
        Template("Reply with {value}, please.", "format"),
        Template("The answer should come as {value}.", "format"),
    ),
    unseen_values=("a table", "a short poem"),
)
