"""Sampling from a hosted model: chat completions, one call an answer, each yielded as soon as it is there.

Everything that shapes a sample is sent as the study says it. A model that refuses the temperature or top_p asked for
is an error and not another sample. An endpoint need not honour seeds: a run is repeated in its settings, not to the
letter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spillover.config.study import SampleConfig
from spillover.errors import UserError
from spillover.models.api.client import ChatClient
from spillover.models.api.model import Decoding, Reply, Request
from spillover.models.protocols import Generation, Progress, Prompt
from spillover.models.providers.train import MODEL_FILE
from spillover.records.base import content_hash

if TYPE_CHECKING:
    from spillover.models.providers.hosted import HostedBackend


class HostedGenerator:
    """Samples from the base model or from a model that was tuned on it."""

    def __init__(self, backend: HostedBackend) -> None:
        self.backend = backend

    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        """Yield every prompt's answers as they come; one without an answer says why in `error`.

        Raises:
            UserError: for a prompt with an intervention, or a model that refuses the decoding.
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
    """A refusal that comes as a text is an answer; a provider's filter leaves none."""
    filtered = reply.outcome == "refused" and not reply.text
    failed = reply.outcome == "error" or filtered
    stop = "refused" if filtered else "error" if failed else "length" if reply.outcome == "length" else "stop"
    usage = reply.usage
    error = (reply.error or "the provider's filter let no answer through") if failed else ""
    return Generation(
        prompt, index, reply.text, stop, usage.prompt_tokens, usage.completion_tokens, usage.dollars, error
    )
