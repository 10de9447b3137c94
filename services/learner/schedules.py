"""When the training thread trains: whenever there is time, or exactly as the log says (rl.md §4)."""

from typing import Protocol

from libs.rl.agent import Agent


class Schedule(Protocol):
    """What the training thread asks; only that thread calls it."""

    def applied(self, agent: Agent, inserted: int) -> None:
        """Note that a piece of work was applied, and how many rows it inserted."""

    def due(self, agent: Agent, waiting: bool) -> int:
        """Return the rows of the update to take now, 0 to go on with what is ``waiting``."""

    def forced(self, agent: Agent) -> int:
        """Return the rows of an update that a snapshot takes beyond that, 0 for none."""


class LiveSchedule:
    """``schedule="live"``: train whenever there is time and the replay ratio allows.

    Parameters
    ----------
    backlog_ratio
        Samples for each row while changes are waiting: reading goes first, learning does not stop altogether.
    """

    def __init__(self, backlog_ratio: float) -> None:
        self._backlog_ratio = backlog_ratio
        self._credit = 0.0

    def applied(self, agent: Agent, inserted: int) -> None:  # noqa: ARG002 - the protocol's
        """Allow some samples for these rows although more is waiting."""
        self._credit += self._backlog_ratio * inserted

    def due(self, agent: Agent, waiting: bool) -> int:
        """Return the update that the replay ratio allows, and while changes are waiting the backlog ratio too."""
        size = agent.due()
        if not waiting:
            self._credit = 0.0  # a thread with time on its hands needs no allowance
            return size
        if size > self._credit:
            return 0
        self._credit -= size
        return size

    def forced(self, agent: Agent) -> int:
        """Return an update for rows that no gradient has seen: freshness."""
        return agent.due(force=True) if agent.untrained else 0


class LogSchedule:
    """``schedule="log"``: after each round ⌊rows · ratio / B⌋ updates of B rows have been taken in all, and no other.

    Nothing here knows what is waiting, what time it is or when a snapshot was taken, so neither do the weights.

    Parameters
    ----------
    batch_size
        B. While fewer rows train anything, updates wait: they are made up for as soon as a batch is full.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size

    def applied(self, agent: Agent, inserted: int) -> None:  # noqa: ARG002 - the protocol's
        """Let tables grow now: a table's first values depend on its steps of growth, and a snapshot must make none."""
        agent.make_room()

    def due(self, agent: Agent, waiting: bool) -> int:  # noqa: ARG002 - the protocol's
        """Return a full batch as long as the replay ratio allows one."""
        size = agent.due()
        return size if size >= self._batch_size else 0

    def forced(self, agent: Agent) -> int:  # noqa: ARG002 - the protocol's
        """Return 0: snapshots do not train."""
        return 0
