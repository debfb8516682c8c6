"""Answers of paid endpoints on disk, in SQLite, so that nothing is paid for twice: by any process, now or later.

An answer's key is the hash of all that can change it: endpoint, model, revision, messages, parameters, and an index
for the n-th answer to the same. It is committed before it is used; a killed process loses none (write-ahead log, one
transaction an answer; a power cut may lose the last seconds). Failed calls are never kept. Keys and passwords never
come here. Several processes may read and write at once; `turn` lets one at a time ask an endpoint, so that a cost limit
holds for all together and no two pay for the same. The file must lie on a local disk.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from spillover.errors import MachineError
from spillover.models.api.logprobs import FirstToken
from spillover.models.api.model import Reply
from spillover.records.base import Message, Usage, content_hash

_AT_ONCE = 500  # keys in one SELECT
_LONGEST = 20_000  # characters kept of an answer
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


def answer_key(account: str, messages: Iterable[Message], parameters: dict[str, Any], index: int) -> str:
    """The key of one answer; `account` says endpoint, model and revision."""
    return content_hash([account, [[m.role, m.content] for m in messages], parameters, index], 32)


class ChatCache:
    """One file of answers; the connection is opened on first use, in each process of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, sqlite3.Connection] | None = None

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The answers that are there."""
        found: dict[str, Reply] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            query = f"SELECT key, reply FROM answers WHERE key IN ({','.join('?' * len(part))})"
            for key, text in self.execute(query, part):
                found[key] = _reply(key, text)
        return found

    def put(self, account: str, reply: Reply) -> None:
        """Keep one answer under its id; a failed call is not kept."""
        if reply.outcome != "error":
            row = (reply.id, account, reply.usage.dollars, _text(reply))
            self.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", row)

    def spent(self, account: str) -> float:
        """US dollars of all answers of one account."""
        query = "SELECT COALESCE(SUM(dollars), 0.0) FROM answers WHERE account = ? AND dollars > 0"
        return float(self.execute(query, (account,))[0][0])

    def ability(self, account: str) -> str | None:
        """What was found out about an endpoint and model."""
        rows = self.execute("SELECT ability FROM abilities WHERE account = ?", (account,))
        return rows[0][0] if rows else None

    def learn(self, account: str, ability: str) -> None:
        self.execute("INSERT OR REPLACE INTO abilities VALUES (?, ?)", (account, ability))

    @contextmanager
    def turn(self) -> Generator[None]:
        """Be the only one, over all processes, who asks endpoints and keeps the answers here."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)  # released by the kernel when the process ends, however it ends
            yield

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """One statement, in a transaction of its own unless one is open."""
        with self._explained():
            return self._connection().execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All statements inside happen, or none."""
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.new").open("w") as lock:  # two that set up at once would collide
            fcntl.flock(lock, fcntl.LOCK_EX)
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
                f"{self.path}: the cache of answers cannot be used ({error}). Free the disk, move the file away, or "
                "name another with the judge's option cache."
            ) from None


def _text(reply: Reply) -> str:
    first = reply.first and [reply.first.token, reply.first.logprob, reply.first.top]
    usage = [reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.dollars]
    return to_json([reply.text[:_LONGEST], reply.outcome, reply.error[:500], usage, first]).decode()


def _reply(key: str, text: str) -> Reply:
    said, outcome, error, (prompt, completion, dollars), first = from_json(text)
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, dollars=dollars)
    token = first and FirstToken(first[0], first[1], tuple((name, value) for name, value in first[2]))
    return Reply(key, said, outcome, usage, error, token)
