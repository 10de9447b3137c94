"""What is wrong, and what to do about it: judged once here, so that every page says the same."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

SILENT_S: Final = 5.0
"""A service publishes each second; a busy machine makes that two or three."""

_BEHIND_S: Final = 10.0
_CHECKPOINTS_LATE: Final = 4.0  # intervals; writing one takes part of the next

_START: Final = {
    "learner": "start it: docker compose up -d learner, or python -m services.learner; the end of its log says why it "
    "is gone",
    "ingest": "start it: docker compose up -d ingest, or python -m services.ingest; the end of its log says why it is "
    "gone",
    "serving": "start it: docker compose up -d serving, or python -m services.serving",
}
_WAITS: Final = {
    "broker": "check that Kafka runs and that KAFKA_BOOTSTRAP_SERVERS leads to it",
    "topics": "check that Kafka runs, and that this service may create topics",
    "tables": "check that the database runs; python -m infra.migrations makes the tables",
    "keys": "the database with the API keys does not answer: check DATABASE_URL",
    "contents": "the catalogue is being read from Kafka; if this lasts, check that Kafka runs",
    "snapshot": "check that Redis runs and that REDIS_URL leads to it",
    "warm-up": "a first ranking is being made; this takes a moment",
}
_DEGRADED: Final = {
    "history": "Redis is slow or away: rankings do without the user's history",
    "catalogue": "the database is slow or away: unknown contents are left out",
    "users": "the database is slow or away: unknown users are taken for new ones",
    "snapshot": "no snapshot serves yet: contents are ranked by popularity",
    "impression": "Kafka is slow or away: impressions are lost, and with them what could be learned from their clicks",
}


class Problem(NamedTuple):
    """``level`` is ``bad`` (something does not work), ``warn`` (it soon may not) or ``note`` (as somebody wanted)."""

    level: str
    part: str
    text: str
    remedy: str


def problems(parts: list[dict[str, Any]], board_away: str | None, rates: Mapping[str, float]) -> list[Problem]:
    """Return what is wrong, the worst first.

    Parameters
    ----------
    parts
        Statuses with ``age_s``.
    board_away
        Why the statuses of others cannot be read, None when they can.
    rates
        Answers without a part per second, ``degraded:<part>``.
    """
    found: list[Problem] = []
    if board_away is not None:
        remedy = "check that Redis runs and that REDIS_URL leads to it; rankings go on with what is in memory"
        found.append(Problem("bad", "Redis", "Redis does not answer: what is shown of other services is old", remedy))
    else:
        found += _absent(parts)
    for part in parts:
        if part["age_s"] <= SILENT_S:
            found += _judged(part)
    found += _degraded(rates)
    return sorted(dict.fromkeys(found), key=lambda problem: ("bad", "warn", "note").index(problem.level))


def _absent(parts: list[dict[str, Any]]) -> Iterator[Problem]:
    for service, remedy in _START.items():
        heard = [part for part in parts if part["service"] == service]
        if any(part["age_s"] <= SILENT_S for part in heard):
            continue
        ago = f"No {service} for {min(part['age_s'] for part in heard):.0f} s" if heard else f"No {service} is running"
        yield Problem("bad", service, ago, remedy)


def _judged(part: dict[str, Any]) -> list[Problem]:
    try:
        return [*_of_any(part), *_JUDGES[part["service"]](part)]
    except (KeyError, TypeError):  # said by another version
        text = f"Version {part.get('version')} says of itself what this one does not understand"
        return [Problem("warn", f"{part['service']} {part['instance']}", text, "run one version of all services")]


def _of_any(part: dict[str, Any]) -> Iterator[Problem]:
    health, who = part["health"], f"{part['service']} {part['instance']}"
    if health["state"] == "failing":
        yield Problem("bad", who, "The loop or the training thread stands still", "restart it; its log says what ended")
    for missing in health["waiting_for"]:
        yield Problem("warn", who, f"Waits for: {missing}", _WAITS.get(missing, "this takes a moment after a start"))
    for alarm in health["alarms"]:
        yield Problem("bad", who, f"Alarm: {alarm['alarm'].replace('_', ' ')}", alarm["remedy"])


def _of_learner(part: dict[str, Any]) -> Iterator[Problem]:
    lag, checkpoint, who = part["lag"], part["checkpoint"], f"learner {part['instance']}"
    if lag["seconds"] > _BEHIND_S and lag["drain_s"] is None:
        text = f"{lag['records']:.0f} records behind, and not catching up"
        yield Problem("warn", who, text, "events come faster than they are learned: give it a core of its own")
    if checkpoint["age_s"] > _CHECKPOINTS_LATE * part["settings"]["MOARD_LEARNER_CHECKPOINT_INTERVAL_S"]:
        text = f"No checkpoint for {checkpoint['age_s']:.0f} s"
        yield Problem("bad", who, text, "see whether the disk under MOARD_LEARNER_CHECKPOINT_PATH is full")
    if part["gap_records"]:
        text = f"{part['gap_records']:.0f} records fell off retention before they were learned"
        yield Problem("warn", who, text, "raise MOARD_EVENTS_RETENTION_HOURS if the learner may be away that long")
    if invalid := part["evaluation"]["window"]["invalid"]:
        text = f"Estimates of other policies must not be believed: {', '.join(invalid).replace('_', ' ')}"
        yield Problem("warn", who, text, "check that logged propensities are those of what was shown")


def _of_ingest(part: dict[str, Any]) -> Iterator[Problem]:
    if held := part["catalogue"]["removals_held"]:
        text = f"{held:.0f} contents vanished from the table at once and are kept"
        remedy = "if that is right, raise MOARD_CATALOGUE_REMOVAL_SHARE; else DATABASE_URL may name another database"
        yield Problem("warn", f"ingest {part['instance']}", text, remedy)


def _of_serving(part: dict[str, Any]) -> Iterator[Problem]:
    snapshot, who = part["snapshot"], f"serving {part['instance']}"
    if snapshot["pin"] is None:
        return
    if snapshot["version"] != snapshot["pinned_version"]:
        text = f"{snapshot['pin']} is pinned, and could not be loaded or failed a check"
        yield Problem("bad", who, text, "its log names the check; pin another snapshot, or unpin")
        return
    text = f"{snapshot['pin']} is pinned: learning goes on, and nothing newer ranks"
    yield Problem("note", "serving", text, "unpin it under Snapshots to follow the learner again")


def _degraded(rates: Mapping[str, float]) -> Iterable[Problem]:
    for reason, remedy in _DEGRADED.items():
        if (per_s := rates.get(f"degraded:{reason}", 0.0)) > 0:
            yield Problem("warn", "serving", f"{per_s:.1f} answers a second without: {reason}", remedy)


_JUDGES: Final = {"learner": _of_learner, "ingest": _of_ingest, "serving": _of_serving}
