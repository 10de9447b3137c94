"""What goes wrong with learning and raises nothing by itself: detectors over the reports of updates (rl.md §10)."""

from collections.abc import Mapping
from typing import Final

from libs.rl.exposure import Exposure
from libs.rl.report import Report
from libs.rl.settings import AgentSettings

REMEDIES: Final[Mapping[str, str]] = {
    "divergence": "values passed their bound or a gradient was not finite: nothing is published, the last good weights "
    "are restored; lower the reward's range or the step (lr, id_lr) if it comes again",
    "joiner_broken": "hardly any request is followed by another of the same user: check user ids, clocks and horizon_s",
    "no_advantage": "A is the same for every content of a slate: check that rewards differ and that interactions name "
    "their impression",
    "feedback_loop": "slates show fewer contents, less evenly and more surely than before: exploration is raised until "
    "that ends; raise temperature or epsilon for good if it comes again",
}
"""Every alarm, and what to do about it."""

BOUND_SLACK: Final = 1.1  # an estimate wobbles around a value at the bound
_RATE: Final = 0.02  # about the last fifty updates: a batch of a few rows says little
_WARM_UPDATES: Final = 200  # heads start from constants
_ALL_ENDED: Final = 0.98
_NOTHING_AHEAD: Final = 0.01  # of a reward's range
_FLAT: Final = 1e-4  # of a reward's range
_FELL: Final = 0.7  # to this share of what it was: beyond what windows of a thousand slates differ by chance


class Watch:
    """Turns reports into the set of alarms that hold now.

    Rolling means, so that an alarm says something of about fifty updates and not of one; divergence alone is judged by
    a single report.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._range = settings.reward.high - settings.reward.low
        self._seen = 0
        self._mean: dict[str, float] = {}

    def observe(self, report: Report) -> frozenset[str]:
        """Return the alarms that hold after this update."""
        alarms = {"divergence"} if diverged(report) else set()
        if report.settled:
            self._seen += 1
            for name in ("terminal_share", "continuation_mean", "advantage_spread"):
                value = getattr(report, name)
                self._mean[name] = value + (1 - _RATE) * (self._mean.get(name, value) - value)
        if self._seen >= _WARM_UPDATES:
            alarms |= {name for name, holds in self._judged().items() if holds}
        return frozenset(alarms)

    def _judged(self) -> dict[str, bool]:
        ended = self._mean["terminal_share"] >= _ALL_ENDED
        nothing_ahead = abs(self._mean["continuation_mean"]) <= _NOTHING_AHEAD * self._range
        return {
            "joiner_broken": self._settings.gamma > 0 and ended and nothing_ahead,
            "no_advantage": self._mean["advantage_spread"] <= _FLAT * self._range,
        }


def diverged(report: Report) -> bool:
    """Tell whether an update shows weights that nothing true could have taught."""
    return not report.finite or report.q_max > BOUND_SLACK * report.value_bound


def narrowing(before: Exposure, now: Exposure) -> bool:
    """Tell whether slates show fewer contents, less evenly and more surely than in a window of the same length before.

    All three, because each alone has innocent causes: a smaller catalogue, a hit, a surer model.
    """
    if min(before.slates, now.slates) == 0:
        return False
    return (
        now.coverage < _FELL * before.coverage
        and 1 - now.gini < _FELL * (1 - before.gini)
        and now.entropy < _FELL * before.entropy
    )
