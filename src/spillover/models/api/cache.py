"""Replies of paid endpoints on disk, in SQLite, so that no process pays twice for the same reply, now or later.

The key of a reply is the hash of everything that can change it: endpoint, model, revision, messages, parameters, and an
index for the n-th reply to the same request. A reply is committed before it is used; a killed process loses none
(write-ahead log, one transaction a reply; a power cut may lose the last seconds). Failed calls are never kept. Keys and
passwords are never stored. Several processes may read and write at once; `turn` lets one at a time call an endpoint, so
that a cost limit holds for all together and no two pay for the same reply. The file must be on a local disk.

The same file records which requests are in which batch, before anything is waited for. A batch is `submitting` from
before the call that creates it until its id is known. A process that dies in between leaves a batch without an id; the
name in the batch's metadata identifies it at the endpoint.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from spillover.errors import MachineError
from spillover.models.api.chat import FirstToken, Reply
from spillover.records.base import Message, Usage, content_hash
from spillover.store.files import lock

_KEYS_AT_ONCE = 500  # in one SELECT
_LONGEST = 20_000  # characters kept of a reply
_LOG_PAGES = 10_000  # of 4 KiB, before the log is copied into the file and both are flushed to the disk
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, account TEXT, dollars REAL, reply TEXT);
CREATE INDEX IF NOT EXISTS paid ON answers (account, dollars) WHERE dollars > 0;
CREATE TABLE IF NOT EXISTS abilities (account TEXT PRIMARY KEY, ability TEXT);
CREATE TABLE IF NOT EXISTS batches (
  name TEXT PRIMARY KEY, account TEXT, id TEXT, state TEXT, tokens INTEGER, dollars REAL);
CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, batch TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_batch ON requests (batch);
"""


def reply_key(account: str, messages: Iterable[Message], parameters: dict[str, Any], index: int) -> str:
    """The key of one reply; `account` stands for endpoint, model and revision."""
    return content_hash([account, [[m.role, m.content] for m in messages], parameters, index], 32)


@dataclass(frozen=True)
class Batch:
    """`id` is the endpoint's, empty while unknown; `tokens` and `dollars` are the worst case of its requests."""

    name: str
    id: str
    tokens: int
    dollars: float


class ChatCache:
    """One file of replies; the connection is opened on first use, a separate one in each process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, sqlite3.Connection] | None = None

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies that are present."""
        found: dict[str, Reply] = {}
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[start : start + _KEYS_AT_ONCE]
            query = f"SELECT key, reply FROM answers WHERE key IN ({','.join('?' * len(part))})"
            for key, text in self.execute(query, part):
                found[key] = _reply(key, text)
        return found

    def put(self, account: str, reply: Reply) -> None:
        """Keep one reply under its id; a failed call is not kept."""
        if reply.outcome != "error":
            row = (reply.id, account, reply.usage.dollars, _text(reply))
            self.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", row)

    def spent(self, account: str) -> float:
        """US dollars of all replies of one account."""
        query = "SELECT COALESCE(SUM(dollars), 0.0) FROM answers WHERE account = ? AND dollars > 0"
        return float(self.execute(query, (account,))[0][0])

    def ability(self, account: str) -> str | None:
        """What is known about the log-probabilities of an endpoint and model."""
        rows = self.execute("SELECT ability FROM abilities WHERE account = ?", (account,))
        return rows[0][0] if rows else None

    def set_ability(self, account: str, ability: str) -> None:
        self.execute("INSERT OR REPLACE INTO abilities VALUES (?, ?)", (account, ability))

    def batches(self, account: str) -> list[Batch]:
        """Every batch in progress, oldest first."""
        query = "SELECT name, id, tokens, dollars FROM batches WHERE account = ? ORDER BY rowid"
        return [Batch(*row) for row in self.execute(query, (account,))]

    def batch_keys(self, name: str) -> list[str]:
        """The keys of the requests in one batch."""
        return [key for (key,) in self.execute("SELECT key FROM requests WHERE batch = ?", (name,))]

    def keys_in_batches(self, account: str) -> set[str]:
        """The keys of the requests in all batches in progress."""
        query = "SELECT key FROM requests WHERE batch IN (SELECT name FROM batches WHERE account = ?)"
        return {key for (key,) in self.execute(query, (account,))}

    def open_batch(self, account: str, batch: Batch, keys: Sequence[str]) -> None:
        """Record a batch that is about to be created."""
        row = (batch.name, account, batch.id, "submitting", batch.tokens, batch.dollars)
        with self.transaction():
            self.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", row)
            for key in keys:
                self.execute("INSERT OR REPLACE INTO requests VALUES (?, ?)", (key, batch.name))

    def set_batch_id(self, name: str, id: str) -> None:
        """Record that the endpoint has the batch, under this id."""
        self.execute("UPDATE batches SET id = ?, state = 'created' WHERE name = ?", (id, name))

    def close_batch(self, name: str) -> None:
        """Delete a batch from which nothing more will come."""
        with self.transaction():
            self.execute("DELETE FROM requests WHERE batch = ?", (name,))
            self.execute("DELETE FROM batches WHERE name = ?", (name,))

    @contextmanager
    def turn(self) -> Generator[None]:
        """Hold the exclusive right, among all processes, to call endpoints for this cache."""
        with lock(self.path.with_name(f"{self.path.name}.lock")):
            yield

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """One statement, in a transaction by itself unless one is open."""
        with self._explained():
            return self._connection().execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All statements inside take effect, or none."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        if self._open is None or self._open[0] != os.getpid():
            self._open = os.getpid(), self._connect()
        return self._open[1]

    def _connect(self) -> sqlite3.Connection:
        with lock(self.path.with_name(f"{self.path.name}.new")):  # two set-ups at once would collide
            connection = sqlite3.connect(self.path, timeout=60.0, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            connection.executescript(_TABLES)
            return connection

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise MachineError(
                f"{self.path}: the cache of replies cannot be used ({error}). Free disk space, move the file away, or "
                "choose another file with the judge's option cache."
            ) from None


def _text(reply: Reply) -> str:
    first = reply.first and [reply.first.token, reply.first.logprob, reply.first.top]
    usage = [reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.dollars]
    return to_json([reply.text[:_LONGEST], reply.outcome, reply.error[:500], usage, first]).decode()


def _reply(key: str, text: str) -> Reply:
    reply, outcome, error, (prompt, completion, dollars), first = from_json(text)
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, dollars=dollars)
    token = first and FirstToken(first[0], first[1], tuple((name, value) for name, value in first[2]))
    return Reply(key, reply, outcome, usage, error, token)
