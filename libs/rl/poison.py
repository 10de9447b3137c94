"""Rows whose gradient is not finite: found by halving the batch they were in, and taken out for good (rl.md §10).

Everything that comes in is checked and clipped, so there should be none: a fault of memory or disk, or a gap in those
checks, must not stop the learning of everything else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from jaxtyping import Int64

from libs.rl.batch import draw, gather, offers_of
from libs.rl.objective import loss_parts
from libs.rl.replay import Status
from libs.rl.update import forward

if TYPE_CHECKING:
    from libs.rl.agent import Agent

_STATE: Final = ("age_h", "context")
_OWN: Final = (*_STATE, "log_count", "terms", "gap_s")


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A row that was taken out.

    ``key`` is what the buffer calls it (``replay.key_of`` its row id), ``events`` are its interactions (event id,
    append ms) that no gradient has seen, ``faults`` its columns that are not finite, those of the state its story went
    on with among them, ``contents`` the contents whose vectors are not and were forgotten.
    """

    key: int
    organic: bool
    slate: tuple[int, ...]
    history: tuple[int, ...]
    events: tuple[tuple[str, int], ...]
    faults: tuple[str, ...]
    contents: tuple[int, ...]
    step: int


def expel(agent: "Agent", slots: Int64[np.ndarray, "B"]) -> list[Poisoned]:
    """Take the rows among ``slots`` out whose gradient is not finite, and say which those were.

    Nothing is drawn and no weight moves. Weights that are not finite themselves accuse nobody: no row is taken out.
    """
    agent.make_room()
    if not _weights_finite(agent):
        return []
    return [_remove(agent, slot) for slot in culprits(slots, lambda some: _finite(agent, some)).tolist()]


def culprits(slots: Int64[np.ndarray, "B"], finite: Callable[[Int64[np.ndarray, "b"]], bool]) -> Int64[np.ndarray, "C"]:
    """Return those of the slots that are not finite by themselves, in their order.

    About 2 · log2(B) questions for each, most of them on small parts.

    >>> culprits(np.arange(8), lambda some: 5 not in some)
    array([5])
    """
    if not len(slots) or finite(slots):
        return slots[:0]
    if len(slots) == 1:
        return slots
    half = len(slots) // 2
    return np.concatenate([culprits(slots[:half], finite), culprits(slots[half:], finite)])


def _finite(agent: "Agent", slots: np.ndarray) -> bool:
    """Tell whether these rows alone have a finite gradient, with all ids seen and everything compared."""
    settings, popularity = agent.settings, agent.popularity
    batch = gather(agent.replay, slots, settings.reward)
    if settings.cql_weight:
        batch = replace(batch, offers=offers_of(agent.replay, slots, popularity))
    draws = draw(batch, popularity.consumptions, 0.0, np.random.default_rng(0), compared=1.0)
    outputs = forward(agent.network, agent.tables, agent.space, batch, draws, agent._centre)
    loss = loss_parts(outputs, agent._continuation(batch), batch, draws, settings)["total"]
    loss.backward()  # type: ignore[no-untyped-call]
    leaves = (outputs.leaves.user.grad, outputs.leaves.content.grad)
    gradients = [agent.weights.take_gradient(), *(leaf for leaf in leaves if leaf is not None)]
    return bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))


def _weights_finite(agent: "Agent") -> bool:
    tensors = (agent.weights.vector, *agent.target.values(), *agent.tables.tensors().values())
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _remove(agent: "Agent", slot: int) -> Poisoned:
    columns, space = agent.replay.columns, agent.space
    state, following = _states(agent, slot)
    named = np.unique([*columns["slate"][slot], *columns["candidates"][slot], *state, *following])
    broken = [
        int(at) for at in named if not (np.isfinite(space.vectors[at]).all() and np.isfinite(space.inverse_norm[at]))
    ]
    found = Poisoned(
        key=int(columns["key"][slot]),
        organic=bool(columns["status"][slot] == Status.ORGANIC),
        slate=_ids(agent, columns["slate"][slot]),
        history=_ids(agent, state),
        events=tuple(agent._untrained.pop(slot, ())),
        faults=_faults(agent, slot),
        contents=tuple(int(space.ids[at]) for at in broken),
        step=agent.updates,
    )
    for at in broken:
        # Rows that name it are many: without its vector they are sound.
        agent.put_content(int(space.ids[at]), None, bool(space.hidden[at]))
    agent.replay.expel(slot)
    return found


def _next(agent: "Agent", slot: int) -> int | None:
    """Return the slot of the row that a row's story went on with."""
    columns = agent.replay.columns
    serial = columns["continuation"][slot : slot + 1]
    if columns["status"][slot] != Status.CONTINUED or not agent.replay.alive(serial)[0]:
        return None
    return int(serial[0]) % agent.replay.capacity


def _states(agent: "Agent", slot: int) -> tuple[np.ndarray, np.ndarray]:
    history, following = agent.replay.columns["history"], _next(agent, slot)
    return history[slot], history[slot][:0] if following is None else history[following]


def _faults(agent: "Agent", slot: int) -> tuple[str, ...]:
    columns, following = agent.replay.columns, _next(agent, slot)
    own = [name for name in _OWN if not np.isfinite(columns[name][slot]).all()]
    if following is not None:
        own += [f"next_{name}" for name in _STATE if not np.isfinite(columns[name][following]).all()]
    return tuple(own)


def _ids(agent: "Agent", indices: np.ndarray) -> tuple[int, ...]:
    return tuple(agent.space.ids[indices[indices > 0]].tolist())
