"""The chat-completions format on the wire: what is sent, and what an answer of the endpoint means.

An answer is a reply, a fault worth another try, or a reason to stop. Everything an endpoint sends is read as hostile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from spillover.errors import MachineError, SpilloverError, UserError
from spillover.models.api.cost import Price, worst_case
from spillover.models.api.logprobs import TOP, first_token
from spillover.models.api.model import Decoding, Reply, Request
from spillover.records.base import Usage

RETRIED = {408, 409, 425, 429, *range(500, 600)}
REFUSALS = {"content_filter", "content_policy_violation"}  # codes of an endpoint's own filter
OPTIONAL = (
    "max_tokens",
    "temperature",
    "logprobs",
    "top_logprobs",
    "top_p",
    "seed",
)  # what some model or other refuses
LONGEST_WAIT_S = 300.0  # an endpoint that asks for more is as good as down


class Fault(Exception):
    """A call that failed and may succeed later. `said`: the endpoint's words; `after`: seconds that it asks for."""

    def __init__(self, reason: str, said: str = "", after: float | None = None, billed: bool = False) -> None:
        super().__init__(reason)
        self.said = said
        self.after = after
        self.billed = billed  # an answer may have been made, and paid for, that never arrived whole


class Unsupported(Exception):
    """The model refuses a parameter that others need."""


def address(url: str, with_key: bool) -> str:
    """The full address of chat completions, from a base such as https://host/v1.

    Raises:
        UserError: when it is no web address, or a key would travel over it in the clear.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--endpoint {url!r:.200} is no web address. Give one such as https://host/v1.")
    if parts.username or parts.password or parts.query:
        raise UserError("--endpoint holds a name, password or query. Put the key into an environment variable.")
    if with_key and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise UserError(f"A key would cross the network in the clear to {parts.hostname}. Use https.")
    path = url.rstrip("/")
    return path if path.endswith("/chat/completions") else f"{path}/chat/completions"


def body(model: str, request: Request, decoding: Decoding, unsupported: frozenset[str]) -> dict[str, Any]:
    """One call. Newer models take max_completion_tokens in place of max_tokens, and some no temperature."""
    limit = "max_completion_tokens" if "max_tokens" in unsupported else "max_tokens"
    content: dict[str, Any] = {
        "model": model,
        "messages": [message.model_dump() for message in request.messages],
        limit: decoding.max_tokens,
    }
    if "temperature" not in unsupported:
        content["temperature"] = decoding.temperature
    if decoding.top_p != 1 and "top_p" not in unsupported:
        content["top_p"] = decoding.top_p
    if decoding.seeded and "seed" not in unsupported:
        content["seed"] = request.seed % 2**31
    if decoding.logprobs and not {"logprobs", "top_logprobs"} & unsupported:
        content |= {"logprobs": True, "top_logprobs": TOP}
    return content


def understand(
    status: int, headers: Mapping[str, str], content: bytes, request: Request, decoding: Decoding, price: Price
) -> Reply:
    """What an answer of the endpoint means for `request`.

    Raises:
        Fault: worth another try.
        Unsupported: the same call without that parameter may succeed.
        SpilloverError: no call to this endpoint can succeed.
    """
    if status == 200:
        return _reply(content, request, decoding, price)
    code, parameter, said = error_of(content)
    if code == "insufficient_quota":
        raise MachineError(f"The endpoint says that the account's quota is used up: {said}. Top it up, then go on.")
    if status in RETRIED:
        raise Fault(f"HTTP {status}", said, wait_asked(headers))
    if code in REFUSALS:
        return Reply(request.id, "", "refused", error=said)
    if parameter in OPTIONAL and code in ("unsupported_parameter", "unsupported_value"):
        raise Unsupported(parameter)
    if status in (400, 413, 422):
        return Reply(request.id, "", "error", error=f"HTTP {status}: {said}")
    raise stop_for(status, headers, said)


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header: a number, or a date; None where there is none that can be read."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    if seconds > LONGEST_WAIT_S:
        raise MachineError(f"The endpoint asks to wait {seconds:.0f} s. Run the same command again then.")
    return max(seconds, 0.0) if seconds == seconds else None  # a NaN is no wait


def _reply(content: bytes, request: Request, decoding: Decoding, price: Price) -> Reply:
    try:
        data: Any = json.loads(content)
        choice = data["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content") or "", message.get("refusal")
        reason = choice.get("finish_reason")
        if not isinstance(text, str):
            raise TypeError("content is no text")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise Fault("the answer is no chat completion", billed=True) from None
    outcome: Literal["stop", "length", "refused"] = "length" if reason == "length" else "stop"
    if refusal or reason == "content_filter":
        outcome, text = "refused", text or str(refusal or "")[:500]
    usage = _usage(data.get("usage"), request, decoding)
    usage = usage.model_copy(update={"dollars": price.of(usage)})
    first = first_token(choice) if decoding.logprobs else None
    return Reply(request.id, text.encode("utf-8", "replace").decode(), outcome, usage, first=first)


def _usage(stated: Any, request: Request, decoding: Decoding) -> Usage:
    """The endpoint's own count, or the worst case where it gives none."""
    if isinstance(stated, dict):
        prompt, completion = stated.get("prompt_tokens"), stated.get("completion_tokens")
        if isinstance(prompt, int) and isinstance(completion, int) and min(prompt, completion) >= 0:
            return Usage(prompt_tokens=prompt, completion_tokens=completion)
    return worst_case(request.messages, decoding.max_tokens)


def error_of(content: bytes) -> tuple[str, str, str]:
    """Code, parameter and message of an error, as far as they are there."""
    try:
        error = json.loads(content)["error"]
        fields = {name: str(error.get(name) or "") for name in ("code", "param", "message")}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", "", content[:200].decode("utf-8", "replace").strip()
    return fields["code"], fields["param"], fields["message"][:200]


def stop_for(status: int, headers: Mapping[str, str], said: str) -> SpilloverError:
    if status in (401, 403):
        return UserError(f"The endpoint refuses the key (HTTP {status}: {said}). Set the variable named by --key-env.")
    if status in range(300, 400):
        return UserError(f"The endpoint has moved to {headers.get('location', '?'):.200}. Give that as --endpoint.")
    return UserError(f"The endpoint answers HTTP {status}: {said}. Check --endpoint and --endpoint-model.")
