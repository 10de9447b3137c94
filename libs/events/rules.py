"""What the fields of one event must be to each other. The types say the rest (``schema.py``)."""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from libs.errors import BadEvent
from libs.events.schema import Impression, Interaction, Kind

REQUIRED: Final[Mapping[Kind, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "click": (("content_id",),),
        "view": (("content_id",),),
        "like": (("content_id",),),
        "hide": (("content_id",),),
        "reward": (("value",), ("content_id", "impression_id")),
        "seen": (("impression_id",), ("positions",)),
    }
)
"""For each kind, the fields it cannot do without; of several names in one group, any one is enough."""

# Prefix log-propensities come out of sums of exponentials; two that are equal in exact arithmetic may differ by this.
_ROUNDING = 1e-6


def check_interaction(event: Interaction) -> None:
    """Raise ``BadEvent`` when a field that this kind needs is missing."""
    for group in REQUIRED[event.kind]:
        for name in group:
            if getattr(event, name) not in (None, ()):
                break
        else:
            raise _bad(group[0], f"an interaction of kind {event.kind!r} needs {' or '.join(group)}")


def check_impression(event: Impression) -> None:
    """Raise ``BadEvent`` when lists that belong together disagree."""
    if event.history_age_s and len(event.history_age_s) != len(event.history):
        raise _bad("history_age_s", f"must have one age for each of the {len(event.history)} contents of history")
    _check_slate(event)
    if event.scores and len(event.scores) != len(event.candidates):
        raise _bad("scores", f"must have one score for each of the {len(event.candidates)} candidates")
    for name, predicted in (("choice", event.choice), ("advantage", event.advantage)):
        if predicted and len(predicted) != len(event.slate):
            raise _bad(name, f"must have one number for each of the {len(event.slate)} contents of slate")
    _check_propensities(event)


def _check_slate(event: Impression) -> None:
    shown = set(event.slate)
    if len(shown) != len(event.slate):
        raise _bad("slate", "must not show the same content twice")
    if not event.candidates:
        return
    candidates = set(event.candidates)
    if len(candidates) != len(event.candidates):
        raise _bad("candidates", "must not hold the same content twice")
    if stranger := shown - candidates:
        raise _bad("slate", f"content {min(stranger)} is not among the candidates")


def _check_propensities(event: Impression) -> None:
    if not event.log_propensities:
        return
    if len(event.log_propensities) != len(event.slate):
        raise _bad("log_propensities", f"must have one entry for each of the {len(event.slate)} contents of slate")
    for position, (shorter, longer) in enumerate(pairwise(event.log_propensities), start=1):
        if longer > shorter + _ROUNDING:
            raise _bad(
                f"log_propensities.{position}",
                "must not rise: entry i is the log-probability of the first i + 1 positions together",
            )


def _bad(field: str, detail: str) -> BadEvent:
    return BadEvent("field", f"{field}: {detail}", field)
