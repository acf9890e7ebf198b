"""What an Airflow connection holds, as those see it who must not import Airflow."""

from __future__ import annotations

from typing import Any, Protocol


class ConnectionFields(Protocol):
    """The fields of a connection; ``airflow.sdk.Connection`` fits."""

    @property
    def conn_id(self) -> str:
        """Its id."""
        ...

    @property
    def conn_type(self) -> str | None:
        """Its type, such as ``http``."""
        ...

    @property
    def host(self) -> str | None:
        """Its host, for ``http`` with or without scheme and path."""
        ...

    @property
    def schema(self) -> str | None:
        """Its schema: of a database its name, of ``http`` the scheme."""
        ...

    @property
    def login(self) -> str | None:
        """Its user."""
        ...

    @property
    def password(self) -> str | None:
        """Its password or token; never written into a message."""
        ...

    @property
    def port(self) -> int | None:
        """Its port."""
        ...

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """Its ``extra``, read as JSON; empty when there is none."""
        ...
