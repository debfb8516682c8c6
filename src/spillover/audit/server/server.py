"""The process that listens."""

from __future__ import annotations

import uvicorn

from spillover.audit.server.app import make_app
from spillover.audit.server.settings import Settings

MOST_CONNECTIONS = 256


def listen(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal ends it; running audits end with it and resume with the next server."""
    uvicorn.run(make_app(settings), host=host, port=port, limit_concurrency=MOST_CONNECTIONS, server_header=False)
