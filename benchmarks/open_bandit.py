"""Open Bandit Dataset, the small sample (Saito et al., 2020, arXiv:2008.07146), read from the ``obp`` wheel.

Random slates of a fashion shop's page, three positions and 80 contents, one row for each position; and the priors of
the Bernoulli Thompson sampling that ran beside them, from which its probabilities follow.
"""

import csv
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from examples.wheels import CACHE, DataWheel

POSITIONS: Final = 3
_LOG, _PRIOR = "obp/dataset/obd/random/all/all.csv", "obp/policy/conf/prior_bts.yaml"
_WHEEL: Final = DataWheel(
    name="The Open Bandit sample",
    requirement="obp==0.4.1",
    file_name="obp-0.4.1-*.whl",
    sha256={
        _LOG: "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1",
        _PRIOR: "81a54fbdc184021ccc62ab97de81ec35461c032e3d7f99ccaa0a9745f732d251",
    },
)
_SIMULATIONS: Final = 100_000  # and the seed: those of obp's quickstart
_SEED: Final = 12345
_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class OpenBandit:
    """Logged rows, and how likely Thompson sampling shows each content at each position."""

    contents: NDArray[np.int64]
    positions: NDArray[np.int64]
    clicks: NDArray[np.float64]
    propensities: NDArray[np.float64]
    thompson: NDArray[np.float64]


def load(cache: Path = CACHE) -> OpenBandit:
    """Return the sample, downloading its wheel into ``cache`` when it is not there yet; raises ``DataUnavailable``."""
    members = _WHEEL.read(cache)
    rows = list(csv.DictReader(StringIO(members[_LOG].decode())))
    return OpenBandit(
        contents=np.array([int(row["item_id"]) for row in rows]),
        positions=np.array([int(row["position"]) - 1 for row in rows]),
        clicks=np.array([float(row["click"]) for row in rows]),
        propensities=np.array([float(row["propensity_score"]) for row in rows]),
        thompson=_thompson(*_prior(members[_PRIOR].decode())),
    )


def _prior(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the lists ``all: alpha:`` and ``all: beta:``: plain enough to do without a YAML reader."""
    campaign = re.split(r"^\w+:\s*$", text, flags=re.MULTILINE)[1]
    alpha, beta = (re.findall(r"- ([\d.]+)", part) for part in re.split(r"beta:", campaign))
    return np.array(alpha, np.float64), np.array(beta, np.float64)


def _thompson(alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of draws from the posteriors that put each content at each position."""
    random = np.random.RandomState(_SEED)
    counts = np.zeros((len(alpha), POSITIONS))
    for _ in range(_SIMULATIONS // _AT_ONCE):
        best = np.argsort(random.beta(alpha, beta, size=(_AT_ONCE, len(alpha))), axis=1)[:, ::-1]
        for position in range(POSITIONS):
            counts[:, position] += np.bincount(best[:, position], minlength=len(alpha))
    return counts / _SIMULATIONS
