"""The whole agent as arrays and JSON values, and back: nothing a restart could lose.

Rows and contents are many and change seldom: those that changed since a mark can be had alone, as arrays named
``rows.…`` and ``contents.…`` with their places under ``….at``.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from libs.rl.agent import Agent

FORMAT = 4
ROWS, CONTENTS = "rows.", "contents."
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Mark(NamedTuple):
    """A moment in the life of an agent, by the changes of its rows and of its contents."""

    rows: int = 0
    contents: int = 0


BEGINNING = Mark()
"""Every row and content has changed since."""


def mark(agent: "Agent") -> Mark:
    """Return the present moment."""
    return Mark(agent.replay.changes, agent.space.changes)


def learned(agent: "Agent") -> dict[str, np.ndarray]:
    """Return copies of all that updates change: networks, id tables, optimisers."""
    arrays = {f"network.{name}": tensor.numpy().copy() for name, tensor in agent.network.state_dict().items()}
    arrays |= {f"target.{name}": tensor.numpy().copy() for name, tensor in agent.target.items()}
    arrays |= {f"tables.{name}": tensor.numpy().copy() for name, tensor in agent.tables.tensors().items()}
    return arrays | _save_optimiser(agent)


def relearn(agent: "Agent", arrays: Mapping[str, np.ndarray]) -> None:
    """Make an agent's networks, id tables and optimisers those that ``learned`` returned."""
    agent.network.load_state_dict({name: _tensor(arrays, f"network.{name}") for name in agent.network.state_dict()})
    online = agent.network.state_dict()
    # A target that was not kept (another setting of ``target``) begins where the online network is.
    agent.target = {
        name: _tensor(arrays, f"target.{name}") if f"target.{name}" in arrays else online[name].clone()
        for name in agent.target
    }
    agent.tables.load({name: _tensor(arrays, f"tables.{name}") for name in agent.tables.tensors()})
    _load_optimiser(agent, arrays)


def save(agent: "Agent", since: Mark = BEGINNING) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return copies of the agent's arrays by name, and everything else as JSON values.

    Of rows and contents only those that changed since ``since`` are among them.
    """
    arrays = changed(agent, since) | learned(agent)
    arrays["consumptions"] = agent.popularity.consumptions.copy()
    return arrays, {
        "format": FORMAT,
        "mark": list(mark(agent)),
        "vector_size": agent.space.vector_size,
        "seed": agent.seed,
        "updates": agent.updates,
        "samples": agent.samples,
        "lost": agent.lost,
        "exploration_boost": agent.exploration_boost,
        "consumed": {"total": agent.popularity.total, "weighted": agent.popularity.weighted},
        "rng": _save_rng(agent.rng),
        "replay": agent.replay.meta(),
        "untrained": [[slot, [list(event) for event in events]] for slot, events in agent._untrained.items()],
        "trained": [list(event) for event in agent._trained],
    }


def changed(agent: "Agent", since: Mark) -> dict[str, np.ndarray]:
    """Return copies of the rows and contents that changed since a mark, and where they lie."""
    slots, indices = agent.replay.changed_since(since.rows), agent.space.changed_since(since.contents)
    rows = {"at": slots, **agent.replay.rows(slots)}
    contents = {"at": indices, **{name: getattr(agent.space, name)[indices] for name in ("ids", "vectors", "hidden")}}
    named = {ROWS + name: array for name, array in rows.items()}
    return named | {CONTENTS + name: array for name, array in contents.items()}


def load(
    agent: "Agent",
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    earlier: Iterable[Mapping[str, np.ndarray]] = (),
) -> None:
    """Make a fresh agent the one that was saved.

    Parameters
    ----------
    earlier
        Rows and contents that ``save`` returned before and that did not change since, oldest first.

    Raises
    ------
    ValueError
        The state is of another format, or of a buffer of another capacity.
    """
    if meta["format"] != FORMAT:
        raise ValueError(f"agent state of format {meta['format']}, this build reads {FORMAT}")
    if meta["replay"]["capacity"] != agent.replay.capacity:
        raise ValueError(f"the saved buffer has capacity {meta['replay']['capacity']}; set capacity to that")
    for piece in (*earlier, arrays):
        _put(agent, piece)
    agent.replay.resume(meta["replay"])
    agent.replay.changes, agent.space.changes = meta["mark"]
    relearn(agent, arrays)
    agent.popularity.consumptions = arrays["consumptions"].copy()
    agent.popularity.total, agent.popularity.weighted = meta["consumed"]["total"], meta["consumed"]["weighted"]
    agent.updates, agent.samples, agent.lost = meta["updates"], meta["samples"], meta["lost"]
    agent.exploration_boost = meta["exploration_boost"]
    _load_rng(agent.rng, meta["rng"])
    agent._untrained = {slot: [(event[0], event[1]) for event in events] for slot, events in meta["untrained"]}
    agent._trained = [(event[0], event[1]) for event in meta["trained"]]


def _put(agent: "Agent", piece: Mapping[str, np.ndarray]) -> None:
    if f"{ROWS}at" in piece:
        agent.replay.put_rows(piece[f"{ROWS}at"], {name: piece[ROWS + name] for name in agent.replay.columns})
    if f"{CONTENTS}at" in piece:
        # Places ascend, and new ones follow upon those of all pieces before: each content gets the index it had.
        columns = (piece[CONTENTS + name] for name in ("ids", "vectors", "hidden"))
        for content_id, vector, hidden in zip(*columns, strict=True):
            agent.space.put(int(content_id), vector, bool(hidden))


def _tensor(arrays: Mapping[str, np.ndarray], name: str) -> torch.Tensor:
    return torch.from_numpy(arrays[name].copy())


def _save_optimiser(agent: "Agent") -> dict[str, np.ndarray]:
    optimiser, saved = agent.optimiser, {}
    if optimiser.steps == 0:
        return {}
    for key, moment in zip(_MOMENTS, (optimiser.mean, optimiser.square), strict=True):
        for name, part in agent.weights.split(moment).items():
            saved[f"optimiser.{key}.{name}"] = part.numpy().copy()
            saved[f"optimiser.step.{name}"] = optimiser.steps.numpy().copy()
    return saved


def _load_optimiser(agent: "Agent", arrays: Mapping[str, np.ndarray]) -> None:
    optimiser = agent.optimiser
    names = [name for name, _ in agent.network.named_parameters()]
    taken = f"optimiser.step.{names[0]}"
    if taken not in arrays:
        for tensor in (optimiser.steps, optimiser.mean, optimiser.square):
            tensor.zero_()
        return
    optimiser.steps = _tensor(arrays, taken)
    optimiser.mean, optimiser.square = (
        agent.weights.joined({name: _tensor(arrays, f"optimiser.{key}.{name}") for name in names}) for key in _MOMENTS
    )


def _save_rng(rng: np.random.Generator) -> dict[str, Any]:
    # Numbers of 128 bits as text: not every JSON library keeps them.
    state: dict[str, Any] = dict(rng.bit_generator.state)
    return state | {"state": {name: str(number) for name, number in state["state"].items()}}


def _load_rng(rng: np.random.Generator, saved: Mapping[str, Any]) -> None:
    rng.bit_generator.state = dict(saved) | {"state": {name: int(text) for name, text in saved["state"].items()}}
