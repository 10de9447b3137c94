"""New contents: nobody meets one before the last fifth, and slates of them hold nothing else."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import movielens_new, movielens_round
from benchmarks.harness import Bench
from benchmarks.new_contents import DIGIT, NewContents, new_contents
from examples.movielens import dataset
from examples.movielens.dataset import Movie, MovieLens, Ratings
from examples.movielens.protocol import CANDIDATES, LIKED, requests_of


@pytest.fixture(scope="module")
def made(movielens: MovieLens) -> NewContents:
    return new_contents(movielens.ratings, "popularity", seed=0)


def new(content_id: int) -> bool:
    return content_id % 10 == DIGIT


def test_no_new_content_appears_before_the_last_fifth(made: NewContents) -> None:
    early = [turn for turn in made.stream if turn.timestamp_s < made.begins_s]
    assert len(early) > 35_000
    for turn in early:
        assert not new(turn.content_id)
        assert turn.opens is None or not any(map(new, (*turn.opens.group, *turn.opens.candidates)))


def test_measured_slates_hold_new_contents_alone_and_others_none(made: NewContents) -> None:
    requests = requests_of(made.stream)
    assert made.measured.sum() > 400
    for request, measured in zip(requests, made.measured.tolist(), strict=True):
        assert [new(content_id) for content_id in request.candidates] == [measured] * CANDIDATES


def test_what_a_user_rated_is_never_a_negative_for_him(made: NewContents, movielens: MovieLens) -> None:
    rated = set(zip(movielens.ratings.user_ids.tolist(), movielens.ratings.content_ids.tolist(), strict=True))
    for request in requests_of(made.stream):
        others = set(request.candidates) - set(request.group)
        assert not {(request.user_id, content_id) for content_id in others} & rated


def test_every_other_like_is_in_the_stream_in_time_order(made: NewContents, movielens: MovieLens) -> None:
    ratings = movielens.ratings
    early_new = (ratings.content_ids % 10 == DIGIT) & (ratings.timestamps_s < made.begins_s)
    liked = (ratings.ratings >= LIKED) & ~early_new
    expected = sorted(zip(ratings.user_ids[liked].tolist(), ratings.content_ids[liked].tolist(), strict=True))
    assert sorted((turn.user_id, turn.content_id) for turn in made.stream) == expected
    times = [turn.timestamp_s for turn in made.stream]
    assert times == sorted(times)


def test_requests_are_numbered_in_order_and_open_before_their_turns(made: NewContents) -> None:
    assert [request.number for request in requests_of(made.stream)] == list(range(len(made.measured)))
    opened: dict[int, tuple[int, tuple[int, ...]]] = {}
    for turn in made.stream:
        if turn.opens is not None:
            opened[turn.opens.number] = turn.opens.user_id, turn.opens.group
        user_id, group = opened[turn.request_number]
        assert turn.user_id == user_id
        assert turn.content_id in group


def test_the_bench_records_requests_for_new_contents_alone(
    camps: tuple[list[Movie], Ratings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movielens_round, "SEEDS", 1)
    contents, ratings = camps
    monkeypatch.setattr(dataset, "load", lambda: MovieLens(tuple(contents), ratings))
    bench = Bench("movielens-new", results=tmp_path, console=Console(file=io.StringIO()))
    movielens_new.run(bench)

    measured = int(new_contents(ratings).measured.sum())
    found = {figure.metric: figure for figure in bench.figures if figure.variant == "oracle"}
    assert found["clicks per request, new contents"].n == measured > 0
    groups = [
        len(r.group)
        for r, m in zip(requests_of(new_contents(ratings).stream), new_contents(ratings).measured, strict=True)
        if m
    ]
    assert found["clicks per request, new contents"].value == np.mean(groups)
