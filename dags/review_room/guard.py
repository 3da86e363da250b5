"""What holds for every request and answer of the review room, whatever its route."""

from typing import Any

LARGEST_BODY = 64 * 1024
"""Bytes of a request: the longest message in any script, with room to spare."""
HEADERS = {
    # Scripts, styles and videos of this page's own server alone, none written into a page; shown inside Airflow's page, and nobody else's.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
ELSEWHERE = (b"cross-site", b"same-site")
"""What a browser says of requests that another site's page makes it send with this one's login."""


class Guard:
    """Around an ASGI application: bounds what is sent to it, refuses what another site's page sends, and says what browsers may do with answers."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As every ASGI application is called."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
        elif (refusal := _refusal(scope["method"], dict(scope["headers"]))) is not None:
            await _refuse(send, *refusal)
        else:
            await self._application(scope, receive, _with_headers(send))


def _refusal(method: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
    if method in ("GET", "HEAD"):
        return None
    if headers.get(b"sec-fetch-site") in ELSEWHERE:
        return 403, "This was sent by another site."
    length = headers.get(b"content-length", b"")
    if not length.isdigit():
        return 411, "Say how long the request is."
    return (413, "The request is too long.") if int(length) > LARGEST_BODY else None


async def _refuse(send: Any, status: int, sentence: str) -> None:
    body = f'{{"detail":"{sentence}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Any) -> Any:
    async def _send(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            added = {**HEADERS, "cache-control": "no-store"}
            headers = [(name.encode(), value.encode()) for name, value in added.items() if name.encode() not in given]
            message = {**message, "headers": [*message["headers"], *headers]}
        await send(message)

    return _send
