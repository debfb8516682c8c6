"""The service: POST a data set, follow its audit, fetch the verdict. Every answer but success is a problem document."""

from __future__ import annotations

import asyncio
import hmac
import math
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from spillover import __version__
from spillover.audit.server import interface, upload
from spillover.audit.server.jobs import ID, Job, Jobs, Status, now
from spillover.audit.server.problem import Problem, handle_problems, refusals
from spillover.audit.server.runner import Runner, Settings
from spillover.registry import did_you_mean

router = APIRouter(prefix="/v1")
bearer = HTTPBearer(auto_error=False, description="The token that the operator set.")
MOST_SEED = 2**31
MOST_CONNECTIONS = 256
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "model"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "JSON Lines of messages."},
                        "model": {"type": "string", "description": "One of the models of /v1/health."},
                        "seed": {"type": "integer", "default": 0},
                        "budget": {"type": "number", "description": "Minutes."},
                    },
                }
            },
            "application/x-ndjson": {"schema": {"type": "string", "description": "Options go into the query."}},
        },
    }
}


class JobView(BaseModel):
    """A job as clients see it."""

    id: str
    status: Status
    name: str
    sha256: str
    model: str
    seed: int
    budget: float | None
    created: str
    started: str | None
    finished: str | None
    attempts: int
    progress: dict[str, Any] | None
    verdict: dict[str, Any] | None
    error: str


class Health(BaseModel):
    """Whether the service takes data sets, and for which models."""

    status: str
    version: str
    models: list[str]
    policy: str
    policy_hash: str
    max_bytes: int
    queued: int
    running: int


def settings_of(request: Request) -> Settings:
    return request.app.state.settings


def jobs_of(request: Request) -> Jobs:
    return request.app.state.jobs


def runner_of(request: Request) -> Runner:
    return request.app.state.runner


def authorised(request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
    """Compare the token in constant time, before anything of the body is read."""
    given = shown.credentials if shown else ""
    if not hmac.compare_digest(given.encode("utf-8", "replace"), settings_of(request).token.encode()):
        raise Problem(401, "Send the header: Authorization: Bearer TOKEN", headers={"WWW-Authenticate": "Bearer"})


def known(request: Request, audit_id: Annotated[str, Path(pattern=f"^{ID}$")]) -> str:
    """The id of a job that there is."""
    if not jobs_of(request).exists(audit_id):
        raise Problem(404, "Audit not found.")
    return audit_id


Guarded = Depends(authorised)
KnownId = Annotated[str, Depends(known)]


@router.post(
    "/audits",
    status_code=202,
    dependencies=[Guarded],
    openapi_extra=BODY,
    responses=refusals(401, 409, 413, 415, 422, 429),
)
async def submit(request: Request, answer: Response) -> JobView:
    """Send a data set. The same data with the same options is the same audit, and is not run again."""
    settings, jobs, runner = settings_of(request), jobs_of(request), runner_of(request)
    if runner.waiting >= settings.max_queued:
        raise Problem(429, "Too many audits are queued. Try again later.", headers={"Retry-After": "60"})
    folder = jobs.incoming()
    try:
        sha256, options = await upload.receive_upload(request, folder / "data.jsonl", settings.max_bytes)
        job = _job(settings, sha256, options)
        await asyncio.to_thread(upload.check, folder / "data.jsonl")
        if runner.is_running(job.id) and jobs.state(job.id).status == "cancelled":
            raise Problem(
                409, "The audit is being cancelled. Send the request again shortly.", headers={"Retry-After": "5"}
            )
        if jobs.submit(job, folder):
            runner.add(job.id)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    answer.headers["Location"] = f"/v1/audits/{job.id}"
    return _view(jobs, job.id)


@router.get("/audits/{audit_id}", dependencies=[Guarded], responses=refusals(401, 404, 422))
def follow(request: Request, audit_id: KnownId) -> JobView:
    """State, progress, and the verdict once there is one."""
    return _view(jobs_of(request), audit_id)


@router.get(
    "/audits/{audit_id}/card",
    dependencies=[Guarded],
    response_class=HTMLResponse,
    responses=refusals(401, 404, 409, 422),
)
def card(request: Request, audit_id: KnownId) -> HTMLResponse:
    """The model-risk card, one page without scripts."""
    jobs = jobs_of(request)
    if jobs.state(audit_id).status != "finished":
        raise Problem(409, "The audit has no verdict yet.")
    return HTMLResponse((jobs.path(audit_id) / "audit" / "card.html").read_text(encoding="utf-8"), headers=HEADERS)


@router.delete("/audits/{audit_id}", dependencies=[Guarded], responses=refusals(401, 404, 409, 422))
async def cancel(request: Request, audit_id: KnownId) -> JobView:
    """Stop an audit that waits or runs."""
    if not await runner_of(request).cancel(audit_id):
        raise Problem(409, f"The audit is {jobs_of(request).state(audit_id).status} and cannot be cancelled.")
    return _view(jobs_of(request), audit_id)


@router.get("/health")
def health(request: Request) -> Health:
    """Open to all."""
    settings, runner = settings_of(request), runner_of(request)
    return Health(
        status="ok",
        version=__version__,
        models=sorted(settings.models),
        policy=settings.policy.name,
        policy_hash=settings.policy.hash(),
        max_bytes=settings.max_bytes,
        queued=runner.waiting,
        running=runner.running,
    )


def make_app(settings: Settings) -> FastAPI:
    """The application of one server."""
    jobs = Jobs(settings.folder)
    runner = Runner(settings, jobs)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        jobs.open()
        try:
            runner.start()
            yield
        finally:
            await runner.stop()
            jobs.close()

    app = FastAPI(title="spillover audit", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.settings, app.state.jobs, app.state.runner = settings, jobs, runner
    app.add_middleware(upload.LimitBody, limit=settings.max_bytes)
    handle_problems(app)
    app.include_router(router)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(interface.to_html(app.openapi()), headers=HEADERS)

    return app


def listen(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal ends it; running audits end with it and resume with the next server."""
    uvicorn.run(make_app(settings), host=host, port=port, limit_concurrency=MOST_CONNECTIONS, server_header=False)


def _job(settings: Settings, sha256: str, options: dict[str, str]) -> Job:
    """What the options ask for, within what the operator allows."""
    name = options.get("model", "")
    if name not in settings.models:
        hint = did_you_mean(name, sorted(settings.models))
        raise Problem(
            422, "This server does not offer the model.", [{"field": "model", "message": f"{name!r:.80}{hint}"}]
        )
    seed = _number(options, "seed", 0.0, MOST_SEED)
    budget = _number(options, "budget", settings.max_budget, settings.max_budget)
    assert seed is not None
    if seed != int(seed):
        raise Problem(422, "Invalid parameter value.", [{"field": "seed", "message": "a whole number"}])
    return Job(
        name=upload.name_of(options.get("name", "")),
        sha256=sha256,
        model=settings.models[name],
        policy=settings.policy,
        predictor=settings.predictor,
        seed=int(seed),
        budget=budget,
        created=now(),
    )


def _number(options: dict[str, str], field: str, default: float | None, most: float | None) -> float | None:
    if field not in options:
        return default
    try:
        value = float(options[field][:40])
    except ValueError:
        value = math.nan
    if not 0 <= value <= (math.inf if most is None else most) or math.isinf(value):
        message = "a number of 0 or more" if most is None else f"a number from 0 to {most:g}"
        raise Problem(422, "Invalid parameter value.", [{"field": field, "message": message}])
    return value


def _view(jobs: Jobs, job_id: str) -> JobView:
    job, state = jobs.job(job_id), jobs.state(job_id)
    running = state.status == "running"
    return JobView(
        id=job_id,
        **job.model_dump(include={"name", "sha256", "seed", "budget", "created"}),
        **state.model_dump(),
        model=job.model.name,
        progress=jobs.read(job_id, "progress.json") if running else None,
        verdict=jobs.read(job_id, "audit/card.json") if state.status == "finished" else None,
    )
