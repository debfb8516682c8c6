"""A model that somebody else fine-tunes and serves: training jobs and chat completions over HTTP, no weights here.

Two dialects of the job's addresses are known, see `hosted_dialects`; answers come in the chat-completions format of
all such providers. A hosted model gives answers only: no log-probabilities of given texts, no activations. Studies that
ask for them are refused before anything is paid for. Options, all in the study file:

    endpoint: base address, such as https://host/v1
    key_env: the environment variable that holds the key
    dialect: openai (default) or together
    price: {train, prompt, completion} in US dollars a million tokens, for the plan and the limit
    max_cost: dollars that one process may spend; concurrency, timeout_s, retries: of calls
    poll_s: seconds between two looks at a job
    learning_rate_multiplier: where the provider takes none of its own (OpenAI); its choice when absent
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spillover.config.study import ModelConfig
from spillover.config.validation import explain
from spillover.errors import UserError
from spillover.models.api.client import Endpoint
from spillover.models.api.cost import Meter, Price
from spillover.models.api.http import HttpCalls, NotThere
from spillover.models.protocols import ActivationReader, Generator, TokenScorer, Trainer
from spillover.models.providers.dialects import DIALECTS
from spillover.registry import did_you_mean

if TYPE_CHECKING:
    from typing import NoReturn

BYTES_PER_TOKEN = 4  # of English text, in the tokenizers of today
ENDS = ("shutdown_date", "shutdown_at", "deprecation_date", "deprecation", "expiration_date")  # whoever tells one


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
        if config.path is None:
            raise UserError(f"models.{config.name}.path: write the provider's name of the base model there.")
        self.name = config.path
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
        """The base model's name, and the day on which the provider shuts it down where it tells one."""
        if self._revision is None:
            end = shutdown(self._about())
            self._revision = f"{self.name}, shut down on {end}" if end else self.name
        return self._revision

    @property
    def computing(self) -> dict[str, str]:
        return {}

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """About the length of each text: the provider's tokenizer is not known; four bytes make a token, about."""
        return [-(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN) for text in texts]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Not to be had."""
        self._refuse("tokens")

    def trainer(self) -> Trainer:
        from spillover.models.providers.train import HostedTrainer

        return HostedTrainer(self)

    def generator(self) -> Generator:
        from spillover.models.providers.generate import HostedGenerator

        return HostedGenerator(self)

    def scorer(self) -> TokenScorer:
        self._refuse("log-probabilities of given texts")

    def reader(self) -> ActivationReader:
        self._refuse("activations")

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(f"{self.name} is hosted and gives no {what}. Use a model with backend hf for that.")

    def _about(self) -> dict[str, Any]:
        """What the provider tells of the base model; nothing where it has no such address."""
        import time

        try:
            return HttpCalls(self.endpoint, time.sleep).get(f"/models/{quote(self.name, safe='')}")
        except (NotThere, UserError):
            return {}


def shutdown(about: dict[str, Any]) -> str:
    """The day, as YYYY-MM-DD, on which a model ends; "" where nothing is told.

    Raises:
        UserError: when that day has passed.
    """
    told = next((about[name] for name in ENDS if about.get(name)), None)
    if told is None:
        return ""
    day = datetime.fromtimestamp(told, UTC).date().isoformat() if isinstance(told, int | float) else str(told)[:10]
    if day <= datetime.now(UTC).date().isoformat() and day[:2].isdigit():
        raise UserError(f"The provider says that this model was shut down on {day}. Choose another base model.")
    return day


def open_backend(config: ModelConfig) -> HostedBackend:
    """The provider's model that `config` names; nothing is asked of the provider yet.

    Raises:
        UserError: for a wrong option.
    """
    try:
        options = HostedOptions.model_validate(config.options)
    except ValidationError as error:
        lines = (f"models.{config.name}.options.{line}" for line in explain(error, HostedOptions))
        raise UserError("\n".join(lines)) from None
    if options.dialect not in DIALECTS:
        hint = did_you_mean(options.dialect, list(DIALECTS))
        raise UserError(f"models.{config.name}.options.dialect: unknown dialect {options.dialect!r}{hint}")
    return HostedBackend(config, options)
