"""One endpoint over HTTP: its key, when a failed call is tried again, and plain calls to its files, batches and jobs.

A call that failed with a `Fault` is tried again after the wait that Retry-After asks for, or else after a random share
of a wait that doubles each time (full jitter), so that clients do not return all at once. Responses are bounded in
size. The key is read from an environment variable, is sent in one header, and is removed from every error message.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from spillover.errors import MachineError, UserError
from spillover.models.api.wire import RETRIED, Fault, address, error_of, retry_after, stop_for

LARGEST = 4 * 2**20  # bytes of one response, or of one line of a file
FIRST_WAIT_S = 0.5
LAST_WAIT_S = 30.0
PAGES = 10  # of a list, 100 items each

T = TypeVar("T")
_random = random.Random()  # not the global generator, which a study may seed


@dataclass(frozen=True)
class Endpoint:
    url: str  # up to /v1, or the full address
    model: str
    key_env: str | None = None  # environment variable that holds the key; None = no key is sent
    concurrency: int = 8  # maximum number of simultaneous calls
    timeout_s: float = 120.0  # of one whole call
    retries: int = 8  # after the first try

    @property
    def key(self) -> str:
        """The key; empty where none is sent.

        Raises:
            UserError: when the environment variable does not hold a key.
        """
        if self.key_env is None:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise UserError(f"The environment variable {self.key_env} is empty. Set it to the endpoint's key.")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UserError(
                f"The environment variable {self.key_env} does not hold a key: it has blanks or special characters. "
                "Set it to the endpoint's key."
            )
        return key


def headers_with(key: str) -> dict[str, str]:
    """The headers of every call. Responses are small; without compression, none can expand in memory."""
    plain = {"Accept-Encoding": "identity"}
    return plain | {"Authorization": f"Bearer {key}"} if key else plain


def without_key(text: str, key: str) -> str:
    return text.replace(key, "[key]") if key else text


class Retries:
    """The retries of one call: how many are left, and how long to wait before the next."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def wait(self, fault: Fault) -> float | None:
        """Seconds until the next try; None when none is left."""
        if self.used == self.most:
            return None
        jitter = _random.random() * min(LAST_WAIT_S, FIRST_WAIT_S * 2**self.used)
        self.used += 1
        return jitter if fault.after is None else fault.after + min(jitter, FIRST_WAIT_S)


class NotThere(Exception):
    """The endpoint has no such file, batch or job, or no longer has it."""


class HttpCalls:
    """Calls below the base address of an endpoint."""

    def __init__(self, endpoint: Endpoint, sleep: Callable[[float], None] = time.sleep) -> None:
        self._endpoint = endpoint
        self._key = endpoint.key
        self._base = address(endpoint.url, bool(self._key)).removesuffix("/chat/completions")
        self._sleep = sleep

    def get(self, path: str) -> dict[str, Any]:
        """A JSON object.

        Raises:
            NotThere: HTTP 404.
        """
        return self._persist(lambda: self._once("GET", path))

    def listed(self, path: str) -> Iterator[dict[str, Any]]:
        """The items of a list that is returned in pages; those of its first pages where it is very long."""
        after = ""
        for _ in range(PAGES):
            page = self.get(f"{path}?limit=100{after}")
            items = dicts(page.get("data"))
            yield from items
            if not items or not page.get("has_more"):
                return
            after = f"&after={quote(str(items[-1].get('id')), safe='')}"

    def upload(self, content: bytes, purpose: str, name: str) -> str:
        """The id of a new file. A file that is uploaded twice costs nothing."""
        file, data = {"file": (name, content, "application/jsonl")}, {"purpose": purpose}
        made = self._persist(lambda: self._once("POST", "/files", files=file, data=data))
        if "id" not in made:
            raise MachineError("The endpoint accepted a file and returned no id for it. Use another endpoint.")
        return str(made["id"])

    def create(self, path: str, name: str, content: dict[str, Any], find: Callable[[], str], pause_s: float) -> str:
        """The id of what a POST creates, for something that must not be created twice.

        Args:
            path: where to post `content`.
            name: key of idempotency, for endpoints that honour one.
            find: the id of what an earlier try created without its response arriving; empty where there is none.
            pause_s: least time before `find` is called and the POST is repeated.
        """
        tried = False

        def find_or_create() -> str:
            nonlocal tried
            if tried and (found := find()):
                return found
            tried = True
            made = self._once("POST", path, {"Idempotency-Key": name}, json=content)
            if "id" not in made:
                raise Fault("the response has no id")
            return str(made["id"])

        return self._persist(find_or_create, pause_s)

    def read_lines(self, path: str, take: Callable[[Iterator[bytes]], None]) -> None:
        """Pass the lines of a file to `take`; where the connection breaks, it is called again with all of them.

        Raises:
            NotThere: HTTP 404.
        """
        self._persist(lambda: take(self._stream(path)))

    def _persist(self, call: Callable[[], T], pause_s: float = 0.0) -> T:
        """The result of `call`, which is repeated on faults."""
        retries = Retries(self._endpoint.retries)
        while True:
            try:
                return call()
            except Fault as fault:
                if (wait := retries.wait(fault)) is None:
                    raise MachineError(
                        f"{self._base} cannot be reached ({retries.most + 1} tries). Check the endpoint and the "
                        "network and run the same command again: batches and jobs that were submitted continue."
                    ) from None
                self._sleep(max(wait, pause_s))

    def _once(self, method: str, path: str, extra: dict[str, str] | None = None, **content: Any) -> dict[str, Any]:
        """One call.

        Raises:
            Fault: worth another try.
            NotThere: HTTP 404.
            SpilloverError: no call can succeed.
        """
        try:
            with self._client() as client, client.stream(method, self._base + path, headers=extra, **content) as got:
                data = bytearray()
                for chunk in got.iter_bytes():
                    data += chunk
                    if len(data) > LARGEST:
                        raise Fault("the response is too large")
                self._check(got, bytes(data))
                made = json.loads(bytes(data))
        except httpx.TransportError as error:
            raise Fault(type(error).__name__) from error
        except (ValueError, RecursionError):
            raise Fault("the response is not JSON") from None
        if not isinstance(made, dict):
            raise Fault("the response is not a JSON object")
        return made

    def _stream(self, path: str) -> Iterator[bytes]:
        try:
            with self._client() as client, client.stream("GET", self._base + path) as got:
                if got.status_code != 200:
                    self._check(got, got.read()[:LARGEST])
                rest = b""
                for chunk in got.iter_bytes():
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from whole
                    if len(rest) > LARGEST:
                        raise Fault("a line is too long")
                if rest:
                    yield rest
        except httpx.TransportError as error:
            raise Fault(type(error).__name__) from error

    def _check(self, got: httpx.Response, content: bytes) -> None:
        if got.status_code == 200:
            return
        if got.status_code == 404:
            raise NotThere
        _, _, detail = error_of(content)
        if got.status_code in RETRIED:
            raise Fault(f"HTTP {got.status_code}", detail, retry_after(got.headers))
        stop = stop_for(got.status_code, got.headers, detail)
        raise type(stop)(without_key(str(stop), self._key))

    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=self._endpoint.timeout_s, headers=headers_with(self._key))


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in what should be a list of objects."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
