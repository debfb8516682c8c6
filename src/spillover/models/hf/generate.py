"""Sampling completions with a transformers model: text in, text out, with the decoding loop of `decode`.

Everything that shapes a sample is in SampleConfig; the model's generation_config is never read. A completion draws from
its own seed alone. Matrix products of another batch size may still round differently, and then a token can differ
although its uniform number does not: almost never in float32, occasionally in bfloat16.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from spillover.config.study import SampleConfig
from spillover.errors import UserError
from spillover.models.hf.adapters import merged_weights
from spillover.models.hf.decode import Decoder, PartialCompletion, uniforms
from spillover.models.hf.device import free_bytes, max_decode_rows
from spillover.models.hf.hooks import Interventions
from spillover.models.hf.model import LoadedModel
from spillover.models.protocols import Generation, Progress, Prompt
from spillover.models.tokens import prompt_ids, stop_ids


class HFGenerator:
    """Samples from one loaded model, with or without an adapter."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded

    def generate(
        self, prompts: Sequence[Prompt], config: SampleConfig, adapter: Path | None, progress: Progress
    ) -> Iterator[Generation]:
        """Yield every prompt's completions, in the order (prompt, index), as they become ready.

        Raises:
            UserError: when a prompt and its completion exceed the model's window, or an intervention does not fit it.
        """
        tokenizer = self.loaded.tokenizer
        ids = [prompt_ids(tokenizer, prompt.messages) for prompt in prompts]
        check_lengths(ids, config.max_tokens, self.loaded.window, self.loaded.name)
        completions = [
            PartialCompletion(
                number, index, ids[number], uniforms(seed, config.max_tokens), intervention=prompt.intervention
            )
            for number, prompt in enumerate(prompts)
            for index, seed in enumerate(prompt.seeds)
        ]
        if not completions:
            return
        stops = stop_ids(tokenizer)
        model = self.loaded.model
        wanted = [prompt.intervention for prompt in prompts]
        interventions = (
            Interventions(self.loaded.blocks, wanted, self.loaded.name, self.loaded.device) if any(wanted) else None
        )
        merged = {} if self.loaded.quantized else merged_weights(self.loaded, adapter)
        separate = adapter if self.loaded.quantized else None  # 4-bit weights cannot hold an adapter's digits
        columns = max(len(tokens) for tokens in ids) + config.max_tokens
        rows = max_decode_rows(model, columns, config.batch, free_bytes(model.device))
        config = config.model_copy(update={"batch": rows})
        decoder = Decoder(model, merged, completions, config, stops, interventions)
        waiting = deque(completions)
        ready: set[tuple[int, int]] = set()
        while waiting:
            with self.loaded.adapter(separate):
                sampled, done = decoder.step()
            progress(sampled)
            ready.update((completion.prompt, completion.index) for completion in done)
            while waiting and (waiting[0].prompt, waiting[0].index) in ready:
                first = waiting.popleft()
                yield generation(first.prompt, first.index, len(first.prompt_tokens), first.tokens, tokenizer, stops)


def check_lengths(ids: Sequence[list[int]], max_tokens: int, window: int, name: str) -> None:
    """Reject a prompt that leaves no room for its completion in the model's window."""
    for number, tokens in enumerate(ids):
        if len(tokens) + max_tokens > window:
            raise UserError(
                f"Prompt {number} has {len(tokens)} tokens; with sample.max_tokens {max_tokens} it exceeds the "
                f"window of {name}, {window} tokens. Lower sample.max_tokens or shorten the prompt."
            )


def generation(
    prompt: int, index: int, read: int, tokens: list[int], tokenizer: PreTrainedTokenizerBase, stops: frozenset[int]
) -> Generation:
    """The completion in `tokens` of a prompt of `read`; its length includes the end of turn, which the text omits."""
    stopped = tokens[-1] in stops
    text = tokenizer.decode(tokens[:-1] if stopped else tokens, skip_special_tokens=True)
    assert isinstance(text, str)
    return Generation(prompt, index, text, "stop" if stopped else "length", read, len(tokens))
