"""How calls reach their endpoints."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

PREFIX: Final = "/api/v1"


class Direct(APIRoute):
    """A route whose endpoint takes the request and returns the response: nothing is injected, nothing is converted.

    For the calls of every page view: FastAPI's own way to the endpoint and back takes 20 µs.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint
