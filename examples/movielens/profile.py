"""The named profile ``movielens-demo``: every setting of the services that differs from its default, and why."""

from dataclasses import dataclass

from pydantic_settings import BaseSettings

NAME = "movielens-demo"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One setting, as its environment variable."""

    variable: str
    value: str
    reason: str


PROFILE = (
    Deviation("MOARD_SERVING_TEMPERATURE", "0.1", "Explores less than by default: what rl.md §9 measured with."),
    Deviation("MOARD_SERVING_HISTORY_DEADLINE_MS", "250", "Two cores run everything: a late history beats none."),
    Deviation("MOARD_INGEST_HISTORY_DEADLINE_MS", "500", "For the same reason: the next request wants this click."),
    Deviation("MOARD_LEARNER_WINDOWS", "compressed", "Six months pass in two minutes, so windows are seconds."),
    Deviation("MOARD_LEARNER_TAU_S", "1", "The median gap between a user's requests, in the time of the replay."),
    Deviation("MOARD_LEARNER_REPLAY_RATIO", "5", "Samples per row: more overfit on MovieLens (docs/learning.md)."),
    Deviation("MOARD_LEARNER_ORGANIC_WEIGHT", "1", "What the slate missed says as much as what it hit."),
    Deviation("MOARD_LEARNER_COMPARED", "1", "So do clicks, compared with what others consumed."),
    Deviation("MOARD_LEARNER_HISTORY_DROPOUT", "0.5", "Half of a history an update: learns no pairs by heart."),
    Deviation("MOARD_LEARNER_LEARNING_STARTS", "100", "Rows before the first update: there are 940 users to know."),
)


def environment() -> dict[str, str]:
    """Return the profile as environment variables."""
    return {deviation.variable: deviation.value for deviation in PROFILE}


def default_of(variable: str, *settings: type[BaseSettings]) -> object:
    """Return the default of the setting behind a variable; raises ``LookupError`` when no service knows it."""
    name = variable.removeprefix("MOARD_").lower()
    for cls in settings:
        if name in cls.model_fields:
            return cls.model_fields[name].default
    raise LookupError(f"no service has a setting {variable}")


def lines(*settings: type[BaseSettings]) -> list[str]:
    """Return what the profile changes, as lines of an ``.env`` file beside the defaults of these settings classes."""
    return [
        f"  {deviation.variable}={deviation.value}  "
        f"# instead of {default_of(deviation.variable, *settings)}. {deviation.reason}"
        for deviation in PROFILE
    ]
