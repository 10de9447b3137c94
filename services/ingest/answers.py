"""What ingest answers: the documented shapes, and the functions that fill them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response

from libs.adapters.problems import problem
from libs.errors import BadEvent
from libs.events.codec import Rejection
from libs.events.schema import Event
from services.ingest.contents import Put
from services.ingest.erasure import Requested

EventIds = Annotated[list[str], Field(description="In the order of the request.")]


class RejectedEvent(BaseModel):
    """One event that was not accepted."""

    index: int = Field(description="Place in the request, from 0.")
    field: str = Field(description="Dotted path of the field at fault; empty: the event as a whole.")
    reason: str = Field(description="What to change.")


class Accepted(BaseModel):
    """The broker has these events."""

    accepted: int
    event_ids: EventIds = Field(
        description="Ids of the accepted events, those that ingest gave included, in the order of the request: the "
        "events that `errors` does not name."
    )
    errors: list[RejectedEvent]


class Problem(BaseModel):
    """RFC 9457, with a readable `detail`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str | None = Field(None, description="Names this request in the logs.")


class RejectedField(Problem):
    """The request cannot be used."""

    field: str = Field(description="Dotted path of the first field at fault; empty: the body as a whole.")


class RejectedEvents(RejectedField):
    """No event of the request can be used."""

    errors: list[RejectedEvent] = Field(description="Empty when the body as a whole is wrong.")


class Unacknowledged(Problem):
    """The broker did not acknowledge everything in time.

    Send the events that `event_ids` names again, under these ids: one that arrived after all is then counted once.
    """

    event_ids: EventIds = Field(description="Ids of the events to send again; empty: the request was not read.")
    indexes: list[int] = Field(description="Places of these events in the request.")
    acknowledged: EventIds = Field(description="Ids of the events that the broker has: do not send them again.")
    errors: list[RejectedEvent] = Field(description="Events that would be refused again.")


class ContentAnswer(BaseModel):
    """The content is kept and announced."""

    content_id: int
    vector: Literal["given", "computed", "none"] = Field(description="Where its text vector comes from.")
    vector_version: str = Field(description="The text model that computed the vector; empty: none did.")


class ErasureAnswer(BaseModel):
    """The broker has the erasure: whoever reads the log forgets the user when coming there."""

    event_id: str
    partition: int = Field(description="Of moard.events, where the record lies.")
    until: int = Field(description="The offset after it: whoever has read up to here has forgotten.")


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and what goes with it. Of a problem, ``body`` holds ``detail`` and the members beside it."""

    status: int
    body: Mapping[str, Any]
    retry_after_s: int | None = None

    def response(self, request_id: str | None) -> Response:
        """Return it as HTTP has it."""
        if self.status < 400:
            return Response(orjson.dumps(self.body), self.status, media_type="application/json")
        members = {name: value for name, value in self.body.items() if name != "detail"}
        headers = None if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return problem(self.status, self.body["detail"], request_id, headers, members)


def accepted(events: Sequence[Event], errors: Sequence[Rejection]) -> Answer:
    """Answer for events that the broker has."""
    ids = [event.event_id for event in events]
    return Answer(202, {"accepted": len(ids), "event_ids": ids, "errors": _listed(errors)})


def rejected(errors: Sequence[Rejection]) -> Answer:
    """Answer when no event can be used."""
    first = errors[0]
    detail = first.reason if len(errors) == 1 else f"all {len(errors)} events are wrong, the first: {first.reason}"
    return Answer(422, {"detail": detail, "field": first.field, "errors": _listed(errors)})


def refused(error: BadEvent, **members: object) -> Answer:
    """Answer to a request that is wrong as a whole."""
    return Answer(422, {"detail": error.detail, "field": error.field, **members})


def unacknowledged(
    lost: Sequence[tuple[int, Event]], kept: Sequence[Event], errors: Sequence[Rejection], retry_after_s: int
) -> Answer:
    """Answer when the broker did not acknowledge everything in time; says what to send again."""
    body = {
        "detail": f"the broker did not acknowledge {len(lost)} event(s) in time: send them again under the same ids",
        "event_ids": [event.event_id for _, event in lost],
        "indexes": [index for index, _ in lost],
        "acknowledged": [event.event_id for event in kept],
        "errors": _listed(errors),
    }
    return Answer(503, body, retry_after_s)


def overloaded(retry_after_s: int) -> Answer:
    """Answer to a request that was not read because too much waits for the broker already."""
    detail = "too many events wait for the broker: send the request again"
    nothing: dict[str, Any] = {"event_ids": [], "indexes": [], "acknowledged": [], "errors": []}
    return Answer(503, {"detail": detail, **nothing}, retry_after_s)


def unavailable(detail: str, retry_after_s: int) -> Answer:
    """Answer when a store is away."""
    return Answer(503, {"detail": detail}, retry_after_s)


def put_done(put: Put) -> Answer:
    """Answer for a content that is kept and announced."""
    return Answer(200, asdict(put))


def erasure_requested(requested: Requested) -> Answer:
    """Answer for an erasure that the broker has."""
    return Answer(202, asdict(requested))


def not_ready(waiting_for: Sequence[str], retry_after_s: int) -> Answer:
    """Answer while something is missing."""
    body = {"detail": f"waiting for {', '.join(waiting_for)}", "ready": False, "waiting_for": list(waiting_for)}
    return Answer(503, body, retry_after_s)


def _listed(errors: Sequence[Rejection]) -> list[dict[str, Any]]:
    return [asdict(error) for error in errors]
