"""What an evaluation found: for programs as JSON, for people as tables."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from libs.rl.evaluation import LEAST_ESS, MEAN_WEIGHT, PROPENSITY_TOLERANCE, Estimate, Interval
from libs.rl.prequential import ChoiceTally
from libs.rl.value_calibration import Line, Tenth

REASONS: Final = {
    "rows": "no impression can be used",
    "ess": f"effective sample size below {LEAST_ESS:.0f}",
    "model": "needs a reward model: give --snapshot or --version",
    "mean_weight": f"mean weight outside {MEAN_WEIGHT[0]}–{MEAN_WEIGHT[1]}",
    "propensities": f"log-propensities differ from their scores' by more than {PROPENSITY_TOLERANCE:g}",
}

_NAMES: Final = {"ips": "IPS", "snips": "SNIPS", "rips": "RIPS", "snrips": "SN-RIPS", "dr": "DR"}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything an evaluation found; ``excluded`` are impressions by reason, ``open`` those that may still change."""

    policy: str
    impressions: int
    users: int
    excluded: dict[str, int]
    open: int
    unreadable: int
    propensity_difference: float
    logged_value: float
    estimates: dict[str, Estimate]
    choice: ChoiceTally
    values: Line
    consumed_values: Line
    tenths: list[Tenth]
    notes: list[str]

    @property
    def refused(self) -> bool:
        """Whether no estimator gave a number that may be quoted."""
        return not any(estimate.usable for estimate in self.estimates.values())

    def document(self) -> dict[str, Any]:
        """Return the report as plain values; what is not a number is None."""
        choice = self.choice
        return {
            "policy": self.policy,
            "impressions": self.impressions,
            "users": self.users,
            "excluded": self.excluded,
            "open": self.open,
            "unreadable": self.unreadable,
            "propensity_difference": _finite(self.propensity_difference),
            "logged_value": _finite(self.logged_value),
            "estimates": {name: asdict(estimate) for name, estimate in self.estimates.items()},
            "choice": {
                "n": choice.n,
                **{
                    name: _finite(getattr(choice, name))
                    for name in ("base_rate", "logloss", "normalised_logloss", "auc", "calibration_error")
                },
            },
            "value_calibration": {
                "requests": int(self.values.n),
                "slope": _finite(self.values.slope),
                "consumed": int(self.consumed_values.n),
                "consumed_slope": _finite(self.consumed_values.slope),
                "tenths": [asdict(tenth) for tenth in self.tenths],
            },
            "notes": self.notes,
        }

    def show(self, console: Console) -> None:
        """Print tables for people."""
        excluded = ", ".join(f"{count:,} {reason}" for reason, count in self.excluded.items()) or "none"
        console.print(
            f"[bold]{self.policy}[/] on {self.impressions:,} impressions of {self.users:,} users; left out: "
            f"{excluded}; windows still open: {self.open:,}"
        )
        console.print(f"The policy that served earned [bold]{_number(self.logged_value)}[/] per impression.")
        console.print(_estimates(self.estimates))
        for verdict in _verdicts(self.estimates):
            console.print(f"[red]{verdict}[/]")
        console.print(_predictions(self.choice, self.values, self.consumed_values))
        if self.tenths:
            console.print(_tenths(self.tenths))
        for note in self.notes:
            console.print(f"[yellow]{note}[/]")


def _estimates(found: dict[str, Estimate]) -> Table:
    table = Table(title="Value per impression", title_justify="left")
    table.add_column("estimator", no_wrap=True)
    for heading in ("value", "95 % interval", "lift", "95 % interval", "ESS", "mean weight", "largest share"):
        table.add_column(heading, justify="right", overflow="fold")
    for name, estimate in found.items():
        weights = estimate.weights
        table.add_row(
            _NAMES[name],
            _number(estimate.value),
            _interval(estimate.interval, _number),
            _percent(estimate.lift),
            _interval(estimate.lift_interval, _percent),
            f"{weights.ess:,.0f}",
            f"{weights.mean:.3f}",
            f"{100 * weights.largest_share:.2f} %",
        )
    return table


def _verdicts(found: dict[str, Estimate]) -> list[str]:
    """Return why numbers are missing or wrong, each reason once with the estimators it is about."""
    about: dict[str, list[str]] = {}
    for name, estimate in found.items():
        for word, reason in (("Invalid", estimate.invalid), ("Refused", estimate.refused)):
            if reason:
                about.setdefault(f"{word}: {REASONS[reason]}", []).append(_NAMES[name])
    return [f"{text} ({', '.join(names)})." for text, names in about.items()]


def _predictions(choice: ChoiceTally, values: Line, consumed: Line) -> Table:
    table = Table("prediction", "measure", title="What was predicted when serving", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("n", justify="right")
    for measure in ("logloss", "normalised_logloss", "auc", "calibration_error", "base_rate"):
        table.add_row("choice", measure.replace("_", " "), _number(getattr(choice, measure)), f"{choice.n:,}")
    table.add_row("value U", "slope of returns", _number(values.slope), f"{values.n:,.0f}")
    table.add_row("Q of consumed", "slope of returns", _number(consumed.slope), f"{consumed.n:,.0f}")
    return table


def _tenths(tenths: list[Tenth]) -> Table:
    table = Table(title="Returns by tenths of U", title_justify="left")
    for heading in ("n", "predicted", "realised"):
        table.add_column(heading, justify="right")
    for tenth in tenths:
        table.add_row(f"{tenth.n:,}", _number(tenth.predicted), _number(tenth.realised))
    return table


def _interval(interval: Interval | None, text: Any) -> str:
    return "–" if interval is None else f"{text(interval.low)} … {text(interval.high)}"


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f} %"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
