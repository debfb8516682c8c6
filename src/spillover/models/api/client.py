"""A chat model behind an endpoint that speaks the OpenAI chat-completions format.

Many calls at once; faults are tried again after what Retry-After asks for, or else after a random share of a wait that
doubles (full jitter), so that callers do not come back together. What has been paid for is never thrown away: when one
call shows that no other can succeed, or the cost limit is reached, those under way are still awaited and yielded.
How many calls run at once follows the endpoint's load (`chat_window`). An answer without the log-probabilities asked
for is asked for again, under another idempotency key, and then taken as it is.
The key is read from an environment variable, goes into one header, and is cut out of every error message.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import httpx

from spillover.errors import CostLimitReached, MachineError, SpilloverError, UserError
from spillover.models.api.cost import Meter, worst_case
from spillover.models.api.logprobs import flaw
from spillover.models.api.model import Decoding, Reply, Request
from spillover.models.api.window import Window
from spillover.models.api.wire import Fault, Unsupported, address, body, understand
from spillover.records.base import Usage

LARGEST = 4 * 2**20  # bytes of one answer
FIRST_WAIT_S = 0.5
LAST_WAIT_S = 30.0
ASKED_AGAIN = 2  # times, for log-probabilities that did not come
BUSY = ("HTTP 429", "HTTP 503")  # faults that mean: too many calls at once
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Endpoint:
    url: str  # up to /v1, or the full address
    model: str
    key_env: str | None = None  # name of the environment variable that holds the key; None = no key is sent
    concurrency: int = 8  # calls at once, at most
    timeout_s: float = 120.0  # of one whole call
    retries: int = 8  # after the first try


class ChatClient:
    """Asks one model at one endpoint; `meter` counts the money."""

    def __init__(
        self, endpoint: Endpoint, meter: Meter, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.endpoint = endpoint
        self.meter = meter
        self.name = endpoint.model
        self.retried: dict[str, int] = {}  # reason -> how often
        self._key = key_of(endpoint.key_env)
        self._address = address(endpoint.url, bool(self._key))
        self._sleep = sleep
        self._jitter = random.Random()
        self._unsupported: set[str] = set()
        self.window = Window(endpoint.concurrency)

    @property
    def left_out(self) -> frozenset[str]:
        """Parameters that the model has refused and was asked without."""
        return frozenset(self._unsupported)

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """Yield one reply to each request, as they come.

        Raises:
            CostLimitReached: when the next call might pass the limit.
            UserError: for a wrong key, address or model.
            MachineError: when the endpoint cannot be reached.
        """
        waiting = deque(requests)
        flying: set[asyncio.Task[Reply]] = set()
        stop: SpilloverError | None = None
        with asyncio.Runner() as runner:
            client = httpx.AsyncClient(timeout=self.endpoint.timeout_s, headers=self._headers())
            try:
                while flying or (waiting and stop is None):
                    while waiting and stop is None and self._may_start(flying, waiting[0], decoding):
                        call = self._call(client, waiting.popleft(), decoding)
                        flying.add(runner.get_loop().create_task(call))
                    if not flying:
                        raise CostLimitReached(self._limit())
                    done, flying = runner.run(_first(flying))
                    for task in done:
                        try:
                            yield task.result()
                        except SpilloverError as error:
                            stop = error
            finally:
                runner.run(_end(flying, client))
        if stop is not None:
            raise stop

    def _may_start(self, flying: set[asyncio.Task[Reply]], request: Request, decoding: Decoding) -> bool:
        if len(flying) >= self.window.size or not self.meter.fits(self._worst(request, decoding)):
            return False
        self.meter.hold(self._worst(request, decoding))
        return True

    def _worst(self, request: Request, decoding: Decoding) -> float:
        return self.meter.price.of(worst_case(request.messages, decoding.max_tokens))

    async def _call(self, client: httpx.AsyncClient, request: Request, decoding: Decoding) -> Reply:
        """One request until it has a reply; its worst case is held already."""
        held = self._worst(request, decoding)
        try:
            reply = await self._persist(client, request, decoding, held)
            self.meter.spent += reply.usage.dollars
            for again in range(1, ASKED_AGAIN + 1):
                if not (why := self._missing(reply, decoding)) or not self.meter.fits(0.0):
                    break
                self.retried[why] = self.retried.get(why, 0) + 1
                other = await self._persist(client, replace(request, id=f"{request.id}-again-{again}"), decoding, held)
                self.meter.spent += other.usage.dollars
                usage = _sum(reply.usage, other.usage)
                reply = replace(reply if other.outcome == "error" else other, id=request.id, usage=usage)
        finally:
            self.meter.release(held)
        return replace(reply, text=self._without_key(reply.text))

    def _missing(self, reply: Reply, decoding: Decoding) -> str:
        """What is wrong with the log-probabilities that were asked for, where the endpoint can give any."""
        wanted = decoding.logprobs and not {"logprobs", "top_logprobs"} & self._unsupported
        return flaw(reply.first) if wanted and reply.outcome in ("stop", "length") else ""

    async def _persist(self, client: httpx.AsyncClient, request: Request, decoding: Decoding, held: float) -> Reply:
        left = self.endpoint.retries
        while True:
            left_out = frozenset(self._unsupported)
            number = self.window.start()
            try:
                reply = await self._try(client, request, decoding, left_out)
                self.window.answered()
                return reply
            except Unsupported as refused:
                if str(refused) in left_out:
                    raise UserError(f"Model {self.name!r} takes no {refused}. Choose another model.") from None
                self._unsupported.add(str(refused))
            except Fault as fault:
                self.retried[str(fault)] = self.retried.get(str(fault), 0) + 1
                if str(fault) in BUSY:
                    self.window.turned_away(number)
                if fault.billed:
                    self.meter.lose(held)
                    if not self.meter.fits(0.0):
                        raise CostLimitReached(self._limit()) from None
                if not left:
                    return self._given_up(request, fault)
                await self._sleep(self._wait(self.endpoint.retries - left, fault.after))
                left -= 1

    async def _try(
        self, client: httpx.AsyncClient, request: Request, decoding: Decoding, left_out: frozenset[str]
    ) -> Reply:
        content = bytearray()
        sent = body(self.endpoint.model, request, decoding, left_out)
        try:
            async with (
                asyncio.timeout(self.endpoint.timeout_s),
                client.stream("POST", self._address, json=sent, headers={"Idempotency-Key": request.id}) as response,
            ):
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > LARGEST:
                        raise Fault("the answer is too large", billed=True)
        except NEVER_SENT as error:
            raise Fault("cannot connect") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Fault("timed out", billed=True) from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Fault("the connection was cut", billed=True) from error
        try:
            price = self.meter.price
            return understand(response.status_code, response.headers, bytes(content), request, decoding, price)
        except SpilloverError as error:
            raise type(error)(self._without_key(str(error))) from None

    def _given_up(self, request: Request, fault: Fault) -> Reply:
        tries = self.endpoint.retries + 1
        if isinstance(fault.__cause__, NEVER_SENT):
            raise MachineError(
                f"{self._address} cannot be reached ({tries} tries). Check --endpoint and the network, "
                "then run the same command again: what was written is kept."
            )
        said = f": {self._without_key(fault.said)}" if fault.said else ""
        return Reply(request.id, "", "error", error=f"{fault} ({tries} tries){said}")

    def _wait(self, number: int, asked: float | None) -> float:
        jitter = self._jitter.random() * min(LAST_WAIT_S, FIRST_WAIT_S * 2**number)
        return jitter if asked is None else asked + min(jitter, FIRST_WAIT_S)

    def _headers(self) -> dict[str, str]:
        # Answers are small; without compression, one cannot blow up in memory.
        plain = {"Accept-Encoding": "identity"}
        return plain | {"Authorization": f"Bearer {self._key}"} if self._key else plain

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text

    def _limit(self) -> str:
        meter = self.meter
        lost = f" and at most ${meter.lost:.4f} for {meter.lost_calls} lost answers" if meter.lost_calls else ""
        return (
            f"The next call might pass the cost limit of ${meter.limit:g}: ${meter.spent:.4f} is spent{lost}. "
            "What was written is kept. Raise --max-cost (of a judge: max_cost) and run the same command again."
        )


def key_of(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"The environment variable {variable} is empty. Set it to the endpoint's key.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"The environment variable {variable} holds no key: it has blanks or odd characters.")
    return key


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        dollars=one.dollars + other.dollars,
    )


async def _first(flying: set[asyncio.Task[Reply]]) -> tuple[set[asyncio.Task[Reply]], set[asyncio.Task[Reply]]]:
    return await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)


async def _end(flying: set[asyncio.Task[Reply]], client: httpx.AsyncClient) -> None:
    for task in flying:
        task.cancel()
    await asyncio.gather(*flying, return_exceptions=True)
    await client.aclose()
