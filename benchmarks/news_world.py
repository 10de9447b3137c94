"""VW's simulated news personalisation (its tutorial "Simulating Content Personalization with Contextual Bandits").

Two users come in the morning or in the afternoon; of seven contents each likes one at that time of day. Then tastes
change. The best click rate there is, is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

USERS: Final = ("Tom", "Anna")
TIMES: Final = ("morning", "afternoon")
CONTENTS: Final = ("politics", "sports", "music", "food", "finance", "health", "camping")

Taste: TypeAlias = dict[tuple[str, str], str]
"""What each user likes at each time of day."""

FIRST: Final[Taste] = {
    ("Tom", "morning"): "politics",
    ("Tom", "afternoon"): "music",
    ("Anna", "morning"): "sports",
    ("Anna", "afternoon"): "politics",
}
KNOWN: Final[Taste] = FIRST | {("Tom", "afternoon"): "sports", ("Anna", "afternoon"): "sports"}
"""The tutorial's second scenario: half of the tastes change, to contents that somebody liked before."""
UNKNOWN: Final[Taste] = {
    ("Tom", "morning"): "food",
    ("Tom", "afternoon"): "sports",
    ("Anna", "morning"): "music",
    ("Anna", "afternoon"): "food",
}
"""Its third: all of them change, to contents that nobody liked at that time before."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One decision to make: who comes when, and what would be clicked."""

    user: str
    time_of_day: str
    likes: int


def visits(phases: Sequence[Taste], each: int, seed: int) -> list[Visit]:
    """Return ``each`` visits under every taste in turn; who comes when does not depend on the tastes."""
    rng = np.random.default_rng([seed, 4])
    drawn = rng.integers(0, 2, (len(phases) * each, 2)).tolist()
    return [
        Visit(USERS[who], TIMES[when], CONTENTS.index(phases[turn // each][USERS[who], TIMES[when]]))
        for turn, (who, when) in enumerate(drawn)
    ]
