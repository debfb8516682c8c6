"""Words and numbers as people read them: hostile text made visible and harmless, figures with their intervals.

Control characters, bidirectional overrides and other invisible code points are written out as ⟨U+202E⟩, so that an
answer can neither hide text nor reorder the page or the terminal around it.
"""

from __future__ import annotations

import html
from collections.abc import Collection

JOINERS = "\u200c\u200d"  # harmless, and needed by several scripts and by emoji
NONE = "–"


def clean(text: str, limit: int | None = None) -> str:
    """The text with every unprintable character but newline and tab written out, cut after `limit` characters.

    The cut is made on the cleaned text, so `limit` bounds what is shown.
    """
    room = len(text) if limit is None else limit
    taken = text[:room].replace("\r\n", "\n")
    shown = taken if taken.isprintable() else "".join(map(_visible, taken))
    if limit is not None and (len(text) > room or len(shown) > room):
        return f"{shown[:room]} […cut, {len(text):,} characters in all]"
    return shown


def _visible(char: str) -> str:
    if char.isprintable() or char in "\n\t" or char in JOINERS:
        return char
    return " " if char.isspace() and ord(char) >= 0xA0 and char not in "\u2028\u2029" else f"⟨U+{ord(char):04X}⟩"


def one_line(text: str, limit: int) -> str:
    """Cleaned text without line breaks or runs of white space: a name, whatever was put in for one."""
    return " ".join(clean(text, limit).split())


def escape(text: str, limit: int | None = None) -> str:
    """Cleaned text, ready to stand between tags or inside a quoted attribute."""
    return html.escape(clean(text, limit), quote=True)


def number(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """A figure with a fixed count of decimals; never "-0.0"."""
    if value is None:
        return NONE
    rounded = round(value, digits) + 0.0
    return f"{rounded:+,.{digits}f}" if sign and rounded else f"{rounded:,.{digits}f}"


def percent(share: float | None, *, sign: bool = False) -> str:
    """A share from 0 to 1 in percent, without the percent sign."""
    return number(None if share is None else 100 * share, sign=sign)


def part(count: int, whole: int) -> str:
    """A count and its share: "185 (8.6 %)"; a small share is never called 0."""
    share = count / whole
    return f"{count:,} ({'< 0.1' if 0 < share < 0.001 else percent(share)} %)"


def interval(
    value: float | None, low: float | None, high: float | None, scale: float = 1, *, sign: bool = False, digits: int = 1
) -> str:
    """A figure and its interval: "34.2 [20.1, 51.0]"."""
    if value is None:
        return NONE
    ends = [NONE if end is None else number(scale * end, digits, sign=sign) for end in (low, high)]
    return f"{number(scale * value, digits, sign=sign)} [{ends[0]}, {ends[1]}]"


def p_value(p: float | None) -> str:
    """Two significant digits, with a floor at 0.001."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def several(count: int, noun: str) -> str:
    """A count with its noun: "1 answer", "2,400 answers"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def count_range(counts: Collection[int]) -> str:
    """The smallest and the largest count, or the one that there is."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def listing(names: list[str], most: int = 6) -> str:
    """Names in a sentence: "a, b and c"; the tail of a long list is counted."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def duration(seconds: float) -> str:
    """Seconds in the two largest units: "2 h 14 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
