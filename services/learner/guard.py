"""Acts on what the detectors see: stops publishing, goes back to sound weights, raises exploration, says so."""

from collections import deque
from typing import Final

import structlog

from libs.rl.agent import Agent, Report
from libs.rl.poison import Poisoned
from libs.rl.snapshot import LARGEST_BOOST
from libs.rl.watch import REMEDIES, Watch, narrowing
from services.learner.training_metrics import TrainingMetrics

log = structlog.get_logger(__name__)

_KEEP_EVERY: Final = 200  # updates: a few seconds of learning to lose, a copy of some megabytes to pay
_LOOK_EVERY: Final = 200
_WINDOW: Final = 5_000  # slates compared: enough for shares to move by little by chance


class Guard:
    """Judges every update; belongs to the training thread.

    Attributes
    ----------
    sound
        Whether the weights may be published. False from an update that diverged until the next one that did not.
    expelled
        Rows that were taken out because their gradient was not finite, oldest first; the event loop pops them.
    """

    def __init__(self, agent: Agent, metrics: TrainingMetrics) -> None:
        self._agent = agent
        self._metrics = metrics
        self._watch = Watch(agent.settings)
        self._held: frozenset[str] = frozenset()
        self._narrowing = False
        self.sound = True
        self.expelled: deque[Poisoned] = deque()

    def after(self, report: Report) -> None:
        """Act on what an update did."""
        alarms = self._watch.observe(report)
        self.sound = "divergence" not in alarms
        if not self.sound:
            self._go_back(report)
        elif self._agent.updates % _KEEP_EVERY == 0:
            self._agent.keep()
        if self._agent.updates % _LOOK_EVERY == 0 and report.finite:
            self._look_at_slates()
        self._say(alarms | ({"feedback_loop"} if self._narrowing else set()))

    def _go_back(self, report: Report) -> None:
        log.error(
            "weights.diverged",
            step=self._agent.updates,
            q_max=report.q_max,
            bound=report.value_bound,
            finite=report.finite,
        )
        self._agent.go_back()
        self._metrics.went_back()
        if not report.finite:  # with sound weights again, it is a row that is not
            self.expelled.extend(self._agent.expel())

    def _look_at_slates(self) -> None:
        now, before = self._agent.exposure(_WINDOW), self._agent.exposure(_WINDOW, skip=_WINDOW)
        self._narrowing = narrowing(before, now)
        boost = self._agent.exploration_boost
        self._agent.exploration_boost = min(LARGEST_BOOST, 2 * boost) if self._narrowing else max(1.0, boost / 2)
        self._metrics.exposed(now, self._agent.exploration_boost)

    def _say(self, alarms: frozenset[str]) -> None:
        for alarm in alarms - self._held:
            log.error("learning.alarm", alarm=alarm, remedy=REMEDIES[alarm], step=self._agent.updates)
        for alarm in self._held - alarms:
            log.info("learning.alarm_over", alarm=alarm, step=self._agent.updates)
        self._held = alarms
        self._metrics.alarms(alarms)
