"""The options of judges behind an endpoint, checked; `judge.options` of a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from spillover.config.study import Section
from spillover.config.validation import explain
from spillover.errors import UserError
from spillover.models.api.wire import address
from spillover.records.base import content_hash

S = TypeVar("S", bound=Section)


class PriceOptions(Section):
    """US dollars a million tokens."""

    prompt: float = Field(default=0.0, ge=0)
    completion: float = Field(default=0.0, ge=0)


class ChatOptions(Section):
    """A model behind an endpoint in OpenAI's chat format."""

    endpoint: str  # https://host/v1
    model: str = Field(min_length=1)
    revision: str = ""  # yours to state, where the endpoint's model name does not: part of the judge's identity
    key_env: str | None = None  # environment variable that holds the key
    concurrency: int = Field(default=8, ge=1, le=1024)  # calls at once, at most; fewer while the endpoint is busy
    timeout: float = Field(default=120.0, gt=0)  # seconds of one call
    retries: int = Field(default=8, ge=0)  # of a call that failed
    price: PriceOptions = PriceOptions()
    max_cost: float | None = Field(default=None, gt=0)  # US dollars of all this model's verdicts in the cache
    prompts: str | None = None  # a file of judge prompts; None = our own
    mode: Literal["auto", "logprobs", "text"] = "auto"  # how a score is read; auto asks the endpoint once
    max_tokens: int | None = Field(default=None, ge=1)  # of a verdict; None = 8 with log-probabilities, 32 as text
    index: int = Field(default=0, ge=0)  # another number asks for every verdict anew
    cache: str | None = None  # file of answers; None = verdicts.sqlite in the cache folder

    @model_validator(mode="after")
    def _priced(self) -> ChatOptions:
        if self.max_cost is not None and self.price == PriceOptions():
            raise ValueError("max_cost needs price: {prompt: .., completion: ..}, in dollars a million tokens")
        return self

    @property
    def account(self) -> str:
        """Hash of endpoint, model and revision: who is asked."""
        return content_hash([address(self.endpoint, False), self.model, self.revision])

    @property
    def cache_path(self) -> Path:
        from spillover.models.embedded.weights import cache_dir

        return Path(self.cache).expanduser() if self.cache else cache_dir() / "verdicts.sqlite"


class BatchOptions(ChatOptions):
    """The same by batches, at the endpoint's price for batches."""

    poll: float = Field(default=30.0, gt=0)  # seconds between two looks at a batch
    wait: bool = True  # false: submit, stop, and go on when the same command is run again
    batch_requests: int = Field(default=50_000, ge=1, le=50_000)  # verdicts in one batch
    batch_bytes: int = Field(default=190_000_000, ge=10_000, le=200_000_000)  # of its file
    enqueued_tokens: int = Field(default=2_000_000, ge=1)  # in all batches under way


def parse(kind: type[S], options: dict[str, Any], judge: str) -> S:
    """The options of a judge.

    Raises:
        UserError: naming the option, what is wrong, and the nearest known one.
    """
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        lines = [f"judge.options.{line}" for line in explain(error, kind)]
        raise UserError("\n".join([*lines, f"See docs/how-to/judges.md for the options of {judge}."])) from None
