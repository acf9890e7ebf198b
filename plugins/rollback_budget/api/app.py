"""The app that Airflow mounts: every route asks Airflow who is there and what they may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

URL_PREFIX = "/rollback-budget"

_Message = MutableMapping[str, Any]


class LazyApp:
    """Builds the app at its first request: every component of Airflow loads plugins, and one serves them."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Serve one request."""
        if self._app is None:
            self._app = make_app()
        await self._app(scope, receive, send)


def make_app() -> FastAPI:
    """Return the app; nothing of it is open to anonymous users, and it publishes no description."""
    from airflow.api_fastapi.core_api.security import requires_authenticated
    from fastapi import Depends, FastAPI, Request
    from fastapi.responses import JSONResponse

    from rollback_budget.api import chart, suspensions
    from rollback_budget.exceptions import LedgerRuleError, LedgerUnavailableError

    app = FastAPI(
        title="Rollback Budget",
        dependencies=[Depends(requires_authenticated())],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.include_router(suspensions.router)
    app.include_router(chart.router)

    def unavailable(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503)

    def refused(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=409)

    app.add_exception_handler(LedgerUnavailableError, unavailable)
    app.add_exception_handler(LedgerRuleError, refused)
    return app
