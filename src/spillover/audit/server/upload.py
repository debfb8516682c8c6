"""An upload, from the network to a checked file: JSON Lines as the body, or as the file of a form.

Bytes are counted while they come and the connection is refused once there are too many. Nothing in an upload is
executed, unpacked or looked up: no archives, no YAML, no paths, no names of models but those that the operator allows.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spillover.audit.ci import sanitize, sentences
from spillover.audit.lint import UNREADABLE
from spillover.audit.server.problem import Problem, response
from spillover.data.lint.rows import read_rows

FORM = "multipart/form-data"
ROOM_FOR_FIELDS = 65_536  # bytes of a form beside its file
FIELDS = ("model", "seed", "budget", "name")
CHUNK = 2**20


class LimitBody:
    """Refuses a body of more than `limit` bytes: by its declared length at once, else while it comes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit + ROOM_FOR_FIELDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count, and pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:20]) > self.limit:
            await response(too_large(self.limit - ROOM_FOR_FIELDS))(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise too_large(self.limit - ROOM_FOR_FIELDS)
            return message

        await self.app(scope, counted, send)


def too_large(limit: int) -> Problem:
    """The refusal of a body above the limit."""
    detail = f"An upload may have at most {limit:,} bytes. Audit a sample of the data."
    return Problem(413, detail, headers={"Connection": "close"})


async def receive_upload(request: Request, into: Path, limit: int) -> tuple[str, dict[str, str]]:
    """Write the upload to `into`; its SHA-256, and the options that came with it.

    Raises:
        Problem: 400, 413 or 415.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "Compressed uploads are not accepted. Send the data uncompressed.")
    if kind != FORM:
        if kind not in ("application/x-ndjson", "application/jsonl", "application/octet-stream", "text/plain"):
            raise Problem(415, f"Send JSON Lines as application/x-ndjson, or {FORM} with a part called file.")
        options = {key: value for key, value in request.query_params.items() if key in FIELDS}
        return await _write(into, request.stream(), limit), options
    form: FormData = await request.form(max_files=1, max_fields=8, max_part_size=4096)
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Problem(400, "The form has no part called file.")
        texts = {key: value for key, value in form.items() if isinstance(value, str)}
        if unknown := sorted(set(texts) - set(FIELDS)):
            raise Problem(422, "The form has an unknown field.", [{"field": name} for name in unknown])
        return await _write(into, _chunks(file), limit), {"name": file.filename or ""} | texts
    finally:
        await form.close()


async def _chunks(file: UploadFile) -> Any:
    while chunk := await file.read(CHUNK):
        yield chunk


async def _write(into: Path, chunks: Any, limit: int) -> str:
    digest, seen = hashlib.sha256(), 0
    with into.open("wb") as out:
        async for chunk in chunks:
            seen += len(chunk)
            if seen > limit:
                raise too_large(limit)
            digest.update(chunk)
            await asyncio.to_thread(out.write, chunk)
    return digest.hexdigest()


def check(path: Path) -> None:
    """Read every line.

    Raises:
        Problem: 422, with line and field of each line that is not a row.
    """
    _, findings = read_rows(path)
    errors = [
        {
            "line": finding.lines[0] if finding.lines else None,
            "field": finding.field,
            "code": finding.code,
            "message": sentences(finding.message, finding.fix),
        }
        for finding in findings
        if finding.code in UNREADABLE
    ]
    if errors:
        raise Problem(422, "The data cannot be read.", errors)


def name_of(given: str) -> str:
    """What people read as the upload's name: the last part of what the client gave; it is used for nothing else."""
    return sanitize(given.replace("\\", "/").rpartition("/")[2])[:120] or "upload.jsonl"
