"""Names to objects: tables of "module:object" strings, imported on first use, with did-you-mean.

Other packages add names through entry points in the group "spillover.<kind>", such as "spillover.judges".
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from typing import Any

from spillover.errors import UserError


class Registry:
    """One kind of thing that can be named in a study file."""

    def __init__(self, kind: str, table: dict[str, str]) -> None:
        self.kind = kind
        self.table = table

    def names(self) -> list[str]:
        """Shipped names in table order, then those of plugins."""
        plugins = [point.name for point in entry_points(group=f"spillover.{self.kind}s")]
        return [*self.table, *(name for name in plugins if name not in self.table)]

    def place(self, name: str) -> str:
        """Where the object called `name` is: "module:object".

        Raises:
            UserError: when there is no such name.
        """
        if name in self.table:  # without a look at the installed packages, which takes up to 50 ms
            return self.table[name]
        plugins = {point.name: point.value for point in entry_points(group=f"spillover.{self.kind}s")}
        if (found := plugins.get(name)) is None:
            raise UserError(f"Unknown {self.kind} {name!r}{did_you_mean(name, self.names())}")
        return found

    def load(self, name: str) -> Any:
        """Import the object called `name`; a name that there is not is refused as by `place`."""
        return resolve(self.place(name))


def resolve(reference: str) -> Any:
    """The object that "package.module:name" refers to."""
    module, _, name = reference.partition(":")
    return attrgetter(name)(import_module(module))


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint for an unknown name: its nearest neighbour, or the whole list."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f". Did you mean {near[0]!r}?" if near else f". Known: {', '.join(known)}"
