"""A language model behind an OpenAI-compatible endpoint as judge: hosted, or vLLM, llama.cpp, Ollama, a gateway.

Each completion is asked about by the prompts of a rubric, at temperature 0; `verdict` says how replies are read.
Whether the endpoint gives log-probabilities over whole numbers is asked once, kept in the cache, and part of the
judge's identity. Every reply is in the cache before it is used, failed calls never are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from spillover.errors import MachineError, UserError
from spillover.judges import parse_reply as verdict
from spillover.judges.options import ChatOptions, parse
from spillover.judges.parse_reply import Mode, Verdict
from spillover.judges.rubric import ASPECTS, open_rubric
from spillover.models.api.cache import ChatCache, answer_key
from spillover.models.api.cost import Price
from spillover.models.api.model import Decoding, Reply, Request
from spillover.models.api.wire import address
from spillover.records.base import Aspect, Completion, Judgment, Message, Usage, content_hash

Ask = Callable[[ChatOptions, ChatCache, Sequence[Request], Decoding], Sequence[Reply]]
"""Gets replies that are not in the cache, and leaves them there."""

_TOKENS = {"logprobs": 8, "text": 32}
_BYTES_PER_TOKEN = 4.2  # of English, for an estimate
_VERDICT_TOKENS = 2


class ChatJudge:
    """Judges by the replies of a chat model; `ask` is how they are got."""

    def __init__(self, name: str, options: ChatOptions, ask: Ask) -> None:
        address(options.endpoint, False)
        self.name = name
        self.options = options
        self.rubric = open_rubric(options.prompts)
        self.cache = ChatCache(options.cache_path)
        self._ask = ask

    @cached_property
    def ability(self) -> str:
        """ "logprobs" or "text", and why; the endpoint is asked where nobody knows yet."""
        if self.options.mode != "auto":
            return f"{self.options.mode}: as the study says"
        if known := self.cache.ability(self.options.account):
            return known
        with self.cache.turn():
            known = self.cache.ability(self.options.account) or find_ability(self.options)
            self.cache.learn(self.options.account, known)
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
        asked = [decoding.max_tokens, decoding.temperature, options.index]
        return f"{self.name}:{content_hash([verdict.VERSION, options.account, self.mode, self.rubric.hash, asked], 12)}"

    def describe(self) -> dict[str, str]:
        """What the report says of this judge."""
        return {
            "name": self.name,
            "model": self.options.model,
            "revision": self.options.revision or "as the endpoint names it",
            "endpoint": self.options.endpoint,
            "mode": self.ability,
            "prompts": f"{self.rubric.name} ({self.rubric.hash})",
            "quality": "not measured here; compare it with labelled answers",
        }

    def judge(self, completions: Sequence[Completion]) -> Iterator[Judgment]:
        """Yield the alignment and the coherence judgment of each completion, in order."""
        asked = {c.id: self.rubric.chats(c) for c in completions if not nothing_to_judge(c)}
        keys = {chat: self._key(chat) for chats in asked.values() for chat in chats}
        replies = self._replies({key: Request(key, chat, 0) for chat, key in keys.items()})
        billed: set[str] = set()
        for completion in completions:
            if why := nothing_to_judge(completion):
                yield from (self._judgment(completion, a, Verdict(None, "unscored", self.mode, why)) for a in ASPECTS)
                continue
            chats = iter(asked[completion.id])
            for aspect in ASPECTS:
                prompts = self.rubric.prompts[aspect]
                found = [replies[keys[next(chats)]] for _ in prompts]
                read = [verdict.read(reply, self.mode) for reply in found]
                new = [reply.usage for reply in found if reply.id not in billed]
                billed.update(reply.id for reply in found)
                yield self._judgment(completion, aspect, verdict.lowest(read, [p.name for p in prompts]), new)

    def worst_cost(self, completion: Completion) -> float:
        """US dollars that judging a completion can cost at most."""
        from spillover.models.api.cost import worst_case

        price = price_of_options(self.options)
        chats = self.rubric.chats(completion)
        return sum(price.of(worst_case(chat, self.decoding.max_tokens)) for chat in chats)

    def _key(self, chat: tuple[Message, ...]) -> str:
        decoding = self.decoding
        parameters = {"max_tokens": decoding.max_tokens, "temperature": 0, "logprobs": decoding.logprobs}
        return answer_key(self.options.account, chat, parameters, self.options.index)

    def _replies(self, requests: dict[str, Request]) -> dict[str, Reply]:
        found = self.cache.get(list(requests))
        left = [request for key, request in requests.items() if key not in found]
        if left:
            found |= {reply.id: reply for reply in self._ask(self.options, self.cache, left, self.decoding)}
        return found

    def _judgment(self, completion: Completion, aspect: Aspect, found: Verdict, paid: Sequence[Usage] = ()) -> Judgment:
        usage = Usage(
            prompt_tokens=sum(one.prompt_tokens for one in paid),
            completion_tokens=sum(one.completion_tokens for one in paid),
            dollars=sum(one.dollars for one in paid),
        )
        score = None if found.score is None else round(found.score, 2)
        return Judgment(
            completion=completion.id, judge=self.identity, aspect=aspect, score=score, status=found.status,
            mode=found.mode, raw=found.raw, usage=usage,
        )  # fmt: skip


def nothing_to_judge(completion: Completion) -> str:
    """Why a completion is not worth a call; empty where it is."""
    if not completion.question.strip():
        return "the question's text is not known"
    return "" if completion.text.strip() else "empty answer"


def ask_now(options: ChatOptions, cache: ChatCache, requests: Sequence[Request], decoding: Decoding) -> list[Reply]:
    """Ask the endpoint, many calls at once; one process at a time, so that a limit holds for all of them."""
    from spillover.models.api.client import ChatClient
    from spillover.models.api.cost import Meter

    with cache.turn():
        there = cache.get([request.id for request in requests])
        left = [request for request in requests if request.id not in there]
        replies = list(there.values())
        if left:
            meter = Meter(price_of_options(options), options.max_cost, cache.spent(options.account))
            for reply in ChatClient(endpoint(options), meter).ask(left, decoding):
                cache.put(options.account, reply)
                replies.append(reply)
    return replies


def find_ability(options: ChatOptions) -> str:
    """Whether the endpoint gives log-probabilities over whole numbers: "logprobs", or "text: " and why not.

    Raises:
        UserError, MachineError: when it answers nothing at all.
    """
    from spillover.models.api.client import ChatClient
    from spillover.models.api.cost import Meter
    from spillover.models.api.logprobs import flaw

    client = ChatClient(endpoint(options), Meter(Price(), None))
    chat = (Message(role="user", content="Reply with this number and nothing else: 100"),)
    request = Request(answer_key(options.account, chat, {}, 0), chat, 0)
    try:
        [reply] = client.ask([request], Decoding(_TOKENS["logprobs"], 0.0, logprobs=True))
    except UserError as error:  # some endpoints forbid to ask for log-probabilities at all
        reply = Reply(request.id, "", "error", error=str(error))
    if reply.outcome == "error":
        [plain] = client.ask([request], Decoding(_TOKENS["text"], 0.0))
        if plain.outcome == "error":
            raise MachineError(f"The judge's endpoint answers nothing: {plain.error}. Check it, then go on.")
        return "text: the endpoint refuses to give log-probabilities"
    if why := flaw(reply.first):
        return f"text: {why}"
    if reply.first is None or reply.first.token.strip() != "100":
        return "text: the model does not write 100 as its first token"
    return "logprobs"


def endpoint(options: ChatOptions) -> Any:
    from spillover.models.api.client import Endpoint

    return Endpoint(
        options.endpoint, options.model, options.key_env, options.concurrency, options.timeout, options.retries
    )


def price_of_options(options: ChatOptions) -> Price:
    return Price(options.price.prompt, options.price.completion)


def price_of(options: dict[str, Any], answers: int, question_tokens: int, answer_tokens: int) -> float:
    """US dollars that so many verdicts will cost, about."""
    parsed = parse(ChatOptions, {k: v for k, v in options.items() if k in ChatOptions.model_fields}, "llm")
    rubric = open_rubric(parsed.prompts)
    texts = [prompt.text for prompts in rubric.prompts.values() for prompt in prompts]
    fixed = sum(len(text.encode()) for text in texts) / _BYTES_PER_TOKEN
    read = fixed + len(texts) * (question_tokens + answer_tokens)
    price = price_of_options(parsed)
    return answers * (price.prompt * read + price.completion * _VERDICT_TOKENS * len(texts)) / 1e6


def open_judge(options: dict[str, Any]) -> ChatJudge:
    """The judge that options["endpoint"] and options["model"] name."""
    return ChatJudge("llm", parse(ChatOptions, options, "llm"), ask_now)
