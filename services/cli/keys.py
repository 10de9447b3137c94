"""``moard keys``: make, list and revoke API keys. Services notice within five seconds, without a restart."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libs.errors import RefusedStart

if TYPE_CHECKING:
    from libs.adapters.ports import KeyStore, StoredKey

AnswerT = TypeVar("AnswerT")

_DAY_MS = 24 * 3_600_000
_MAX_NAME = 200

keys = typer.Typer(help="API keys of ingest and serving.", no_args_is_help=True)
console = Console()
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="Who will use it, for people; a key is known by its id.")],
    scopes: Annotated[str, typer.Option(help="Comma-separated: ingest, rank, admin, metrics.")],
    expires_days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Days until it ends by itself.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once: only its SHA-256 is kept.

    For rotation make a second key, hand it out, then revoke the first: both are valid meanwhile.
    """
    from libs.adapters.keys import new_key, scopes_of

    if not 1 <= len(name) <= _MAX_NAME:
        raise typer.BadParameter(f"1 to {_MAX_NAME} characters", param_hint="--name")
    try:
        wanted = scopes_of(scopes)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--scopes") from None
    expires_ms = None if expires_days is None else _now_ms() + expires_days * _DAY_MS
    key, stored = new_key(name, wanted, expires_ms)
    _with_store(lambda store: store.add(stored))
    if as_json:
        typer.echo(json.dumps({**_public(stored), "key": key}))
        return
    typer.echo(key)
    typer.echo(
        f"\nKey {stored.id} ({', '.join(stored.scopes)}), {_until(stored)}. It is not shown again: keep it now.\n"
        "Callers send it as  Authorization: Bearer <key>",
        err=True,
    )


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """Show every key: its id, name, scopes and state; never the key."""
    from libs.adapters.keys import listed

    found = listed(_with_store(lambda store: store.keys()), _now_ms())
    if as_json:
        typer.echo(json.dumps([{**_public(key), "state": state} for key, state in found]))
        return
    if not found:
        console.print("No keys: services answer on loopback only, and ask nobody. Make one with: moard keys create")
        return
    table = Table("id", "name", "scopes", "created", "expires", "state")
    for key, state in found:
        scopes = ", ".join(key.scopes)
        table.add_row(key.id, escape(key.name), scopes, _day(key.created_ms), _day(key.expires_ms), state)
    console.print(table)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `moard keys list` shows it.")]) -> None:
    """End a key for good. Revoking the last one opens nothing: services go on asking for a key."""
    if not _with_store(lambda store: store.revoke(key_id, _now_ms())):
        raise RefusedStart(f"there is no key {key_id!r}: see moard keys list")
    console.print(f"Key {escape(key_id)} is revoked; services refuse it within five seconds.")


def _with_store(work: "Callable[[KeyStore], Awaitable[AnswerT]]") -> AnswerT:
    from sqlalchemy import make_url

    from libs.adapters.key_store import SqlKeyStore
    from libs.adapters.settings import StackSettings, load_settings

    url = load_settings(StackSettings).database_url
    if make_url(url).get_backend_name() == "sqlite":
        from infra.migrations import upgrade

        upgrade(url)  # the embedded file is ours alone, as for the services

    async def worked() -> AnswerT:
        store = SqlKeyStore(url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(worked())


def _public(key: "StoredKey") -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
    }


def _until(key: "StoredKey") -> str:
    return "valid until it is revoked" if key.expires_ms is None else f"valid until {_day(key.expires_ms)}"


def _day(epoch_ms: int | None) -> str:
    return "never" if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
