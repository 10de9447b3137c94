"""The calls that administer models: the legacy ``model/…`` and the new ``snapshots…``."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Query, Request
from starlette.responses import Response

from libs.adapters.model_ports import Pin
from libs.adapters.problems import REQUEST_ID
from libs.errors import ModelConflict, NoSnapshot
from services.serving.bodies import answer
from services.serving.model_schemas import ChangesAnswer, DeletedModel, LineageAnswer, ModelAnswer, ModelsAnswer
from services.serving.models import NAME, Ancestor, Models
from services.serving.schemas import LATEST

_PREFIX: Final = "models/"  # the legacy page deletes what it was told was saved: models/<name>
_KEY: Final = "moard.key"  # of the ASGI scope: who asked, where callers are asked for keys
_ANONYMOUS: Final = "anonymous"

_AWAY: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "SQL or Redis is away: try again."}}
_UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No such model or snapshot."}}
_CONFLICT: Final[dict[int | str, dict[str, Any]]] = {
    409: {"description": "The model is in use, the name is taken or reserved, or the snapshot cannot rank."}
}

Name = Annotated[str, Query(pattern=NAME, description="Name of a model.")]
PathName = Annotated[str, Path(pattern=NAME.replace("^", "^(models/)?", 1), description="Name, also as models/<name>.")]
Version = Annotated[int, Path(ge=1, lt=2**63, description="Version of a snapshot.")]


def actor_of(request: Request) -> str:
    """Return who asks, as the audit log calls them: the id of their key, or ``anonymous`` where none is asked for."""
    key = request.scope.get(_KEY)
    return _ANONYMOUS if key is None else str(key.id)


def model_routes(models: Models) -> APIRouter:
    """Return the routes over the administration."""
    router = APIRouter(tags=["model"])
    _add_legacy(router, models)
    _add_snapshots(router, models)
    return router


def _add_legacy(router: APIRouter, models: Models) -> None:
    @router.get("/model/list", response_model=ModelsAnswer, responses=_AWAY)
    async def listed() -> Response:
        """Name the models that can rank, and the one that does (legacy)."""
        names = await models.names()
        return answer(
            {
                "models": names,
                "current_model": models.current_name,
                "snapshot_version": models.served_version,
                "message": _standing(models),
            }
        )

    @router.post("/model/change", response_model=ModelAnswer, responses=_UNKNOWN | _CONFLICT | _AWAY)
    async def change(request: Request, model_name: Name) -> Response:
        """Rank with a kept model, in every worker within a second; `latest` follows the learner again (legacy)."""
        with _refusals():
            if model_name == LATEST:
                await models.unpin(*_asked(request))
                return _ranks(LATEST, models.served_version)
            pin = await models.pin_name(model_name, *_asked(request))
        return _ranks(model_name, pin.version)

    @router.delete("/model/{name:path}", response_model=DeletedModel, responses=_UNKNOWN | _CONFLICT | _AWAY)
    async def delete(request: Request, name: PathName) -> Response:
        """Forget a kept model (legacy). A name is looked up in a table; it never becomes a path."""
        bare = name.removeprefix(_PREFIX)
        with _refusals():
            await models.delete(bare, *_asked(request))
        return answer({"message": f"{bare} is deleted", "deleted_path": f"{_PREFIX}{bare}"})


def _add_snapshots(router: APIRouter, models: Models) -> None:
    @router.get("/snapshots", response_model=LineageAnswer, responses=_AWAY)
    async def lineage() -> Response:
        """List every snapshot that could rank, and which one is newest, pinned and in use."""
        ancestors, pin, now_ms = await models.lineage(), models.pin, time.time_ns() // 1_000_000
        return answer(
            {
                "snapshots": [_line(ancestor, now_ms) for ancestor in ancestors],
                "pinned": pin.name,
                "pinned_by": pin.changed_by if pin.name is not None else None,
                "served_version": models.served_version,
            }
        )

    @router.get("/snapshots/changes", response_model=ChangesAnswer, responses=_AWAY)
    async def changes(limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> Response:
        """Read the audit log: who kept, pinned, unpinned or deleted what, newest first."""
        return answer({"changes": await models.changes(limit)})

    @router.post("/snapshots/{version}/keep", response_model=ModelAnswer, responses=_UNKNOWN | _CONFLICT | _AWAY)
    async def keep(request: Request, version: Version, name: Name) -> Response:
        """Keep a snapshot under a name, beyond retention and an emptied Redis."""
        with _refusals():
            await models.keep_version(version, name, *_asked(request))
        message = f"Snapshot {version} is kept as {name}"
        return answer({"model_name": name, "snapshot_version": version, "message": message})

    @router.post("/snapshots/{version}/pin", response_model=ModelAnswer, responses=_UNKNOWN | _CONFLICT | _AWAY)
    async def pin(request: Request, version: Version) -> Response:
        """Roll back, or hold: rank with this snapshot, in every worker within a second, until it is unpinned."""
        with _refusals():
            pinned: Pin = await models.pin_version(version, *_asked(request))
        return _ranks(str(pinned.name), version)

    @router.delete("/snapshots/pin", response_model=ModelAnswer, responses=_AWAY)
    async def unpin(request: Request) -> Response:
        """Follow the learner again. Doing so twice is no error."""
        await models.unpin(*_asked(request))
        return _ranks(LATEST, models.served_version)


def _asked(request: Request) -> tuple[str, str]:
    return actor_of(request), str(request.scope.get(REQUEST_ID, ""))


@contextmanager
def _refusals() -> Iterator[None]:
    """Answer what the administration refuses."""
    try:
        yield
    except NoSnapshot as error:
        raise HTTPException(404, str(error)) from None
    except ModelConflict as error:
        raise HTTPException(409, str(error)) from None


def _ranks(name: str, version: int) -> Response:
    return answer({"model_name": name, "snapshot_version": version, "message": f"{name} ranks"})


def _standing(models: Models) -> str:
    version, pin = models.served_version, models.pin
    ranks = f"Snapshot {version} ranks" if version else "No snapshot yet: ranking by popularity"
    if pin.name is not None and version != pin.version:
        return f"{ranks}, although {pin.name} is pinned: it could not be loaded, or failed a check"
    return ranks


def _line(ancestor: Ancestor, now_ms: int) -> dict[str, Any]:
    meta = ancestor.meta
    known = {name: getattr(meta, name) for name in ("version", "epoch", "step", "created_ms", "size_bytes", "sha256")}
    flags = {name: value for name, value in dataclasses.asdict(ancestor).items() if name != "meta"}
    return known | flags | {"offsets": dict(meta.offsets), "age_s": (now_ms - meta.created_ms) / 1_000}
