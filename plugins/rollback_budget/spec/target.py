"""Who serves a rollout's traffic, and how to read and change it, as the spec says it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from rollback_budget.spec.frozen import Frozen


class HttpRead(Frozen):
    """How to ask who serves.

    :param weights: JMESPath to an object of version -> share of traffic (any scale; shares are normalised).
    :param revision: JMESPath to a revision or ETag that changes with every change; None when there is none.
    """

    method: Literal["GET", "POST"] = "GET"
    path: str
    weights: str = "weights"
    revision: str | None = None


class HttpWrite(Frozen):
    """How to set who serves.

    Whole strings (keys and values) in ``body`` and ``headers`` that equal ``$release``, ``$baseline``,
    ``$release_share``, ``$baseline_share``, ``$revision`` or ``$idempotency_key`` are replaced by data, and
    so are path segments (percent-encoded). Nothing is ever interpolated as text.
    """

    method: Literal["PUT", "POST", "PATCH"] = "PUT"
    path: str
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict)


class HttpTarget(Frozen):
    """A router, gateway or deploy controller behind an Airflow ``http`` connection.

    :param write: None when a team's own operators move the traffic, and it is only read here.
    :param ship_share: fraction of traffic for the release while it is watched, between 0 and 1.
    :param deadline: how long a rollback may take until it is verified.
    :param request_timeout: how long one request may take.
    """

    type: Literal["http"] = "http"
    conn_id: str
    read: HttpRead
    write: HttpWrite | None = None
    ship_share: float = Field(default=0.5, gt=0, le=1)
    deadline: timedelta = timedelta(minutes=5)
    request_timeout: timedelta = timedelta(seconds=10)


Target = HttpTarget
