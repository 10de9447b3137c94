"""What ``moard doctor`` says of one thing: whether it is well, and if not what to do."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from libs.errors import RefusedStart, StoreUnavailable

State: TypeAlias = Literal["ok", "mistake", "unknown"]

SKEW_MS: Final = 2_000
"""Clocks further apart than this confuse ages and freshness, which moard counts in seconds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``unknown``: something it needs is away, which is a finding of its own."""

    check: str
    state: State
    detail: str
    remedy: str = ""


Check: TypeAlias = Callable[[], Coroutine[Any, Any, list[Finding]]]


def ok(check: str, detail: str) -> Finding:
    """Return that all is well."""
    return Finding(check, "ok", detail)


def mistake(check: str, detail: str, remedy: str) -> Finding:
    """Return what is wrong and what to do."""
    return Finding(check, "mistake", detail, remedy)


def judged(check: str, fine: str, mistakes: list[Finding]) -> list[Finding]:
    """Return the mistakes, or that there are none."""
    return mistakes or [ok(check, fine)]


def skewed(check: str, whose: str, theirs_ms: int, now_ms: int) -> Finding:
    """Compare another clock with this machine's."""
    apart_ms = theirs_ms - now_ms
    if abs(apart_ms) <= SKEW_MS:
        return ok(check, f"{whose} clock is {abs(apart_ms) / 1_000:.1f} s from this machine's")
    side = "ahead of" if apart_ms > 0 else "behind"
    detail = f"{whose} clock is {abs(apart_ms) / 1_000:,.0f} s {side} this machine's"
    return mistake(
        check, detail, "run chrony or systemd-timesyncd on both machines: ages and freshness are differences"
    )


def answers(check: Check, name: str, remedy: str) -> Check:
    """Return a check that turns a server which does not answer into a finding, and asks it nothing more."""

    async def guarded() -> list[Finding]:
        try:
            return [ok(name, "answers"), *await check()]
        except (StoreUnavailable, RefusedStart, TimeoutError) as error:
            return [mistake(name, str(error) or "does not answer", remedy)]

    return guarded


async def examined(checks: list[Check], done: Callable[[], object]) -> list[Finding]:
    """Run the checks one after another, so that none looks slow because of another, and return what they found."""
    found: list[Finding] = []
    for check in checks:
        found += await check()
        done()
    return found
