"""``moard doctor`` on settings: what each service would refuse to start with."""

import asyncio
from importlib import import_module
from typing import Any, Final

from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.key_store import SqlKeyStore
from libs.adapters.settings import load_settings
from libs.errors import RefusedStart
from services.cli.diagnosis import Finding, mistake, ok

SERVICES: Final = ("ingest", "learner", "serving")
_REMEDY: Final = "set it in the environment or in .env: moard config shows what is in force and where it comes from"


async def settings_check() -> list[Finding]:
    """Read each service's settings as its start would."""
    return await asyncio.to_thread(lambda: [_of(service) for service in SERVICES])


def _of(service: str) -> Finding:
    check = f"settings of {service}"
    try:
        settings: Any = load_settings(import_module(f"services.{service}.settings").Settings)
        host = getattr(settings, f"{service}_host", None)
        if host is not None:
            variable = f"MOARD_{service.upper()}_HOST"
            refuse_unsafe_bind(host, settings.allow_insecure, variable, lambda: SqlKeyStore(settings.database_url))
    except RefusedStart as error:
        return mistake(check, " ".join(str(error).split()), _REMEDY)
    return ok(check, "it would start")
