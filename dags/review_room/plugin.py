"""The review room as an Airflow plugin: an application and an entry in the menu.

Every component of Airflow, each task's process too, loads plugins: nothing heavy is imported here until a page is asked for.
"""

import threading
from typing import Any

from airflow.plugins_manager import AirflowPlugin

URL_PREFIX = "/review-room"


class LateApplication:
    """The application, made when it is first asked for: only an API server is."""

    def __init__(self) -> None:
        self._application: Any = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As every ASGI application is called."""
        await self._made()(scope, receive, send)

    def _made(self) -> Any:
        with self._lock:
            if self._application is None:
                from dags.review_room.app import application  # the API server's own libraries, which no other component has loaded

                self._application = application()
            return self._application


class ReviewRoomPlugin(AirflowPlugin):
    """What Airflow reads of the plugin."""

    name = "review_room"
    fastapi_apps = [{"app": LateApplication(), "url_prefix": URL_PREFIX, "name": "Review room"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Review", "href": f"{URL_PREFIX}/", "destination": "nav", "category": "browse", "url_route": "review_room"}
    ]
