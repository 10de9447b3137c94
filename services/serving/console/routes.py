"""``/ui``: a page and its files for everybody, and what they show for those who may administer."""

from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Query
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, Response

from libs.adapters.http_server import LEAVING
from services.serving.bodies import answer
from services.serving.console.dead_letters import DeadLetterView
from services.serving.console.stream import VIEWERS, EventStream, Hub

PAGE: Final = Path(__file__).with_name("page")
_ASK_EACH_TIME: Final = {"cache-control": "no-cache"}  # an answer of a few bytes; after an upgrade all files are new


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_ASK_EACH_TIME)
        return response


def install_console(app: FastAPI, hub: Hub, letters: DeadLetterView) -> None:
    """Add the console. None of it is in the API's documents: it belongs to the page, and changes with it."""

    @app.get("/ui", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers=_ASK_EACH_TIME)

    @app.get("/ui/stream", include_in_schema=False)
    async def stream() -> Response:
        if hub.viewers >= VIEWERS:
            raise HTTPException(503, f"{VIEWERS} consoles are open here already: close one", {"Retry-After": "10"})
        return EventStream(hub)

    @app.get("/ui/data/settings", include_in_schema=False)
    async def settings() -> Response:
        return answer(hub.overview.settings)

    @app.get("/ui/data/dead-letters", include_in_schema=False)
    async def dead_letters(reason: Annotated[str | None, Query(max_length=32)] = None) -> Response:
        return answer({"letters": await letters.newest(reason)})

    app.mount("/ui/assets", _Files(directory=PAGE), name="console-assets")
    setattr(app.state, LEAVING, hub.leaving)
