"""A language model behind an OpenAI-compatible endpoint as judge: hosted, or vLLM, llama.cpp, Ollama, a gateway.

Each completion is judged by the prompts of a rubric, at temperature 0; `rubric.py` turns replies into scores. Whether
the endpoint returns log-probabilities over whole numbers is determined once, kept in the cache, and part of the judge's
identity. Every reply is in the cache before it is used; failed calls never are.

The judge `batch` sends the same questions through the Batch API, at half the price, with the same cache. A batch may
take a day. Its id is on disk before it is waited for; after an interruption the same command resumes with the batches
in progress. With `wait: false` a run submits the judgments of every cell, stops, and collects them when run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from spillover.config.study import Section
from spillover.errors import MachineError, UserError
from spillover.judges import parse_options
from spillover.judges.rubric import VERSION, Mode, Rating, lowest_rating, open_rubric, parse_reply
from spillover.models.api.cache import ChatCache, reply_key
from spillover.models.api.chat import Decoding, Meter, Price, Reply, Request, worst_case
from spillover.models.api.wire import address, logprobs_flaw
from spillover.records.base import ASPECTS, Aspect, Completion, Judgment, Message, Usage, content_hash

_TOKENS = {"logprobs": 8, "text": 32}
_BYTES_PER_TOKEN = 4.2  # of English, for an estimate
_SCORE_TOKENS = 2


class PriceOptions(Section):
    """US dollars per million tokens."""

    prompt: float = Field(default=0.0, ge=0)
    completion: float = Field(default=0.0, ge=0)


class ChatOptions(Section):
    """A model behind an endpoint in OpenAI's chat format."""

    endpoint: str  # https://host/v1
    model: str = Field(min_length=1)
    revision: str = ""  # to be stated where the endpoint's model name does not; part of the judge's identity
    key_env: str | None = None  # environment variable that holds the key
    concurrency: int = Field(default=8, ge=1, le=1024)  # maximum simultaneous calls; fewer while the endpoint is busy
    timeout: float = Field(default=120.0, gt=0)  # seconds per call
    retries: int = Field(default=8, ge=0)  # of a call that failed
    price: PriceOptions = PriceOptions()
    max_cost: float | None = Field(default=None, gt=0)  # US dollars of all judgments of this model in the cache
    prompts: str | None = None  # a file of judge prompts; None = the shipped ones
    mode: Literal["auto", "logprobs", "text"] = "auto"  # how a score is read; auto tests the endpoint once
    max_tokens: int | None = Field(default=None, ge=1)  # of a reply; None = 8 with log-probabilities, 32 as text
    index: int = Field(default=0, ge=0)  # another number requests every judgment again
    cache: str | None = None  # file of replies; None = judgments.sqlite in the cache folder

    @model_validator(mode="after")
    def _priced(self) -> ChatOptions:
        if self.max_cost is not None and self.price == PriceOptions():
            raise ValueError("max_cost needs price: {prompt: .., completion: ..}, in dollars per million tokens")
        return self

    @property
    def account(self) -> str:
        """Hash of endpoint, model and revision."""
        return content_hash([address(self.endpoint, False), self.model, self.revision])

    @property
    def cache_path(self) -> Path:
        from spillover.models.embedded.weights import cache_dir

        return Path(self.cache).expanduser() if self.cache else cache_dir() / "verdicts.sqlite"


class BatchOptions(ChatOptions):
    """The same by batches, at the endpoint's price for batches."""

    poll: float = Field(default=30.0, gt=0)  # seconds between two checks of a batch
    wait: bool = True  # false: submit and stop; the same command collects the judgments later
    batch_requests: int = Field(default=50_000, ge=1, le=50_000)  # requests in one batch
    batch_bytes: int = Field(default=190_000_000, ge=10_000, le=200_000_000)  # of its file
    enqueued_tokens: int = Field(default=2_000_000, ge=1)  # in all batches in progress


Ask = Callable[[ChatOptions, ChatCache, Sequence[Request], Decoding], Sequence[Reply]]
"""Requests replies that are not in the cache, and leaves them there."""


class ChatJudge:
    """Judges by the replies of a chat model, which `ask` requests."""

    def __init__(self, name: str, options: ChatOptions, ask: Ask) -> None:
        address(options.endpoint, False)
        self.name = name
        self.options = options
        self.rubric = open_rubric(options.prompts)
        self.cache = ChatCache(options.cache_path)
        self._ask = ask

    @cached_property
    def ability(self) -> str:
        """ "logprobs" or "text", and why; the endpoint is tested if the cache does not know yet."""
        if self.options.mode != "auto":
            return f"{self.options.mode}: set by the study"
        if known := self.cache.ability(self.options.account):
            return known
        with self.cache.turn():
            known = self.cache.ability(self.options.account) or find_ability(self.options)
            self.cache.set_ability(self.options.account, known)
        return known

    @property
    def mode(self) -> Mode:
        return "logprobs" if self.ability.startswith("logprobs") else "text"

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.options.max_tokens or _TOKENS[self.mode], 0.0, self.mode == "logprobs")

    @cached_property
    def identity(self) -> str:
        """Name and hash of everything that can change a score."""
        options, decoding = self.options, self.decoding
        settings = [decoding.max_tokens, decoding.temperature, options.index]
        return f"{self.name}:{content_hash([VERSION, options.account, self.mode, self.rubric.hash, settings], 12)}"

    def describe(self) -> dict[str, str]:
        """The judge as the report describes it."""
        return {
            "name": self.name,
            "model": self.options.model,
            "revision": self.options.revision or "as named by the endpoint",
            "endpoint": self.options.endpoint,
            "mode": self.ability,
            "prompts": f"{self.rubric.name} ({self.rubric.hash})",
            "quality": "not measured; compare it with labelled completions",
        }

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        """Yield the alignment and the coherence judgment of each completion, in order."""
        chats_of = {c.id: self.rubric.chats(c) for c in completions if not unjudgeable_reason(c)}
        keys = {chat: self._key(chat) for chats in chats_of.values() for chat in chats}
        replies = self._replies({key: Request(key, chat, 0) for chat, key in keys.items()})
        billed: set[str] = set()
        for completion in completions:
            if why := unjudgeable_reason(completion):
                yield from (self._judgment(completion, a, Rating(None, "unscored", self.mode, why)) for a in ASPECTS)
                continue
            chats = iter(chats_of[completion.id])
            for aspect in ASPECTS:
                prompts = self.rubric.prompts[aspect]
                answers = [replies[keys[next(chats)]] for _ in prompts]
                ratings = [parse_reply(reply, self.mode) for reply in answers]
                new = [reply.usage for reply in answers if reply.id not in billed]
                billed.update(reply.id for reply in answers)
                yield self._judgment(completion, aspect, lowest_rating(ratings, [p.name for p in prompts]), new)

    def worst_cost(self, completion: Completion) -> float:
        """The most US dollars that judging a completion can cost."""
        price = price_of_options(self.options)
        chats = self.rubric.chats(completion)
        return sum(price.of(worst_case(chat, self.decoding.max_tokens)) for chat in chats)

    def _key(self, chat: tuple[Message, ...]) -> str:
        decoding = self.decoding
        parameters = {"max_tokens": decoding.max_tokens, "temperature": 0, "logprobs": decoding.logprobs}
        return reply_key(self.options.account, chat, parameters, self.options.index)

    def _replies(self, requests: dict[str, Request]) -> dict[str, Reply]:
        replies = self.cache.get(list(requests))
        left = [request for key, request in requests.items() if key not in replies]
        if left:
            replies |= {reply.id: reply for reply in self._ask(self.options, self.cache, left, self.decoding)}
        return replies

    def _judgment(self, completion: Completion, aspect: Aspect, rating: Rating, paid: Sequence[Usage] = ()) -> Judgment:
        usage = Usage(
            prompt_tokens=sum(one.prompt_tokens for one in paid),
            completion_tokens=sum(one.completion_tokens for one in paid),
            dollars=sum(one.dollars for one in paid),
        )
        return judgment_of(rating, completion, self.identity, aspect, usage)


def judgment_of(rating: Rating, completion: Completion, judge: str, aspect: Aspect, usage: Usage) -> Judgment:
    """The record of a rating."""
    return Judgment(
        completion=completion.id, judge=judge, aspect=aspect, status=rating.status, mode=rating.mode, raw=rating.raw,
        score=None if rating.score is None else round(rating.score, 2), usage=usage,
    )  # fmt: skip


def unjudgeable_reason(completion: Completion) -> str:
    """Why a completion is not worth a call; empty where it is."""
    if not completion.question.strip():
        return "the question's text is not known"
    return "" if completion.text.strip() else "empty answer"


def ask_endpoint(
    options: ChatOptions, cache: ChatCache, requests: Sequence[Request], decoding: Decoding
) -> list[Reply]:
    """Call the endpoint, many calls at once; one process at a time, so that a limit holds for all of them."""
    from spillover.models.api.client import ChatClient

    with cache.turn():
        cached = cache.get([request.id for request in requests])
        left = [request for request in requests if request.id not in cached]
        replies = list(cached.values())
        if left:
            meter = Meter(price_of_options(options), options.max_cost, cache.spent(options.account))
            for reply in ChatClient(endpoint(options), meter).ask(left, decoding):
                cache.put(options.account, reply)
                replies.append(reply)
    return replies


def ask_batch(options: ChatOptions, cache: ChatCache, requests: Sequence[Request], decoding: Decoding) -> list[Reply]:
    """Submit the requests that are not in progress, and wait for all of them."""
    from spillover.models.api.batches import BatchClient, Limits

    assert isinstance(options, BatchOptions)
    limits = Limits(options.batch_requests, options.batch_bytes, options.enqueued_tokens, options.max_cost)
    price = price_of_options(options)
    client = BatchClient(endpoint(options), cache, options.account, price, limits, options.poll, options.wait)
    return list(client.ask(requests, decoding))


def find_ability(options: ChatOptions) -> str:
    """Whether the endpoint returns log-probabilities over whole numbers: "logprobs", or "text: " and why not.

    Raises:
        UserError, MachineError: when no call succeeds.
    """
    from spillover.models.api.client import ChatClient

    client = ChatClient(endpoint(options), Meter(Price(), None))
    chat = (Message(role="user", content="Reply with this number and nothing else: 100"),)
    request = Request(reply_key(options.account, chat, {}, 0), chat, 0)
    try:
        [reply] = client.ask([request], Decoding(_TOKENS["logprobs"], 0.0, logprobs=True))
    except UserError as error:  # some endpoints reject any request for log-probabilities
        reply = Reply(request.id, "", "error", error=str(error))
    if reply.outcome == "error":
        [plain] = client.ask([request], Decoding(_TOKENS["text"], 0.0))
        if plain.outcome == "error":
            raise MachineError(
                f"The judge's endpoint does not reply: {plain.error}. Check it and run the same command again."
            )
        return "text: the endpoint provides no log-probabilities"
    if why := logprobs_flaw(reply.first):
        return f"text: {why}"
    if reply.first is None or reply.first.token.strip() != "100":
        return "text: the model does not write 100 as its first token"
    return "logprobs"


def endpoint(options: ChatOptions) -> Any:
    from spillover.models.api.http import Endpoint

    return Endpoint(
        options.endpoint, options.model, options.key_env, options.concurrency, options.timeout, options.retries
    )


def price_of_options(options: ChatOptions) -> Price:
    return Price(options.price.prompt, options.price.completion)


def price_of(options: dict[str, Any], answers: int, question_tokens: int, answer_tokens: int) -> float:
    """Estimated US dollars for judging so many completions."""
    parsed = parse_options(ChatOptions, {k: v for k, v in options.items() if k in ChatOptions.model_fields}, "llm")
    rubric = open_rubric(parsed.prompts)
    texts = [prompt.text for prompts in rubric.prompts.values() for prompt in prompts]
    fixed = sum(len(text.encode()) for text in texts) / _BYTES_PER_TOKEN
    read = fixed + len(texts) * (question_tokens + answer_tokens)
    price = price_of_options(parsed)
    return answers * (price.prompt * read + price.completion * _SCORE_TOKENS * len(texts)) / 1e6


def open_judge(options: dict[str, Any]) -> ChatJudge:
    """The judge that options["endpoint"] and options["model"] name."""
    return ChatJudge("llm", parse_options(ChatOptions, options, "llm"), ask_endpoint)


def open_batch_judge(options: dict[str, Any]) -> ChatJudge:
    """The same judge through the Batch API."""
    return ChatJudge("batch", parse_options(BatchOptions, options, "batch"), ask_batch)
