"""The chat-completions format: what is sent to an endpoint, and what its response means.

A response is a reply, a fault that is worth another try, or a reason to stop. Everything an endpoint sends is treated
as hostile.

A score by log-probabilities depends on the first token alone: its `top` alternatives with their ln p. Some endpoints
omit the list, omit the sampled token from it, or give -9999 for a token that the sampler chose despite its probability.
Such a reply holds no distribution (`logprobs_flaw`), and repeating the request may bring one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from spillover.errors import MachineError, SpilloverError, UserError
from spillover.models.api.chat import Decoding, FirstToken, Price, Reply, Request, worst_case
from spillover.records.base import Usage

RETRIED = {408, 409, 425, 429, *range(500, 600)}
REFUSALS = {"content_filter", "content_policy_violation"}  # error codes of an endpoint's filter
OPTIONAL = ("max_tokens", "temperature", "logprobs", "top_logprobs", "top_p", "seed")  # some models reject one of these
LONGEST_WAIT_S = 300.0  # an endpoint that asks for a longer wait counts as down
TOP = 20  # alternatives requested, the most that the format allows
LOWEST = -9999.0  # stands for minus infinity
IMPOSSIBLE = -9998.0  # ln p at or below it means "not among the tokens that were counted"
LOGPROB_RETRIES = 2  # repetitions of a request whose log-probabilities are missing or flawed


class Fault(Exception):
    """A call that failed and may succeed later.

    `detail`: the endpoint's own words; `after`: the seconds it asks to wait; `billed`: a reply may have been generated
    and billed without arriving complete.
    """

    def __init__(self, reason: str, detail: str = "", after: float | None = None, billed: bool = False) -> None:
        super().__init__(reason)
        self.detail = detail
        self.after = after
        self.billed = billed


class Unsupported(Exception):
    """The model rejects a parameter that other models need."""


def address(url: str, with_key: bool) -> str:
    """The full address of chat completions, from a base such as https://host/v1.

    Raises:
        UserError: when it is not a web address, or a key would be sent to it unencrypted.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"The endpoint {url!r:.200} is not a web address. Give one such as https://host/v1.")
    if parts.username or parts.password or parts.query:
        raise UserError(
            "The endpoint contains a user name, a password or a query. Put the key into an environment variable."
        )
    if with_key and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise UserError(f"The key would be sent to {parts.hostname} unencrypted. Use https.")
    path = url.rstrip("/")
    return path if path.endswith("/chat/completions") else f"{path}/chat/completions"


def body(model: str, request: Request, decoding: Decoding, unsupported: frozenset[str]) -> dict[str, Any]:
    """The content of one call. Newer models take max_completion_tokens instead of max_tokens; some no temperature."""
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
    """What a response means for `request`.

    Raises:
        Fault: worth another try.
        Unsupported: the same call without that parameter may succeed.
        SpilloverError: no call to this endpoint can succeed.
    """
    if status == 200:
        return _reply(content, request, decoding, price)
    code, parameter, detail = error_of(content)
    if code == "insufficient_quota":
        raise MachineError(
            f"The endpoint reports that the account's quota is used up: {detail}. Top it up and run the same command "
            "again."
        )
    if status in RETRIED:
        raise Fault(f"HTTP {status}", detail, retry_after(headers))
    if code in REFUSALS:
        return Reply(request.id, "", "refused", error=detail)
    if parameter in OPTIONAL and code in ("unsupported_parameter", "unsupported_value"):
        raise Unsupported(parameter)
    if status in (400, 413, 422):
        return Reply(request.id, "", "error", error=f"HTTP {status}: {detail}")
    raise stop_for(status, headers, detail)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds in a Retry-After header, which holds a number or a date; None without one that can be read.

    Raises:
        MachineError: when the endpoint asks for a very long wait.
    """
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
        raise MachineError(f"The endpoint asks for a wait of {seconds:.0f} s. Run the same command again after that.")
    return max(seconds, 0.0) if seconds == seconds else None  # NaN is not a wait


def error_of(content: bytes) -> tuple[str, str, str]:
    """Code, parameter and message of an error response; empty where one is missing."""
    try:
        error = json.loads(content)["error"]
        fields = {name: str(error.get(name) or "") for name in ("code", "param", "message")}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", "", content[:200].decode("utf-8", "replace").strip()
    return fields["code"], fields["param"], fields["message"][:200]


def stop_for(status: int, headers: Mapping[str, str], detail: str) -> SpilloverError:
    """The error for a status after which no call can succeed."""
    if status in (401, 403):
        return UserError(
            f"The endpoint rejects the key (HTTP {status}: {detail}). Check the environment variable that holds it."
        )
    if status in range(300, 400):
        return UserError(f"The endpoint has moved to {headers.get('location', '?'):.200}. Use that address.")
    return UserError(f"The endpoint responds with HTTP {status}: {detail}. Check its address and the model's name.")


def first_token(choice: Any) -> FirstToken | None:
    """The first token of a choice with its log-probabilities; None where they are missing or malformed."""
    try:
        first = choice["logprobs"]["content"][0]
        top = tuple((_text(item["token"]), _logprob(item["logprob"])) for item in first["top_logprobs"][: 2 * TOP])
        return FirstToken(_text(first["token"]), _logprob(first["logprob"]), top)
    except (TypeError, KeyError, IndexError, ValueError):
        return None


def logprobs_flaw(first: FirstToken | None) -> str:
    """Why a first token has no distribution to score by; empty where it has one."""
    if first is None or not first.top:
        return "no log-probabilities"
    if first.logprob <= IMPOSSIBLE:
        return f"the sampled token has the log-probability {first.logprob:g}"
    if first.token not in {token for token, _ in first.top}:
        return "the sampled token is not among the likeliest"
    return ""


def _reply(content: bytes, request: Request, decoding: Decoding, price: Price) -> Reply:
    try:
        data: Any = json.loads(content)
        choice = data["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content") or "", message.get("refusal")
        reason = choice.get("finish_reason")
        if not isinstance(text, str):
            raise TypeError("content is not text")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise Fault("the response is not a chat completion", billed=True) from None
    outcome: Literal["stop", "length", "refused"] = "length" if reason == "length" else "stop"
    if refusal or reason == "content_filter":
        outcome, text = "refused", text or str(refusal or "")[:500]
    usage = _usage(data.get("usage"), request, decoding)
    usage = usage.model_copy(update={"dollars": price.of(usage)})
    first = first_token(choice) if decoding.logprobs else None
    return Reply(request.id, text.encode("utf-8", "replace").decode(), outcome, usage, first=first)


def _usage(stated: Any, request: Request, decoding: Decoding) -> Usage:
    """The endpoint's own count, or the worst case where it states none."""
    if isinstance(stated, dict):
        prompt, completion = stated.get("prompt_tokens"), stated.get("completion_tokens")
        if isinstance(prompt, int) and isinstance(completion, int) and min(prompt, completion) >= 0:
            return Usage(prompt_tokens=prompt, completion_tokens=completion)
    return worst_case(request.messages, decoding.max_tokens)


def _text(value: Any) -> str:
    """A token as text; half of a surrogate pair, which a token may be, cannot be stored."""
    return str(value)[:100].encode("utf-8", "replace").decode()


def _logprob(value: Any) -> float:
    number = float(value)
    if isinstance(value, (str, bool)) or math.isnan(number) or number > 1e-3:
        raise ValueError("not a log-probability")
    return min(max(number, LOWEST), 0.0)
