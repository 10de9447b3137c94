"""The one error tree. Each class states what happens because of it; anything else crashes the process."""


class MoardError(Exception):
    """Base of every error moard raises on purpose."""


class BadEvent(MoardError):
    """An event that breaks the wire contract. Consequence: HTTP 4xx, or the dead-letter topic.

    Parameters
    ----------
    reason
        Machine-readable word, one of the ``moard_*_dead_letters_total`` labels: ``json``, ``schema``, ``field``,
        ``type``, ``oversize``.
    detail
        What to change, naming the field.
    field
        Dotted path of the offending field, empty when the whole document is meant.
    """

    def __init__(self, reason: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.field = field


class SnapshotRejected(MoardError):
    """A snapshot that failed a check. Consequence: the old one keeps serving, ``reason`` is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class NoSnapshot(MoardError):
    """No snapshot was ever published. Consequence: the cold policy ranks."""


class ModelConflict(MoardError):
    """A change of models that what is there forbids. Consequence: nothing changes, HTTP 409."""


class Fenced(MoardError):
    """A newer epoch of this learner exists. Consequence: the process exits at once."""


class StoreUnavailable(MoardError):
    """A store outside this process did not answer in time. Consequence: retry, degrade, or 503."""


class RefusedStart(MoardError):
    """The process must not start like this. The message names the setting and the remedy."""
