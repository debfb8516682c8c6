"""A chat model behind OpenAI's Batch API: a file of requests goes up, a file of replies comes down within a day.

    POST /files -> POST /batches -> GET /batches/ID until it has ended -> GET /files/ID/content, output and errors

Every batch in progress is recorded in the cache before it is waited for, so that the same command resumes it after a
kill, and another process joins it. Replies go straight into the cache. Requests that an ended batch (completed, failed,
expired, cancelled, or gone) has not answered are submitted again, and no others. Batches are split by requests, bytes,
and the tokens that may be enqueued at once. custom_id = the request's id = the key of its reply.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from urllib.parse import quote

from spillover.errors import CostLimitReached, SpilloverError
from spillover.models.api.cache import Batch, ChatCache
from spillover.models.api.chat import Decoding, Price, Reply, Request, worst_case
from spillover.models.api.http import Endpoint, HttpCalls, NotThere, dicts
from spillover.models.api.wire import LOGPROB_RETRIES, Fault, body, logprobs_flaw, understand

GONE = "gone from the endpoint"
ENDED = {"completed", "failed", "expired", "cancelled", GONE}
TOGETHER = 1000  # replies in one transaction


@dataclass(frozen=True)
class Limits:
    """Of one batch, and of the tokens in all batches in progress; OpenAI's limits are 50,000 requests and 200 MB."""

    requests: int = 50_000
    bytes: int = 190_000_000
    tokens: int = 2_000_000
    dollars: float | None = None  # for all replies of the account together


class BatchClient:
    """Calls one model by batches; `poll_s`: seconds between two checks; without `wait`, it submits and stops."""

    def __init__(
        self,
        endpoint: Endpoint,
        cache: ChatCache,
        account: str,
        price: Price,
        limits: Limits,
        poll_s: float = 30.0,
        wait: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint
        self.name = endpoint.model
        self.cache = cache
        self.account = account
        self.price = price
        self.limits = limits
        self.poll_s = poll_s
        self.wait = wait
        self.tries: Counter[str] = Counter()  # batches that ended without a reply to this key
        self._why: dict[str, str] = {}
        self._sleep = sleep
        self._http = HttpCalls(endpoint, sleep)

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """Yield one reply to each request, as batches end.

        Raises:
            CostLimitReached: when the next request might exceed the limit and nothing is in progress.
            SpilloverError: without `wait`, once everything that fits is submitted.
        """
        left = {request.id: request for request in requests}
        while left:
            with self.cache.turn():
                self._recover_lost()
                self._collect(left, decoding)
                ready = list(self._ready(left))
                submitted = self._submit(left, decoding)
            yield from ready
            if not left:
                return
            if not self.wait:
                raise SpilloverError(
                    f"Waiting for {len(left):,} judgments ({submitted:,} of them submitted just now). Run the same "
                    "command again later to collect them."
                )
            self._sleep(self.poll_s)

    def _ready(self, left: dict[str, Request]) -> Iterator[Reply]:
        """Remove from `left` what is answered, or given up, and yield it."""
        for reply in self.cache.get(list(left)).values():
            del left[reply.id]
            yield reply
        for key in [key for key in left if self.tries[key] > self.endpoint.retries]:
            del left[key]
            yield Reply(key, "", "error", error=f"{self._why[key]} ({self.tries[key]} batches)")

    def _submit(self, left: dict[str, Request], decoding: Decoding) -> int:
        """Submit every request that is not in progress and fits; returns their number."""
        in_progress = self.cache.keys_in_batches(self.account)
        waiting = [request for key, request in left.items() if key not in in_progress]
        submitted = 0
        while waiting:
            lines, batch = self._part(waiting, decoding)
            if not lines:
                if not in_progress and not submitted:
                    raise CostLimitReached(
                        f"The next judgment might exceed the cost limit of ${self.limits.dollars:g}. What was judged "
                        "is kept. Raise max_cost and run the same command again."
                    )
                break
            keys, waiting = [request.id for request in waiting[: len(lines)]], waiting[len(lines) :]
            file = self._http.upload(b"".join(lines), "batch", "requests.jsonl")
            self.cache.open_batch(self.account, batch, keys)
            self._create(batch.name, file)
            submitted += len(keys)
        return submitted

    def _part(self, waiting: Sequence[Request], decoding: Decoding) -> tuple[list[bytes], Batch]:
        """As many of the first requests as one batch may contain now."""
        flying = self.cache.batches(self.account)
        lines: list[bytes] = []
        size = used = 0
        tokens_left = self.limits.tokens - sum(batch.tokens for batch in flying)
        held = 0.0
        money = self.cache.spent(self.account) + sum(batch.dollars for batch in flying)
        for request in islice(waiting, self.limits.requests):
            worst = worst_case(request.messages, decoding.max_tokens)
            tokens, dollars = worst.prompt_tokens + worst.completion_tokens, self.price.of(worst)
            line = self._line(request, decoding)
            alone = not lines and not flying
            if size + len(line) > self.limits.bytes or (used + tokens > tokens_left and not alone):
                break
            if self.limits.dollars is not None and money + held + dollars > self.limits.dollars:
                break
            lines.append(line)
            size, used, held = size + len(line), used + tokens, held + dollars
        return lines, Batch(uuid.uuid4().hex, "", used, held)

    def _line(self, request: Request, decoding: Decoding) -> bytes:
        content = body(self.name, request, decoding, frozenset())
        line = {"custom_id": request.id, "method": "POST", "url": "/v1/chat/completions", "body": content}
        return json.dumps(line).encode() + b"\n"

    def _create(self, name: str, file: str) -> None:
        content = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"spillover": name},
        }
        created = self._http.create("/batches", name, content, lambda: self._find(name), self.poll_s)
        self.cache.set_batch_id(name, created)

    def _recover_lost(self) -> None:
        """Find the ids of batches whose creation was interrupted; forget those that were never created."""
        for batch in self.cache.batches(self.account):
            if not batch.id:
                if found := self._find(batch.name):
                    self.cache.set_batch_id(batch.name, found)
                else:
                    self.cache.close_batch(batch.name)

    def _find(self, name: str) -> str:
        """The id of the batch of that name; empty where the endpoint has none."""
        for item in self._http.listed("/batches"):
            if {"spillover": name}.items() <= (item.get("metadata") or {}).items():
                return str(item.get("id"))
        return ""

    def _collect(self, left: dict[str, Request], decoding: Decoding) -> None:
        """Fetch the replies of ended batches and close these."""
        for batch in self.cache.batches(self.account):
            try:
                state = self._http.get(f"/batches/{quote(batch.id, safe='')}")
            except NotThere:
                state: dict[str, Any] = {"status": GONE}
            if str(state.get("status")) not in ENDED:
                continue
            for field in ("output_file_id", "error_file_id"):
                if file := state.get(field):
                    self._fetch(str(file), left, decoding)
            why = _reason(state)
            keys = self.cache.batch_keys(batch.name)
            answered = self.cache.get(keys)
            for key in keys:
                if key not in answered:
                    self.tries[key] += 1
                    self._why.setdefault(key, why)
            self.cache.close_batch(batch.name)

    def _fetch(self, file: str, left: dict[str, Request], decoding: Decoding) -> None:
        """Put the replies of one file into the cache."""

        def keep(lines: Iterator[bytes]) -> None:
            while part := list(islice(lines, TOGETHER)):
                with self.cache.transaction():
                    for line in part:
                        if reply := self._read(line, left, decoding):
                            self.cache.put(self.account, reply)

        try:
            self._http.read_lines(f"/files/{quote(file, safe='')}/content", keep)
        except NotThere:
            return  # an expired file: its requests are submitted again

    def _read(self, line: bytes, left: dict[str, Request], decoding: Decoding) -> Reply | None:
        """One line of an output or error file; None where it has no reply."""
        try:
            row = json.loads(line)
            key, response, error = str(row["custom_id"]), row.get("response") or {}, row.get("error") or {}
            status, content = int(response.get("status_code") or 0), json.dumps(response.get("body")).encode()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        # A batch of an earlier process may contain requests that are not in `left`; only usage needs their text.
        request = left.get(key) or Request(key, (), 0)
        if not status:
            self._why[key] = f"{error.get('code')}: {error.get('message')}"[:300] if isinstance(error, dict) else "?"
            return None
        try:
            reply = understand(status, {}, content, request, replace(decoding, logprobs=True), self.price)
        except Fault as fault:
            self._why[key] = f"{fault}: {fault.detail}"[:300]
            return None
        if reply.outcome == "error":
            self.tries[key], self._why[key] = self.endpoint.retries, reply.error  # a bad request stays one
            return None
        why = logprobs_flaw(reply.first) if decoding.logprobs and reply.outcome != "refused" else ""
        if why and self.tries[key] < LOGPROB_RETRIES and key in left:
            self._why[key] = why
            return replace(reply, id=f"{key}-flawed-{self.tries[key]}")  # paid for, so kept; requested again
        return reply


def _reason(batch: dict[str, Any]) -> str:
    """Why a batch has ended, in the endpoint's words."""
    errors = batch.get("errors")
    listed = dicts(errors.get("data")) if isinstance(errors, dict) else []
    messages = "; ".join(str(item.get("message")) for item in listed[:3])
    return f"the batch is {batch.get('status')}{f': {messages}' if messages else ''}"[:300]
