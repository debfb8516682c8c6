"""What goes wrong, as application/problem+json (RFC 9457): a title, a sentence, and an upload's lines and fields."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from spillover.audit.plain import plain

SHOWN = 50  # mistakes of one upload


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


def response(problem: Problem) -> JSONResponse:
    """The problem as an answer; text that came from the client is cleaned."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": plain(problem.detail),
    }
    if problem.errors:
        content["errors"] = [
            {key: plain(value) if isinstance(value, str) else value for key, value in error.items()}
            for error in problem.errors[:SHOWN]
        ]
        content["errors_in_all"] = len(problem.errors)
    return JSONResponse(content, problem.status, problem.headers, media_type="application/problem+json")


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
        return response(Problem(422, "A value is not as it must be.", errors))

    async def bug(request: Request, error: Exception) -> JSONResponse:
        return response(Problem(500, "Something went wrong here, not with your data. The server's log says more."))

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, wrong_value)
    app.add_exception_handler(Exception, bug)
