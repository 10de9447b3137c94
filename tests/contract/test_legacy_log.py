"""What the back-fill relies on of the legacy tables, held against MariaDB, SQLite and the twin."""

from pathlib import Path

from libs.adapters.legacy_log import SqlLegacyLog
from libs.adapters.training_ports import Cursor, LegacyLogRow, LegacyRecommendation
from tests.contract.training_stand import ANN, BOB, T0_MS, LegacyStand, without_logs

MINUTE = 60_000
START = Cursor()


async def test_a_recommendation_has_its_slate_in_order_its_logs_and_the_clicks_before_it(legacy: LegacyStand) -> None:
    legacy.recommend(1, 1, [30, 10, 20], T0_MS)
    legacy.act(11, 1, 5, at_ms=T0_MS - 2 * MINUTE)
    legacy.act(12, 1, 6, at_ms=T0_MS - MINUTE)
    legacy.act(13, 1, 7, kind="VIEW", ratio=0.5, at_ms=T0_MS - MINUTE)  # moves no history
    legacy.act(14, 2, 8, at_ms=T0_MS - MINUTE)  # somebody else's
    legacy.act(15, 1, 10, 1, at_ms=T0_MS)
    legacy.act(16, 1, 20, 1, kind="VIEW", ratio=0.25, at_ms=T0_MS + MINUTE)
    await legacy.write()
    (found,) = await legacy.log.recommendations(0, 1, 16, 10)
    assert without_logs(found) == LegacyRecommendation(
        1, str(ANN), T0_MS, (30, 10, 20), clicks_before=((6, T0_MS - MINUTE), (5, T0_MS - 2 * MINUTE))
    )
    assert found.logs == (
        LegacyLogRow(15, str(ANN), "click", 10, 1, None, T0_MS),
        LegacyLogRow(16, str(ANN), "view", 20, 1, 0.25, T0_MS + MINUTE),
    )


async def test_only_the_thirty_newest_clicks_are_read(legacy: LegacyStand) -> None:
    legacy.recommend(1, 1, [1], T0_MS)
    for number in range(40):
        legacy.act(100 + number, 1, number, at_ms=T0_MS - (40 - number // 2) * MINUTE)  # in pairs: ids break ties
    await legacy.write()
    (found,) = await legacy.log.recommendations(0, 1, 0, 10)
    assert [content_id for content_id, _ in found.clicks_before] == list(range(39, 9, -1))


async def test_pages_go_by_key_and_stop_at_their_bound(legacy: LegacyStand) -> None:
    for number in (2, 3, 5, 8):
        legacy.recommend(number, 1, [number])
        legacy.act(10 * number, 1, number, number)
    await legacy.write()
    first = await legacy.log.recommendations(0, 5, 30, 2)
    assert [(each.recommendation_id, [log.log_id for log in each.logs]) for each in first] == [(2, [20]), (3, [30])]
    second = await legacy.log.recommendations(3, 5, 30, 2)
    assert [(each.recommendation_id, each.logs) for each in second] == [(5, ())]  # its log came after the bound
    assert await legacy.log.recommendations(5, 5, 80, 2) == []


async def test_a_whole_page_comes_at_once_each_with_its_own_history(legacy: LegacyStand) -> None:
    for number in range(1, 101):  # as many as the back-fill asks for: one statement of a hundred parts
        legacy.recommend(number, 1, [number], T0_MS + number * MINUTE)
        legacy.act(number, 1, number, number, at_ms=T0_MS + number * MINUTE + 1_000)
    await legacy.write()
    found = await legacy.log.recommendations(0, 100, 100, 100)
    assert [(each.recommendation_id, each.slate) for each in found] == [(n, (n,)) for n in range(1, 101)]
    for each in found:
        newest = range(each.recommendation_id - 1, max(0, each.recommendation_id - 31), -1)
        assert [content_id for content_id, _ in each.clicks_before] == list(newest)


async def test_late_logs_are_those_of_earlier_recommendations_and_of_none(legacy: LegacyStand) -> None:
    legacy.recommend(1, 1, [1])
    legacy.recommend(2, 2, [1])
    for log_id, recommendation in ((1, 1), (2, None), (3, 2), (4, 1), (5, 2), (6, None)):
        legacy.act(log_id, 1, 1, recommendation)
    await legacy.write()
    page = await legacy.log.late_logs(0, 6, 1, 4)
    assert ([row.log_id for row in page.rows], page.last_id) == ([1, 2, 4], 4)
    page = await legacy.log.late_logs(4, 6, 1, 4)
    assert ([row.log_id for row in page.rows], page.last_id) == ([6], 6)
    assert (await legacy.log.late_logs(4, 5, 1, 4)).rows == []


async def test_bounds_are_the_newest_ids_or_so_many_recommendations_on(legacy: LegacyStand) -> None:
    assert await legacy.log.bound(START, None) == START
    assert await legacy.log.bound(Cursor(4, 5), 10) == Cursor(4, 5)
    for number in (2, 3, 5, 8):
        legacy.recommend(number, 1, [number])
    legacy.act(70, 1, 1)
    legacy.act(71, 9, 1)  # nobody's
    await legacy.write()
    assert await legacy.log.bound(START, None) == Cursor(8, 71)
    assert await legacy.log.bound(START, 3) == Cursor(5, 71)
    assert await legacy.log.bound(Cursor(3, 80), 1) == Cursor(5, 80)
    assert await legacy.log.bound(Cursor(5, 0), 100) == Cursor(8, 71)
    assert await legacy.log.bound(Cursor(8, 71), 2**31 - 1) == Cursor(8, 71)


async def test_the_count_is_what_streaming_appends(legacy: LegacyStand) -> None:
    legacy.recommend(1, 1, [1, 2])
    legacy.recommend(2, 2, [1, 2])
    legacy.recommend(3, 9, [1, 2])  # its user is gone
    legacy.recommend(4, 1, [])
    rows = ((1, 1), (2, None), (3, 2), (4, 3), (5, 4), (6, 1), (7, 2))
    for log_id, recommendation in rows:
        legacy.act(log_id, 1, 1, recommendation)
    legacy.act(8, 1, 1, 2, kind="SHARE")
    legacy.act(9, 1, None, 2)
    legacy.act(10, 9, 1, 2)
    await legacy.write()

    async def streamed(after: Cursor, until: Cursor) -> int:
        late = await legacy.log.late_logs(after.log_id, until.log_id, after.recommendation_id, 100)
        found = await legacy.log.recommendations(after.recommendation_id, until.recommendation_id, until.log_id, 100)
        return len(late.rows) + sum(len(each.logs) for each in found)

    for after in (START, Cursor(1, 0), Cursor(1, 4), Cursor(2, 6), Cursor(4, 10)):
        for until in (Cursor(2, 10), Cursor(4, 10), Cursor(4, 6)):
            if until.recommendation_id >= after.recommendation_id and until.log_id >= after.log_id:
                assert await legacy.log.count(after, until) == await streamed(after, until), (after, until)
    assert await legacy.log.count(START, Cursor(4, 10)) == 7
    assert await legacy.log.count(Cursor(2, 5), Cursor(4, 10)) == 4


async def test_a_user_who_is_gone_and_an_empty_slate_are_told(legacy: LegacyStand) -> None:
    legacy.recommend(1, 9, [1, 2])
    legacy.recommend(2, 2, [], None)
    legacy.act(1, 2, 4, 1)
    await legacy.write()
    gone, empty = await legacy.log.recommendations(0, 2, 10, 10)
    assert (gone.user_id, gone.slate) == (None, (1, 2))
    assert [log.user_id for log in gone.logs] == [str(BOB)]
    assert (empty.user_id, empty.slate, empty.timestamp_ms, empty.clicks_before) == (str(BOB), (), None, ())


async def test_without_the_tables_there_is_nothing(tmp_path: Path) -> None:
    log = SqlLegacyLog(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    assert await log.bound(Cursor(3, 4), None) == Cursor(3, 4)
    assert await log.count(Cursor(3, 4), Cursor(3, 4)) == 0
    await log.close()
