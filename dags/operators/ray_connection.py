"""Where Ray's job API is and how it is spoken to: read from an Airflow connection."""

import asyncio
import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from schemas.locations import without_secrets

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
"""Where a Ray head on this machine has its dashboard and job API."""
NO = frozenset({"false", "no", "0"})
"""Spellings of a switch that is off, where a connection is given as a URI and knows text alone."""


@dataclass(frozen=True, repr=False)
class RayAddress:
    """Where Ray's job API is, and what it asks for. No printed form of this holds a secret.

    verify: whether the server's certificate is checked, or the file of the authorities that it is checked against.
    client_certificate, client_key: files with which this side shows who it is; the key may be in the certificate's file.
    """

    url: str = DEFAULT_ADDRESS
    token: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    verify: bool | str = True
    client_certificate: str | None = None
    client_key: str | None = None

    def __str__(self) -> str:
        return without_secrets(self.url)

    def __repr__(self) -> str:
        return f"RayAddress({self})"

    def request_headers(self) -> dict[str, str]:
        """What each request carries. A token goes before an `Authorization` among the headers."""
        return {**dict(self.headers), **({"Authorization": f"Bearer {self.token}"} if self.token else {})}

    def tls(self) -> ssl.SSLContext | bool:
        """What a client checks certificates with; made once for all of an address. Raises OSError for files that cannot be used."""
        return _tls(self.verify, self.client_certificate, self.client_key)


@functools.cache  # reading the authorities takes as long as twenty requests
def _tls(verify: bool | str, certificate: str | None, key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else httpx.create_ssl_context(verify=verify)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def read_address(connection_id: str) -> RayAddress | None:
    """The address that an Airflow connection gives; None when there is no such connection."""
    try:
        return address_of(Connection.get(connection_id))
    except AirflowNotFoundException:
        return None


async def read_address_async(connection_id: str) -> RayAddress | None:
    """As `read_address`, for an event loop."""
    # In a thread of its own: Connection.async_get finds nothing where a trigger runs within `airflow dags test`.
    return await asyncio.to_thread(read_address, connection_id)


def address_of(connection: Any) -> RayAddress:
    """The address in an Airflow connection: host, port, schema, the token as password, and of `extra` what RayAddress has."""
    host = connection.host or "127.0.0.1"
    if "://" not in host:
        scheme = connection.schema or ("https" if connection.conn_type == "https" else "http")
        host = f"{scheme}://{host}"
    extra: Mapping[str, Any] = connection.extra_dejson or {}
    return RayAddress(
        url=f"{host}:{connection.port}" if connection.port else host,
        token=connection.password or None,
        headers=tuple((str(name), str(value)) for name, value in (extra.get("headers") or {}).items()),
        verify=_verify(extra.get("verify", True)),
        client_certificate=extra.get("client_certificate") or None,
        client_key=extra.get("client_key") or None,
    )


def _verify(told: Any) -> bool | str:
    if isinstance(told, bool):
        return told
    text = str(told)
    if text.lower() in NO:
        return False
    return True if text.lower() in ("", "true", "yes", "1", "none") else text
