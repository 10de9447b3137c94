"""Order: each user's turns one after another, the stream's order between users within a window."""

import random

from hypothesis import given
from hypothesis import strategies as st

from examples.movielens.protocol import Request, Turn
from examples.movielens.schedule import Chapter, Schedule


def stream_of(users: list[int], openers: set[int]) -> list[Turn]:
    """One turn for each user id; those at ``openers`` open a request, and a user's first always does."""
    met: set[int] = set()
    turns = []
    for position, user in enumerate(users):
        opens = None
        if position in openers or user not in met:
            opens = Request(position, user, (position,), (position,))
        met.add(user)
        turns.append(Turn(user, position, position, position, opens))
    return turns


def test_a_chapter_is_a_request_and_the_likes_up_to_the_next_one() -> None:
    schedule = Schedule(stream_of([1, 2, 1, 1, 1], openers={3}), window=10)

    first, second = schedule.take(), schedule.take()

    assert first is not None
    assert second is not None
    assert (first.user_id, first.positions) == (1, (0, 2))
    assert (second.user_id, second.positions) == (2, (1,))
    assert schedule.take() is None  # user 1 has more to tell, but only after its first chapter
    schedule.finish(first)
    third = schedule.take()
    assert third is not None
    assert third.positions == (3, 4)


def test_the_window_holds_back_turns_far_ahead_of_the_oldest() -> None:
    schedule = Schedule(stream_of([1, 2, 3, 4], openers=set()), window=2)
    first, second = schedule.take(), schedule.take()
    assert first is not None
    assert second is not None

    schedule.finish(second)
    assert schedule.take() is None

    schedule.finish(first)
    assert schedule.ready == 2


@given(
    users=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    openers=st.sets(st.integers(0, 59)),
    window=st.integers(1, 20),
    seed=st.integers(0, 1_000),
)
def test_every_turn_is_played_once_and_in_the_order_of_its_user(
    users: list[int], openers: set[int], window: int, seed: int
) -> None:
    turns = stream_of(users, openers)
    schedule, rng = Schedule(turns, window), random.Random(seed)
    playing: list[Chapter] = []
    played: list[int] = []

    while not schedule.exhausted:
        while chapter := schedule.take():
            assert chapter.user_id not in {other.user_id for other in playing}
            assert all(turn.opens is None for turn in chapter.turns[1:])
            playing.append(chapter)
        ended = playing.pop(rng.randrange(len(playing)))
        oldest = min(set(range(len(turns))) - set(played))
        assert max(ended.positions) < oldest + window
        played.extend(ended.positions)
        schedule.finish(ended)

    assert sorted(played) == list(range(len(turns)))
    for user in set(users):
        mine = [position for position in played if users[position] == user]
        assert mine == sorted(mine)
