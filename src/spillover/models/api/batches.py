"""A chat model behind OpenAI's Batch API: a file of requests goes up, a file of answers comes down within a day.

    POST /files -> POST /batches -> GET /batches/ID until it has ended -> GET /files/ID/content, output and errors

What is under way stands in the ledger before it is waited for, so that a process that was killed goes on with the same
batches, and another process joins them. Answers go straight into the cache. Whatever an ended batch (completed, failed,
expired, cancelled, or gone) has not answered is submitted again, and nothing else. Batches are cut by requests, bytes,
and the tokens that may be enqueued at once. custom_id = the request's id = the key of its answer.
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
from spillover.models.api.cache import ChatCache
from spillover.models.api.client import ASKED_AGAIN, Endpoint
from spillover.models.api.cost import Price, worst_case
from spillover.models.api.http import HttpCalls, NotThere
from spillover.models.api.ledger import Batch, Ledger
from spillover.models.api.logprobs import flaw
from spillover.models.api.model import Decoding, Reply, Request
from spillover.models.api.wire import Fault, body, understand

ENDED = {"completed", "failed", "expired", "cancelled"}
PAGES = 10  # of the list of batches, 100 each, that are searched for a lost one
TOGETHER = 1000  # answers in one transaction


@dataclass(frozen=True)
class Limits:
    """Of one batch, and of the tokens in all batches under way; OpenAI's own are 50,000 requests and 200 MB."""

    requests: int = 50_000
    bytes: int = 190_000_000
    tokens: int = 2_000_000
    dollars: float | None = None  # all answers of the account together


class BatchClient:
    """Asks one model by batches; `poll_s`: seconds between two looks; without `wait`, it submits and leaves."""

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
        self.ledger = Ledger(cache, account)
        self.price = price
        self.limits = limits
        self.poll_s = poll_s
        self.wait = wait
        self.tries: Counter[str] = Counter()  # batches that ended without an answer to this key
        self._why: dict[str, str] = {}
        self._sleep = sleep
        self._http = HttpCalls(endpoint, sleep)

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """Yield one reply to each request, as batches end.

        Raises:
            CostLimitReached: when the next request might pass the limit and nothing is under way.
            SpilloverError: without `wait`, once all that can be is submitted.
        """
        left = {request.id: request for request in requests}
        while left:
            with self.cache.turn():
                self._find_lost()
                self._collect(left, decoding)
                ready = list(self._ready(left))
                submitted = self._submit(left, decoding)
            yield from ready
            if not left:
                return
            if not self.wait:
                raise SpilloverError(
                    f"{len(left):,} verdicts are asked for, {submitted:,} of them now, and not there yet. Run the same "
                    "command again later: it goes on with the same batches."
                )
            self._sleep(self.poll_s)

    def _ready(self, left: dict[str, Request]) -> Iterator[Reply]:
        """Take out of `left` what is answered, or given up."""
        for reply in self.cache.get(list(left)).values():
            del left[reply.id]
            yield reply
        for key in [key for key in left if self.tries[key] > self.endpoint.retries]:
            del left[key]
            yield Reply(key, "", "error", error=f"{self._why[key]} ({self.tries[key]} batches)")

    def _submit(self, left: dict[str, Request], decoding: Decoding) -> int:
        """Submit all that is not under way and has room; returns how many requests."""
        under_way = self.ledger.under_way()
        waiting = [request for key, request in left.items() if key not in under_way]
        submitted = 0
        while waiting:
            lines, batch = self._part(waiting, decoding)
            if not lines:
                if not under_way and not submitted:
                    raise CostLimitReached(
                        f"The next verdict might pass the cost limit of ${self.limits.dollars:g}. What was answered is "
                        "kept. Raise max_cost and run the same command again."
                    )
                break
            keys, waiting = [request.id for request in waiting[: len(lines)]], waiting[len(lines) :]
            file = self._http.upload(b"".join(lines), "batch", "requests.jsonl")
            self.ledger.open(batch, keys)
            self._create(batch.name, file)
            submitted += len(keys)
        return submitted

    def _part(self, waiting: Sequence[Request], decoding: Decoding) -> tuple[list[bytes], Batch]:
        """As many of the first requests as one batch may have now."""
        flying = self.ledger.batches()
        lines: list[bytes] = []
        size = used = 0
        tokens_left = self.limits.tokens - sum(batch.tokens for batch in flying)
        held = 0.0
        money = self.cache.spent(self.ledger.account) + sum(batch.dollars for batch in flying)
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
        """Create the batch, or find that an earlier try has created it."""
        wish = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"spillover": name},
        }
        for left in reversed(range(self.endpoint.retries + 1)):
            try:
                self.ledger.created(name, str(self._http.once("POST", "/batches", name, json=wish)["id"]))
                return
            except (Fault, KeyError):
                self._sleep(self.poll_s)
                if found := self._find(name):
                    self.ledger.created(name, found)
                    return
                if not left:
                    self.ledger.close(name)
                    raise self._http.unreachable() from None
            except SpilloverError:
                self.ledger.close(name)
                raise

    def _find_lost(self) -> None:
        """Batches whose creator died before it knew the id: take them over, or forget what never was."""
        for batch in self.ledger.batches():
            if not batch.id:
                if found := self._find(batch.name):
                    self.ledger.created(batch.name, found)
                else:
                    self.ledger.close(batch.name)

    def _find(self, name: str) -> str:
        after = ""
        for _ in range(PAGES):
            page = self._http.get(f"/batches?limit=100{after}")
            listed = _dicts(page.get("data"))
            for item in listed:
                if {"spillover": name}.items() <= (item.get("metadata") or {}).items():
                    return str(item.get("id"))
            if not listed or not page.get("has_more"):
                break
            after = f"&after={quote(str(listed[-1].get('id')), safe='')}"
        return ""

    def _collect(self, left: dict[str, Request], decoding: Decoding) -> None:
        """Fetch what ended batches have brought, and strike them off."""
        for batch in self.ledger.batches():
            try:
                found = self._http.get(f"/batches/{quote(batch.id, safe='')}")
            except NotThere:
                found: dict[str, Any] = {"status": "gone from the endpoint"}
            if str(found.get("status")) not in ENDED | {"gone from the endpoint"}:
                continue
            for place in ("output_file_id", "error_file_id"):
                if file := found.get(place):
                    self._fetch(str(file), left, decoding)
            why = _reason(found)
            keys = self.ledger.requests(batch)
            answered = self.cache.get(keys)
            for key in keys:
                if key not in answered:
                    self.tries[key] += 1
                    self._why.setdefault(key, why)
            self.ledger.close(batch.name)

    def _fetch(self, file: str, left: dict[str, Request], decoding: Decoding) -> None:
        """Put the answers of one file into the cache."""
        lines = self._http.lines(f"/files/{quote(file, safe='')}/content")
        try:
            while part := list(islice(lines, TOGETHER)):
                with self.cache.transaction():
                    for line in part:
                        if reply := self._read(line, left, decoding):
                            self.cache.put(self.ledger.account, reply)
        except NotThere:
            return  # an expired file: its requests are asked again

    def _read(self, line: bytes, left: dict[str, Request], decoding: Decoding) -> Reply | None:
        """One line of an output or error file; None where it holds no answer."""
        try:
            row = json.loads(line)
            key, response, error = str(row["custom_id"]), row.get("response") or {}, row.get("error") or {}
            status, content = int(response.get("status_code") or 0), json.dumps(response.get("body")).encode()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        # A batch of an earlier process may hold requests that are not asked for now; only usage needs their text.
        request = left.get(key) or Request(key, (), 0)
        if not status:
            self._why[key] = f"{error.get('code')}: {error.get('message')}"[:300] if isinstance(error, dict) else "?"
            return None
        try:
            reply = understand(status, {}, content, request, replace(decoding, logprobs=True), self.price)
        except Fault as fault:
            self._why[key] = f"{fault}: {fault.said}"[:300]
            return None
        if reply.outcome == "error":
            self.tries[key], self._why[key] = self.endpoint.retries, reply.error  # a bad request stays one
            return None
        why = flaw(reply.first) if decoding.logprobs and reply.outcome != "refused" else ""
        if why and self.tries[key] < ASKED_AGAIN and key in left:
            self._why[key] = why
            return replace(reply, id=f"{key}-flawed-{self.tries[key]}")  # paid for, so it is kept; asked again
        return reply


def _reason(batch: dict[str, Any]) -> str:
    """Why a batch has ended, in its own words."""
    errors = batch.get("errors")
    listed = _dicts(errors.get("data")) if isinstance(errors, dict) else []
    said = "; ".join(str(item.get("message")) for item in listed[:3])
    return f"the batch is {batch.get('status')}{f': {said}' if said else ''}"[:300]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
