"""The console on the running system: every view with real data, a pin, a rollback, a restart."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.running_system import RunningSystem

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]  # a whole system starts for each

DEADLINE_MS = 40_000


def use(system: RunningSystem, rounds: int = 30) -> None:
    """Rank and click, so that there is something to see."""
    for number in range(rounds):
        user_id = f"user-{number % 7}"
        answer = system.rank(user_id, list(range(1, 9)))
        system.click(user_id, answer["slate"][0]["content_id"], answer["impression_id"])


@pytest.fixture
def page(system: RunningSystem, open_page: OpenPage) -> Page:
    for content_id in range(1, 9):
        system.put_content(content_id, title=f"content {content_id}")
    use(system)
    system.wait_for_newer_snapshot(than=0)
    page = open_page(f"{system.serving.url}/ui", {})
    page.set_default_timeout(DEADLINE_MS)
    expect.set_options(timeout=DEADLINE_MS)
    return page


def watched(page: Page) -> list[str]:
    """Return a list that grows with what goes wrong in the page, beginning with a fresh load."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.reload()
    return problems


def show(page: Page, view: str) -> None:
    page.click(f"nav a[href='#{view}']")


def confirm(page: Page, verb: str) -> None:
    page.locator("#confirm").get_by_role("button", name=verb).click()


def test_every_view_shows_what_is(system: RunningSystem, page: Page) -> None:
    system.http.post(f"{system.serving.url}/api/v1/online-learning/async-train")
    problems = watched(page)
    expect(page.locator("#connection")).to_have_text("Live")
    for service in ("learner", "ingest", "serving"):
        expect(page.locator("#parts tr", has_text=service).locator(".state")).to_have_text("ok")
    expect(page.locator("#problems")).to_have_text("Everything works.")
    expect(page.locator("#figures")).to_contain_text(re.compile(r"Lag0 records"))

    show(page, "stream")
    expect(page.locator("#partitions tr")).to_have_count(5)
    expect(page.locator("#outcomes tr", has_text="Joined")).to_contain_text(re.compile(r"30\s*100\.0 %|30100\.0 %"))
    expect(page.locator("#freshness .column").first).to_be_attached()
    expect(page.locator("#fresh-note")).to_contain_text("95 % within")

    show(page, "learning")
    expect(page.locator("#chart-loss .u-legend")).to_contain_text(re.compile(r"total\s*[\d.]+"))
    expect(page.locator("#chart-q .u-legend")).to_contain_text(re.compile(r"mean\s*-?[\d.]+"))
    expect(page.locator("#windows tr")).to_have_count(2)

    show(page, "snapshots")
    expect(page.locator("#lineage tr").first).to_contain_text("newest")

    show(page, "letters")
    page.locator("#reasons").get_by_role("button", name="all").click()
    expect(page.locator("#letters-empty")).to_have_text("No such letter in the topic.")

    show(page, "tasks")
    expect(page.locator("#tasks-list tr")).to_have_count(1)

    show(page, "settings")
    page.fill("#settings-filter", "events_partitions")
    expect(page.locator("#settings-list tr", has_text="MOARD_EVENTS_PARTITIONS")).to_have_count(3)
    expect(page.locator("#settings-list tr").first).to_have_text("MOARD_EVENTS_PARTITIONS4")
    assert problems == []


def test_it_pins_rolls_back_unpins_and_deletes_and_follows_pins_of_others(system: RunningSystem, page: Page) -> None:
    problems = watched(page)
    first = int(system.snapshot_version())
    _post(system, f"snapshots/{first}/keep", name="good")
    use(system)
    system.wait_for_newer_snapshot(than=first)

    show(page, "snapshots")  # what is out of sight is not asked for
    kept = page.locator("#lineage tr", has_text="good")
    kept.get_by_role("button", name="Pin").click()
    expect(page.locator("#confirm-title")).to_have_text("Pin good?")
    page.keyboard.press("Escape")  # thought better of it
    expect(kept.get_by_role("button", name="Pin")).to_be_focused()
    assert system.metric(system.serving.url, "moard_serving_pinned_version") == 0
    page.keyboard.press("Enter")
    confirm(page, "Pin it")
    expect(page.locator("#pin")).to_contain_text("good is pinned")
    expect(kept.locator("td").nth(5)).not_to_be_empty()  # who serves it
    assert system.snapshot_version() == first
    expect(page.locator("#problems")).to_contain_text("good is pinned: learning goes on")

    page.click("#pin >> text=Unpin")
    confirm(page, "Unpin")
    expect(page.locator("#pin")).to_contain_text("nothing is pinned")
    system.wait_for_newer_snapshot(than=first)

    _post(system, f"snapshots/{first}/pin")  # somebody else rolls back
    expect(page.locator("#pin")).to_contain_text("good is pinned")
    system.http.delete(f"{system.serving.url}/api/v1/snapshots/pin").raise_for_status()
    expect(page.locator("#pin")).to_contain_text("nothing is pinned")

    kept.get_by_role("button", name="Delete").click()
    confirm(page, "Delete")
    expect(kept).to_have_count(0)
    expect(page.locator("#said")).to_have_text("good is deleted")
    assert problems == []


def test_it_says_that_the_stream_is_lost_and_comes_back_with_serving(system: RunningSystem, page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("Live")
    system.serving.kill()
    expect(page.locator("#connection")).to_contain_text("Connection lost")
    expect(page.locator("body")).to_have_attribute("data-stale", "")
    system.serving.start()
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("body")).not_to_have_attribute("data-stale", "")

    system.learner.kill()
    expect(page.locator("#problems")).to_contain_text(re.compile(r"learner\. No learner for \d+ s"))
    expect(page.locator("#parts tr", has_text="learner").locator(".state")).to_have_text("silent")
    system.learner.start()
    expect(page.locator("#problems")).not_to_contain_text("No learner")


def _post(system: RunningSystem, path: str, **query: Any) -> None:
    system.http.post(f"{system.serving.url}/api/v1/{path}", params=query).raise_for_status()
