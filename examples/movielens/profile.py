"""The named profile ``movielens-demo``: every setting of the services that differs from its default, and why."""

from dataclasses import dataclass

from pydantic_settings import BaseSettings
from rich.table import Table

NAME = "movielens-demo"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One setting, as its environment variable."""

    variable: str
    value: str
    reason: str


PROFILE = (
    Deviation("MOARD_SERVING_TEMPERATURE", "0.1", "Explores less than by default: what rl.md §9 measured with."),
    Deviation("MOARD_LEARNER_WINDOWS", "compressed", "Six months pass in two minutes, so windows are seconds."),
    Deviation("MOARD_LEARNER_TAU_S", "1", "The median gap between a user's requests, in the time of the replay."),
    Deviation("MOARD_LEARNER_REPLAY_RATIO", "14", "Samples per row; the best of the MovieLens table in rl.md §9."),
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


def table(*settings: type[BaseSettings]) -> Table:
    """Return what the profile changes, beside the defaults that these settings classes declare."""
    shown = Table(title=f"settings of the profile {NAME} that differ from the defaults", title_justify="left", box=None)
    for heading in ("setting", "value", "default", "why"):
        shown.add_column(heading)
    for deviation in PROFILE:
        shown.add_row(
            deviation.variable, deviation.value, str(default_of(deviation.variable, *settings)), deviation.reason
        )
    return shown
