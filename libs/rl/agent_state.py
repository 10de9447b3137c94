"""The whole agent as arrays and JSON values, and back: nothing a restart could lose."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from libs.rl.agent import Agent

FORMAT = 2
_MOMENTS = ("exp_avg", "exp_avg_sq")


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


def save(agent: "Agent") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return copies of the agent's arrays by name, and everything else as JSON values."""
    replay, meta = agent.replay.save()
    arrays = {f"replay.{name}": array for name, array in replay.items()}
    arrays |= {f"space.{name}": getattr(agent.space, name).copy() for name in ("ids", "vectors", "hidden")}
    arrays |= learned(agent)
    arrays["consumptions"] = agent.popularity.consumptions.copy()
    return arrays, {
        "format": FORMAT,
        "vector_size": agent.space.vector_size,
        "seed": agent.seed,
        "updates": agent.updates,
        "samples": agent.samples,
        "lost": agent.lost,
        "exploration_boost": agent.exploration_boost,
        "consumed": {"total": agent.popularity.total, "weighted": agent.popularity.weighted},
        "rng": _save_rng(agent.rng),
        "replay": meta,
        "untrained": [[slot, [list(event) for event in events]] for slot, events in agent._untrained.items()],
        "trained": [list(event) for event in agent._trained],
    }


def load(agent: "Agent", arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Make a fresh agent the one that was saved.

    Raises
    ------
    ValueError
        The state is of another format, or of a buffer of another capacity.
    """
    if meta["format"] != FORMAT:
        raise ValueError(f"agent state of format {meta['format']}, this build reads {FORMAT}")
    agent.replay.load({name: arrays[f"replay.{name}"] for name in agent.replay.columns}, meta["replay"])
    vectors, hidden = arrays["space.vectors"], arrays["space.hidden"]
    for at, content_id in enumerate(arrays["space.ids"].tolist()[1:], start=1):
        agent.space.put(content_id, vectors[at], bool(hidden[at]))
    relearn(agent, arrays)
    agent.popularity.consumptions = arrays["consumptions"].copy()
    agent.popularity.total, agent.popularity.weighted = meta["consumed"]["total"], meta["consumed"]["weighted"]
    agent.updates, agent.samples, agent.lost = meta["updates"], meta["samples"], meta["lost"]
    agent.exploration_boost = meta["exploration_boost"]
    _load_rng(agent.rng, meta["rng"])
    agent._untrained = {slot: [(event[0], event[1]) for event in events] for slot, events in meta["untrained"]}
    agent._trained = [(event[0], event[1]) for event in meta["trained"]]


def _tensor(arrays: Mapping[str, np.ndarray], name: str) -> torch.Tensor:
    return torch.from_numpy(arrays[name].copy())


def _save_optimiser(agent: "Agent") -> dict[str, np.ndarray]:
    saved: dict[str, np.ndarray] = {}
    for name, parameter in agent.network.named_parameters():
        for key, value in agent.optimiser.state.get(parameter, {}).items():
            saved[f"optimiser.{key}.{name}"] = value.numpy().copy()
    return saved


def _load_optimiser(agent: "Agent", arrays: Mapping[str, np.ndarray]) -> None:
    agent.optimiser.state.clear()
    for name, parameter in agent.network.named_parameters():
        keys = [key for key in ("step", *_MOMENTS) if f"optimiser.{key}.{name}" in arrays]
        if keys:
            agent.optimiser.state[parameter] = {key: _tensor(arrays, f"optimiser.{key}.{name}") for key in keys}


def _save_rng(rng: np.random.Generator) -> dict[str, Any]:
    # Numbers of 128 bits as text: not every JSON library keeps them.
    state: dict[str, Any] = dict(rng.bit_generator.state)
    return state | {"state": {name: str(number) for name, number in state["state"].items()}}


def _load_rng(rng: np.random.Generator, saved: Mapping[str, Any]) -> None:
    rng.bit_generator.state = dict(saved) | {"state": {name: int(text) for name, text in saved["state"].items()}}
