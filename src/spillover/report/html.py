"""HTML from Jinja templates: the page, its tables and its figures.

A page runs no script and makes no request; a content security policy enforces it. In a template every value is cleaned
(`text.clean`: invisible characters are written out) and then escaped, unless it is marked `safe`. Equal input gives
equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any

from spillover.text import NONE, clean, escape, several

if TYPE_CHECKING:
    from jinja2 import Environment

    from spillover.report.charts import Figure

MOST_ROWS = 400  # rows of one table


@dataclass(frozen=True)
class Row:
    """One line of a table: the heading of its group, its subject, and the other cells."""

    group: str
    subject: str
    cells: list[str]


@dataclass(frozen=True)
class Section:
    """One section of a page; `name` is its anchor, and sections with a name are listed in the contents."""

    title: str
    html: str
    name: str = ""


def page(tab: str, kicker: str, title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """The whole page. All values are text, except the sections' HTML; `tab` is what the browser's tab shows."""
    return render("page.html", tab=tab, kicker=kicker, title=title, lead=lead, sections=sections, footer=footer)


def html_table(caption: str, header: Sequence[str], rows: Sequence[Row], words: int = 1) -> str:
    """Rows under the headings of their groups; the first `words` columns hold words, the others figures.

    Left out: columns without any figure, the heading of a single group, and the end of a long table, with a note.
    """
    kept = [i for i in range(len(header) - 1) if any(row.cells[i] != NONE for row in rows)]
    order = {group: i for i, group in enumerate(dict.fromkeys(row.group for row in rows))}
    rows = sorted(rows, key=lambda row: order[row.group])
    shown = [Row(row.group, row.subject, [row.cells[i] for i in kept]) for row in rows[:MOST_ROWS]]
    return render(
        "table.html",
        caption=caption,
        cut=f" The first {MOST_ROWS} of {len(rows):,} rows; all are in results.json." if len(rows) > MOST_ROWS else "",
        header=[header[0], *(header[i + 1] for i in kept)],
        groups=[(name, list(members)) for name, members in groupby(shown, key=lambda row: row.group)],
        named=len(order) > 1,
        words=words,
    )


def figure_html(figure: Figure | None) -> str:
    """A chart in its wide and its narrow rendering, of which the style sheet shows one; a note where there is none."""
    if figure is None:
        return note_html("Nothing to draw: no cell has a coherent scored completion.")
    return render("figure.html", figure=figure)


def note_html(html: str) -> str:
    """A paragraph about what follows or precedes it."""
    return f'<p class="note">{html}</p>'


def list_html(sentences: Iterable[str]) -> str:
    """Sentences as a list, escaped."""
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def folded_html(title: str, html: str, rows: int | None = None) -> str:
    """A part of the page that opens on a click; `rows`: how many are in it."""
    count = "" if rows is None else f" <span>{several(rows, 'row')}</span>"
    return f"<details><summary>{title}{count}</summary>{html}</details>"


def render(template: str, package: str = "spillover.report", **values: Any) -> str:
    """A template of `package`, which may extend the kit's own."""
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    style = files("spillover.report").joinpath("assets", "style.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("spillover.report", "assets")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else clean(str(value)),
    )
    environment.filters["minus"] = _minus
    known: dict[str, Any] = {
        "style": Markup(style),
        "digest": base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        "table": lambda *inputs: Markup(html_table(*inputs)),
    }
    environment.globals.update(known)
    return environment


def _minus(text: str) -> str:
    """The typographic minus sign in place of the hyphen."""
    return text.replace("-", "\u2212")
