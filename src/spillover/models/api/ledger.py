"""Which requests are in which batch: written before anything is waited for, in the same file as the answers.

A batch is `submitting` from before the call that creates it until its id is known. A process that dies in between
leaves a batch without an id; it is found again at the endpoint by its name, which travels in the batch's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spillover.models.api.cache import ChatCache


@dataclass(frozen=True)
class Batch:
    """`id` is the endpoint's, empty while it is not known; `tokens` and `dollars` are its requests' worst case."""

    name: str
    id: str
    tokens: int
    dollars: float


class Ledger:
    """The batches of one account that are under way."""

    def __init__(self, cache: ChatCache, account: str) -> None:
        self.cache = cache
        self.account = account

    def batches(self) -> list[Batch]:
        """Every batch under way, oldest first."""
        query = "SELECT name, id, tokens, dollars FROM batches WHERE account = ? ORDER BY rowid"
        return [Batch(*row) for row in self.cache.execute(query, (self.account,))]

    def requests(self, batch: Batch) -> list[str]:
        """The keys of one batch."""
        return [key for (key,) in self.cache.execute("SELECT key FROM requests WHERE batch = ?", (batch.name,))]

    def under_way(self) -> set[str]:
        """The keys of all batches."""
        query = "SELECT key FROM requests WHERE batch IN (SELECT name FROM batches WHERE account = ?)"
        return {key for (key,) in self.cache.execute(query, (self.account,))}

    def open(self, batch: Batch, keys: Sequence[str]) -> None:
        """Write down a batch that is about to be created."""
        row = (batch.name, self.account, batch.id, "submitting", batch.tokens, batch.dollars)
        with self.cache.transaction():
            self.cache.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", row)
            for key in keys:
                self.cache.execute("INSERT OR REPLACE INTO requests VALUES (?, ?)", (key, batch.name))

    def created(self, name: str, id: str) -> None:
        """The endpoint has it, under this id."""
        self.cache.execute("UPDATE batches SET id = ?, state = 'created' WHERE name = ?", (id, name))

    def close(self, name: str) -> None:
        """Nothing more will come of it."""
        with self.cache.transaction():
            self.cache.execute("DELETE FROM requests WHERE batch = ?", (name,))
            self.cache.execute("DELETE FROM batches WHERE name = ?", (name,))
