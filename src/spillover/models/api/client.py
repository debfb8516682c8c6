"""A chat model behind an endpoint that implements the OpenAI chat-completions format.

Many calls run at once; a failed one is tried again as `http` describes. What has been paid for is never discarded: when
one call shows that no other can succeed, or the cost limit is reached, the calls in progress are still awaited and
yielded. A reply without the log-probabilities asked for is requested again, under another idempotency key, and after
that accepted as it is.

How many calls run at once follows the load of the endpoint by additive increase and multiplicative decrease (AIMD): it
starts at the user's maximum and never exceeds it. A call rejected for load halves it, once for all calls that had
started before; each reply adds 1 / window, so that a round of replies adds one.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace

import httpx

from spillover.errors import CostLimitReached, MachineError, SpilloverError, UserError
from spillover.models.api.chat import Decoding, Meter, Reply, Request, worst_case
from spillover.models.api.http import LARGEST, Endpoint, Retries, headers_with, without_key
from spillover.models.api.wire import LOGPROB_RETRIES, Fault, Unsupported, address, body, logprobs_flaw, understand
from spillover.records.base import Usage

BUSY = ("HTTP 429", "HTTP 503")  # faults that mean too many calls at once
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Window:
    """The number of calls allowed at once, between 1 and `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._size = float(most)
        self._started = 0
        self._started_at_cut = 0

    @property
    def size(self) -> int:
        """Calls allowed at once."""
        return int(self._size)

    def start(self) -> int:
        """The number of a call that starts now."""
        self._started += 1
        return self._started

    def answered(self) -> None:
        """Grow after a complete reply."""
        self._size = min(float(self.most), self._size + 1 / self._size)

    def rejected(self, call: int) -> None:
        """Halve, unless the call started before the last cut."""
        if call > self._started_at_cut:
            self._size = max(1.0, self._size / 2)
            self._started_at_cut = self._started


class ChatClient:
    """Calls one model at one endpoint; `meter` counts the money."""

    def __init__(
        self, endpoint: Endpoint, meter: Meter, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.endpoint = endpoint
        self.meter = meter
        self.name = endpoint.model
        self.retried: Counter[str] = Counter()  # reason -> number of retries
        self.window = Window(endpoint.concurrency)
        self._key = endpoint.key
        self._address = address(endpoint.url, bool(self._key))
        self._sleep = sleep
        self._unsupported: set[str] = set()

    @property
    def left_out(self) -> frozenset[str]:
        """Parameters that the model has rejected and is now called without."""
        return frozenset(self._unsupported)

    def ask(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Reply]:
        """Yield one reply to each request, in the order in which they arrive.

        Raises:
            CostLimitReached: when the next call might exceed the limit.
            UserError: for a wrong key, address or model.
            MachineError: when the endpoint cannot be reached.
        """
        waiting = deque(requests)
        flying: set[asyncio.Task[Reply]] = set()
        stop: SpilloverError | None = None
        with asyncio.Runner() as runner:
            client = httpx.AsyncClient(timeout=self.endpoint.timeout_s, headers=headers_with(self._key))
            try:
                while flying or (waiting and stop is None):
                    while waiting and stop is None and self._may_start(flying, waiting[0], decoding):
                        call = self._call(client, waiting.popleft(), decoding)
                        flying.add(runner.get_loop().create_task(call))
                    if not flying:
                        raise self._limit()
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
        """One request until it has a reply; its worst case is already held."""
        held = self._worst(request, decoding)
        try:
            reply = await self._persist(client, request, decoding, held)
            self.meter.spent += reply.usage.dollars
            for again in range(1, LOGPROB_RETRIES + 1):
                if not (why := self._missing(reply, decoding)) or not self.meter.fits(0.0):
                    break
                self.retried[why] += 1
                other = await self._persist(client, replace(request, id=f"{request.id}-again-{again}"), decoding, held)
                self.meter.spent += other.usage.dollars
                usage = _sum(reply.usage, other.usage)
                reply = replace(reply if other.outcome == "error" else other, id=request.id, usage=usage)
        finally:
            self.meter.release(held)
        return replace(reply, text=without_key(reply.text, self._key))

    def _missing(self, reply: Reply, decoding: Decoding) -> str:
        """What is wrong with the log-probabilities asked for, if the model supports them at all."""
        wanted = decoding.logprobs and not {"logprobs", "top_logprobs"} & self._unsupported
        return logprobs_flaw(reply.first) if wanted and reply.outcome in ("stop", "length") else ""

    async def _persist(self, client: httpx.AsyncClient, request: Request, decoding: Decoding, held: float) -> Reply:
        """The reply to a call, which is repeated on faults, and without the parameters that the model rejects."""
        retries = Retries(self.endpoint.retries)
        while True:
            left_out = self.left_out
            number = self.window.start()
            try:
                reply = await self._try(client, request, decoding, left_out)
                self.window.answered()
                return reply
            except Unsupported as rejected:
                if str(rejected) in left_out:
                    raise UserError(f"Model {self.name!r} does not take {rejected}. Choose another model.") from None
                self._unsupported.add(str(rejected))
            except Fault as fault:
                self.retried[str(fault)] += 1
                if str(fault) in BUSY:
                    self.window.rejected(number)
                if fault.billed:
                    self.meter.lose(held)
                    if not self.meter.fits(0.0):
                        raise self._limit() from None
                if (wait := retries.wait(fault)) is None:
                    return self._given_up(request, fault)
                await self._sleep(wait)

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
                        raise Fault("the response is too large", billed=True)
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
            raise type(error)(without_key(str(error), self._key)) from None

    def _given_up(self, request: Request, fault: Fault) -> Reply:
        tries = self.endpoint.retries + 1
        if isinstance(fault.__cause__, NEVER_SENT):
            raise MachineError(
                f"{self._address} cannot be reached ({tries} tries). Check the address and the network, "
                "then run the same command again: what was written is kept."
            )
        detail = f": {without_key(fault.detail, self._key)}" if fault.detail else ""
        return Reply(request.id, "", "error", error=f"{fault} ({tries} tries){detail}")

    def _limit(self) -> CostLimitReached:
        meter = self.meter
        lost = f" and at most ${meter.lost:.4f} for {meter.lost_calls} lost replies" if meter.lost_calls else ""
        return CostLimitReached(
            f"The next call might exceed the cost limit of ${meter.limit:g}: ${meter.spent:.4f} is spent{lost}. What "
            "was written is kept. Raise --max-cost (for a judge: the option max_cost) and run the same command again."
        )


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
