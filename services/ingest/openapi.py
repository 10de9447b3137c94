"""How the routes are documented. Bodies are read by the codec, not by the framework, so their schema is given here."""

from typing import Any, Final

from libs.events.codec import MAX_BATCH_EVENTS
from libs.events.json_schema import document_schema
from libs.events.schema import Impression, Interaction
from services.ingest import answers
from services.ingest.contents import ContentBody


def _events_schema() -> dict[str, Any]:
    events = [document_schema(Interaction), document_schema(Impression)]
    batch = {
        "title": "Batch",
        "type": "object",
        "required": ["events"],
        "properties": {
            "events": {"type": "array", "minItems": 1, "maxItems": MAX_BATCH_EVENTS, "items": {"oneOf": events}}
        },
    }
    return {"oneOf": [*events, batch]}


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def _problem(model: type[answers.Problem], description: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"description": description, "model": model, "content": {"application/problem+json": {"schema": schema}}}


_TOO_LARGE: Final = _problem(answers.Problem, "The body is longer than MOARD_INGEST_BODY_MAX_BYTES.")

EVENTS: Final[dict[str, Any]] = {
    "tags": ["events"],
    "summary": "Append one event, or a batch",
    "description": f"""One event, or `{{"events": [...]}}` with at most {MAX_BATCH_EVENTS}. The answer comes after the
broker's acknowledgement (`acks=all`), and an interaction that belongs into its user's history is there by then.

- **202**: `event_ids` are the ids of the accepted events in the order of the request; events that are wrong are named
  in `errors` by index and are not among them.
- **422**: no event can be used, or the body as a whole is wrong.
- **503**: the broker is away. `event_ids` names what to send again, **under these ids** (ingest gave one to every event
  that came without; `indexes` says which is which): an event that arrived after all is then counted once.

Events of one user keep the order in which they are sent one request after another.""",
    "status_code": 202,
    "responses": {
        202: {"model": answers.Accepted, "description": "The broker has the events."},
        413: _TOO_LARGE,
        422: _problem(answers.RejectedEvents, "No event can be used."),
        503: _problem(answers.Unacknowledged, "Send again what `event_ids` names, after `Retry-After` seconds."),
    },
    "openapi_extra": _body(
        _events_schema(),
        {"type": "interaction", "user_id": "u-1", "kind": "click", "content_id": 7, "impression_id": "5f0c"},
    ),
}

CONTENTS: Final[dict[str, Any]] = {
    "tags": ["contents"],
    "summary": "Put one content",
    "description": """Replaces the content whole, in the catalogue and for everybody who ranks and learns. An
`embedding` that is left out is computed from title and description when a text model is loaded; without one the
content has no vector (`vector: "none"`) and is ranked by what is learned of its id.

PUT may be repeated: after a 503 send the same request again. The catalogue is written first; should the broker be away
then, the content is announced later even if nobody asks again.""",
    "responses": {
        200: {"model": answers.ContentAnswer},
        413: _TOO_LARGE,
        422: _problem(answers.RejectedField, "Names the field."),
        503: _problem(answers.Problem, "Database or broker are away."),
    },
    "openapi_extra": _body(
        ContentBody.model_json_schema(), {"title": "The Sting", "description": "A con, 1973.", "type": "film"}
    ),
}

USERS: Final[dict[str, Any]] = {
    "tags": ["users"],
    "summary": "Forget one user",
    "description": """Appends an erasure to the user's partition and empties the history. The learner forgets what it
waits for and the user's rows when it comes to that record, and so does everybody who reads the log again later.

What stays: weights and counts that were learned from the user; the user's records in the log until retention deletes
them, this one too; the tables of the backend. Repeating the request does no harm. What is appended for this user
afterwards is kept.""",
    "status_code": 202,
    "responses": {
        202: {"model": answers.ErasureAnswer, "description": "The broker has the erasure."},
        422: _problem(answers.RejectedField, "Not a user id: 1 to 128 characters."),
        503: _problem(answers.Problem, "The broker is away: send the request again."),
    },
}
