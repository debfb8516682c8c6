"""A model that a provider fine-tunes and serves: training jobs and chat completions over HTTP, no local weights.

A hosted model returns text only: no log-probabilities of given texts, no activations. Studies that need them are
rejected before anything is paid for. Options, all in the study file:

    endpoint: base address, such as https://host/v1
    key_env: the environment variable that holds the key
    dialect: openai (default) or together, see `openai_jobs`
    price: {train, prompt, completion} in US dollars per million tokens, for the cost estimate and the limit
    max_cost: dollars that one process may spend; concurrency, timeout_s, retries: of calls
    poll_s: seconds between two checks of a job
    learning_rate_multiplier: for providers that take no learning rate (OpenAI); their default when absent

Sampling makes one call per completion, and everything that shapes a sample is sent as the study states it. A model that
rejects the requested temperature or top_p is an error, not a different sample. An endpoint may ignore seeds, so a run
can be repeated with the same settings, but not word for word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spillover.config.study import ModelConfig, SampleConfig
from spillover.config.validation import explain
from spillover.errors import UserError
from spillover.models.api.chat import Decoding, Meter, Price, Reply, Request
from spillover.models.api.client import ChatClient
from spillover.models.api.http import Endpoint, HttpCalls, NotThere
from spillover.models.protocols import ActivationReader, Generation, Generator, Progress, Prompt, TokenScorer, Trainer
from spillover.models.providers.openai_jobs import DIALECTS, MODEL_FILE, HostedTrainer
from spillover.records.base import content_hash
from spillover.registry import did_you_mean

if TYPE_CHECKING:
    from typing import NoReturn

BYTES_PER_TOKEN = 4  # of English text, in current tokenizers
# Fields in which one provider or another states the last day of a model.
SHUTDOWN_FIELDS = ("shutdown_date", "shutdown_at", "deprecation_date", "deprecation", "expiration_date")

O = TypeVar("O", bound=BaseModel)  # noqa: E741


class Prices(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    train: float = Field(default=0.0, ge=0)
    prompt: float = Field(default=0.0, ge=0)
    completion: float = Field(default=0.0, ge=0)


class HostedOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    key_env: str | None = None
    dialect: str = "openai"
    price: Prices = Prices()
    max_cost: float | None = Field(default=None, gt=0)
    concurrency: int = Field(default=8, ge=1, le=256)
    timeout_s: float = Field(default=120.0, gt=0)
    retries: int = Field(default=8, ge=0)
    poll_s: float = Field(default=30.0, ge=0)
    learning_rate_multiplier: float | None = Field(default=None, gt=0)


class HostedBackend:
    """One base model of a provider."""

    def __init__(self, config: ModelConfig, options: HostedOptions) -> None:
        self.name = provider_name(config)
        self.options = options
        self.endpoint = Endpoint(
            options.endpoint, self.name, options.key_env, options.concurrency, options.timeout_s, options.retries
        )
        self.dialect = DIALECTS[options.dialect]
        price = Price(options.price.prompt, options.price.completion)
        self.meter = Meter(price, options.max_cost)  # training and sampling share the limit
        self._revision: str | None = None

    @property
    def revision(self) -> str:
        """The base model's name, and the day on which the provider shuts it down if it states one."""
        if self._revision is None:
            end = shutdown(self._about())
            self._revision = f"{self.name}, shut down on {end}" if end else self.name
        return self._revision

    @property
    def compute_info(self) -> dict[str, str]:
        return {}

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Approximate length of each text: the provider's tokenizer is unknown, so four bytes count as a token."""
        return [-(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN) for text in texts]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Not available."""
        self._refuse("tokens")

    def trainer(self) -> Trainer:
        return HostedTrainer(self)

    def generator(self) -> Generator:
        return HostedGenerator(self)

    def scorer(self) -> TokenScorer:
        self._refuse("log-probabilities of given texts")

    def reader(self) -> ActivationReader:
        self._refuse("activations")

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(f"{self.name} is hosted and provides no {what}. Use a model with backend hf for that.")

    def _about(self) -> dict[str, Any]:
        """The provider's description of the base model; empty where it has none."""
        try:
            return HttpCalls(self.endpoint).get(f"/models/{quote(self.name, safe='')}")
        except (NotThere, UserError):
            return {}


class HostedGenerator:
    """Samples from the base model or from a fine-tune of it."""

    def __init__(self, backend: HostedBackend) -> None:
        self.backend = backend

    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        """Yield every prompt's completions as they arrive; one without a text has the reason in `error`.

        Raises:
            UserError: for a prompt with an intervention, or a model that rejects the decoding parameters.
        """
        if any(prompt.intervention for prompt in prompts):
            raise UserError(f"{self.backend.name} is hosted and cannot be steered. Use a model with backend hf.")
        model = self.backend.name
        if adapter is not None:
            model = str(json.loads((adapter / MODEL_FILE).read_text(encoding="utf-8"))["model"])
        places: dict[str, tuple[int, int]] = {}
        requests: list[Request] = []
        for number, prompt in enumerate(prompts):
            for index, seed in enumerate(prompt.seeds):
                chat = [message.model_dump() for message in prompt.messages]
                key = content_hash([model, chat, seed, config.max_tokens, config.temperature, config.top_p], 32)
                places[key] = (number, index)
                requests.append(Request(key, prompt.messages, seed))
        client = ChatClient(replace(self.backend.endpoint, model=model), self.backend.meter)
        decoding = Decoding(config.max_tokens, config.temperature, top_p=config.top_p, seeded=True)
        for reply in client.ask(requests, decoding):
            if ("temperature" in client.left_out and config.temperature != 1) or "top_p" in client.left_out:
                raise UserError(f"{model} takes no temperature or top_p. Set both to 1 in the study's sample section.")
            progress(reply.usage.completion_tokens)
            yield _generation(reply, *places[reply.id])


def _generation(reply: Reply, prompt: int, index: int) -> Generation:
    """A refusal with a text is a completion; a provider's filter leaves none."""
    filtered = reply.outcome == "refused" and not reply.text
    failed = reply.outcome == "error" or filtered
    stop = "refused" if filtered else "error" if failed else "length" if reply.outcome == "length" else "stop"
    usage = reply.usage
    error = (reply.error or "the provider's filter let no answer through") if failed else ""
    return Generation(
        prompt, index, reply.text, stop, usage.prompt_tokens, usage.completion_tokens, usage.dollars, error
    )


def shutdown(about: dict[str, Any]) -> str:
    """The day, as YYYY-MM-DD, on which a model ends; "" where none is stated.

    Raises:
        UserError: when that day has passed.
    """
    end = next((about[name] for name in SHUTDOWN_FIELDS if about.get(name)), None)
    if end is None:
        return ""
    day = datetime.fromtimestamp(end, UTC).date().isoformat() if isinstance(end, int | float) else str(end)[:10]
    if day <= datetime.now(UTC).date().isoformat() and day[:2].isdigit():
        raise UserError(f"The provider shut this model down on {day}. Choose another base model.")
    return day


def provider_name(config: ModelConfig) -> str:
    """The provider's name of the base model.

    Raises:
        UserError: when the study does not state it.
    """
    if config.path is None:
        raise UserError(f"models.{config.name}.path is missing. Set it to the provider's name of the base model.")
    return config.path


def parse_options(kind: type[O], config: ModelConfig) -> O:
    """The options of a backend.

    Raises:
        UserError: naming the option, what is wrong, and the nearest known one.
    """
    try:
        return kind.model_validate(config.options)
    except ValidationError as error:
        lines = (f"models.{config.name}.options.{line}" for line in explain(error, kind))
        raise UserError("\n".join(lines)) from None


def open_backend(config: ModelConfig) -> HostedBackend:
    """The provider's model that `config` names, without a call to the provider yet.

    Raises:
        UserError: for a wrong option.
    """
    options = parse_options(HostedOptions, config)
    if options.dialect not in DIALECTS:
        hint = did_you_mean(options.dialect, list(DIALECTS))
        raise UserError(f"models.{config.name}.options.dialect: unknown dialect {options.dialect!r}{hint}")
    return HostedBackend(config, options)
