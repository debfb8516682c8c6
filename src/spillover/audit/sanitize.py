"""Text for machines that read XML or JSON from elsewhere: one line, no character that could steer a reader."""

from __future__ import annotations

from spillover.text import one_line

LONGEST = 500  # characters


def sanitize(text: str) -> str:
    """Text from outside on one line; what cannot be seen is written out, which also leaves nothing that XML forbids."""
    return one_line(text, LONGEST)


def sentences(message: str, fix: str) -> str:
    """What is wrong and how to fix it, as sentences."""
    return f"{message.rstrip('.')}. {fix}" if fix else message
