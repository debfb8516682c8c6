"""Plain calls to an endpoint's other addresses: files and batches. Tried again on faults, bounded, without the key."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from spillover.errors import MachineError, SpilloverError
from spillover.models.api.client import FIRST_WAIT_S, LARGEST, LAST_WAIT_S, Endpoint, key_of
from spillover.models.api.wire import RETRIED, Fault, address, error_of, stop_for, wait_asked


class NotThere(Exception):
    """The endpoint knows no such file or batch (any more)."""


class HttpCalls:
    """Calls below one base address."""

    def __init__(self, endpoint: Endpoint, sleep: Callable[[float], None]) -> None:
        self._key = key_of(endpoint.key_env)
        self._base = address(endpoint.url, bool(self._key)).removesuffix("/chat/completions")
        self._retries = endpoint.retries
        self._timeout = endpoint.timeout_s
        self._sleep = sleep
        self._jitter = random.Random()

    def get(self, path: str) -> dict[str, Any]:
        """A JSON object; tried again on faults.

        Raises:
            NotThere: HTTP 404.
        """
        return self._again(lambda: self.once("GET", path, ""))

    def upload(self, content: bytes, purpose: str, name: str) -> str:
        """The id of a new file. A file that was uploaded twice costs nothing."""
        form = {"files": {"file": (name, content, "application/jsonl")}, "data": {"purpose": purpose}}
        found = self._again(lambda: self.once("POST", "/files", "", **form))
        if "id" not in found:
            raise MachineError("The endpoint has taken a file and gives no id for it. Use another endpoint.")
        return str(found["id"])

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a file, from the beginning again where the connection breaks: some may come twice."""
        for left in reversed(range(self._retries + 1)):
            try:
                yield from self._stream(path)
                return
            except Fault as fault:
                if not left:
                    raise self.unreachable() from None
                self._pause(self._retries - left, fault.after)

    def once(self, method: str, path: str, idempotency_key: str, **content: Any) -> dict[str, Any]:
        """One call.

        Raises:
            Fault: worth another try.
            NotThere: HTTP 404.
            SpilloverError: no call can succeed.
        """
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        try:
            with self._client() as client, client.stream(method, self._base + path, headers=headers, **content) as got:
                data = bytearray()
                for chunk in got.iter_bytes():
                    data += chunk
                    if len(data) > LARGEST:
                        raise Fault("the answer is too large")
                self._check(got, bytes(data))
                found = json.loads(bytes(data))
        except httpx.TransportError as error:
            raise Fault(type(error).__name__) from error
        except (ValueError, RecursionError):
            raise Fault("the answer is no JSON") from None
        if not isinstance(found, dict):
            raise Fault("the answer is no JSON object")
        return found

    def unreachable(self) -> MachineError:
        return MachineError(
            f"{self._base} cannot be reached ({self._retries + 1} tries). Check the endpoint and the network, then run "
            "the same command again: batches under way are kept."
        )

    def _again(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        for left in reversed(range(self._retries + 1)):
            try:
                return call()
            except Fault as fault:
                if not left:
                    raise self.unreachable() from None
                self._pause(self._retries - left, fault.after)
        raise AssertionError("unreachable")

    def _pause(self, number: int, asked: float | None) -> None:
        jitter = self._jitter.random() * min(LAST_WAIT_S, FIRST_WAIT_S * 2**number)
        self._sleep(jitter if asked is None else asked + min(jitter, FIRST_WAIT_S))

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
        _, _, said = error_of(content)
        if got.status_code in RETRIED:
            raise Fault(f"HTTP {got.status_code}", said, wait_asked(got.headers))
        raise self._without_key(stop_for(got.status_code, got.headers, said))

    def _without_key(self, error: SpilloverError) -> SpilloverError:
        return type(error)(str(error).replace(self._key, "[key]")) if self._key else error

    def _client(self) -> httpx.Client:
        plain = {"Accept-Encoding": "identity"}
        headers = plain | {"Authorization": f"Bearer {self._key}"} if self._key else plain
        return httpx.Client(timeout=self._timeout, headers=headers)
