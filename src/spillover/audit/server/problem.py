"""What goes wrong, as application/problem+json (RFC 9457): a title, a sentence, and an upload's lines and fields."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from spillover.audit.ci import sanitize

SHOWN = 50  # mistakes of one upload
MEDIA = "application/problem+json"
REFUSALS = {
    401: "Missing or invalid token.",
    404: "Audit not found.",
    409: "The audit is not in the required state.",
    413: "The body is too large.",
    415: "Unsupported content type.",
    422: "Invalid rows or an invalid option.",
    429: "Too many audits are queued.",
}


class Problem(Exception):
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[dict[str, Any]] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors, headers


class Document(BaseModel):
    """A problem as clients read it; an error of an upload has a line, a field, a code and a message."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] = []
    errors_in_all: int = 0


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How the interface describes them."""
    content = {MEDIA: {"schema": Document.model_json_schema()}}
    return {status: {"description": REFUSALS[status], "content": content} for status in sorted(statuses)}


def response(problem: Problem) -> JSONResponse:
    """The problem as an answer; text that came from the client is cleaned."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": sanitize(problem.detail),
    }
    if problem.errors:
        content["errors"] = [
            {key: sanitize(value) if isinstance(value, str) else value for key, value in error.items()}
            for error in problem.errors[:SHOWN]
        ]
        content["errors_in_all"] = len(problem.errors)
    return JSONResponse(content, problem.status, problem.headers, media_type=MEDIA)


def handle_problems(app: FastAPI) -> None:
    """Let every error of the application take this form."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return response(error)

    async def framework(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return response(Problem(error.status_code, str(error.detail), headers=dict(error.headers or {})))

    async def wrong_value(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"field": ".".join(str(part) for part in item["loc"][1:]), "message": item["msg"]}
            for item in error.errors()
        ]
        return response(Problem(422, "Invalid parameter value.", errors))

    async def bug(request: Request, error: Exception) -> JSONResponse:
        return response(Problem(500, "Internal error of the server, not of your data. See the server's log."))

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, wrong_value)
    app.add_exception_handler(Exception, bug)
