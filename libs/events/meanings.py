"""What each field and each kind means, in one sentence: the words of the generated documents."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from libs.events.schema import Kind

_EVENT: Final = {
    "event_id": (
        "Chosen by the producer, unique for ever: an event is learned once however often it is sent. Over HTTP one is "
        "filled in and answered; on Kafka an event without one is named after its topic, partition and offset."
    ),
    "user_id": "Whose story this belongs to; in UTF-8 it is the record key.",
    "recommendation_id": "The backend's own name for this recommendation; carried along, not used.",
    "timestamp_ms": "When it happened, epoch milliseconds, UTC; the broker's append time when absent or after it.",
    "source": (
        "backfill: history that is replayed, old times are kept. live: a time more than 24 h before the append time is "
        "moved up to that."
    ),
    "type": "Which document this is.",
    "schema": "Version of this contract; 1 when absent. A reader refuses versions it does not know.",
}

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Impression": _EVENT
    | {
        "slate": "Contents shown, in order of position, none twice; among the candidates when those are given.",
        "history": "Recently consumed contents as they were known when the slate was chosen, newest first.",
        "history_age_s": "Age in seconds of each entry of history at that moment.",
        "context": "What the request said about the moment, by name: a number or a text each.",
        "candidates": "Contents the slate was chosen from, none twice.",
        "scores": "Score of each candidate, in the same order.",
        "log_propensities": (
            "Entry i is the natural logarithm of the probability that the first i + 1 positions came out like this; "
            "never rising, the last one is the slate's. All 0 when nothing was left to chance."
        ),
        "choice": "Choice logit that the snapshot predicted for each position; absent when none ranked.",
        "advantage": "Long-term value of consuming the content at each position, as the snapshot predicted it.",
        "value": "Value of this request to come, discounted, as the snapshot predicted it.",
        "continuation": "Value of what follows this request, whatever is consumed, as the snapshot predicted it.",
        "policy": "What ranked: moard's rule (value, a, p), cold, or external.",
        "arm": "How the slate was drawn: policy, uniform (exploration), greedy (no chance), external (not by moard).",
        "temperature": "Temperature of the draw.",
        "epsilon": "Probability of the uniform arm.",
        "snapshot_version": "Version of the snapshot that ranked, 0 for none.",
    },
    "Interaction": _EVENT
    | {
        "kind": "What the user did.",
        "content_id": "With which content.",
        "impression_id": "event_id of the impression that showed it; when absent, matched by user, content and time.",
        "dwell_ms": "How long the content was looked at, milliseconds.",
        "ratio": "Which share of it was watched or read, 0 to 1.",
        "value": "The reward of kind reward.",
        "positions": "For kind seen: positions of the impression's slate that came into view, the first is 0.",
    },
    "Erasure": {
        "event_id": _EVENT["event_id"],
        "user_id": "Who is forgotten; in UTF-8 it is the record key.",
        "timestamp_ms": "When it was asked for, epoch milliseconds, UTC; what counts is where the record stands.",
        "type": _EVENT["type"],
        "schema": _EVENT["schema"],
    },
    "Content": {
        "content_id": "The backend's id; in decimal it is the record key.",
        "title": "Title, may be empty.",
        "description": "Description, may be empty; markup is ignored.",
        "embedding": "Text vector, as long as the setting vector_size says; computed from the text when absent.",
        "vector_version": "Which text model made the vector; empty for one that came with the content.",
        "kind": "What sort of content it is; carried along, not used.",
        "hidden": "True: never propose or rank it from now on.",
        "published_at_ms": "When it was published, epoch milliseconds, UTC.",
        "type": _EVENT["type"],
        "schema": _EVENT["schema"],
    },
}


class KindMeaning(NamedTuple):
    """What learning makes of one kind of interaction."""

    choice: str
    moves_history: str
    term: str


KINDS: Final[Mapping[Kind, KindMeaning]] = {
    "click": KindMeaning("yes", "yes", "1"),
    "view": KindMeaning(
        "no", "yes, from a set dwell on", "min(1, log1p(dwell_ms) / log1p(cap)), and the watched ratio"
    ),
    "like": KindMeaning("yes", "yes", "1"),
    "hide": KindMeaning("no", "no", "−1"),
    "reward": KindMeaning("no", "no", "value"),
    "seen": KindMeaning("no", "no", "none"),
}
"""For each kind: does it count as a choice, does it move the user's history, and its reward term."""
