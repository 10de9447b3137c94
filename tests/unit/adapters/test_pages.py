"""Pages for browsers: nothing from elsewhere, nothing for elsewhere."""

import re

import pytest
from fastapi.responses import HTMLResponse

from tests.unit.adapters.edge import Edged

FOREIGN = re.compile(r"""(?:src|href|url|import|fetch)\s*[=(:]\s*["']?\s*(?:https?:)?//""", re.IGNORECASE)


async def test_the_docs_page_asks_no_foreign_host() -> None:
    async with Edged().client() as client:
        page = await client.get("/docs")
        assert page.status_code == 200
        assert FOREIGN.search(page.text) is None
        assert "&lt;edged&gt;" in page.text
        assert "<script>" not in page.text  # the content security policy would not run it
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(linked) == 4
        for link in linked:
            found = await client.get(f"/{link}")
            assert found.status_code == 200, link
            assert len(found.content) > 50
        start = (await client.get("/docs/start.js")).text
        assert FOREIGN.search(start) is None
        assert '"/openapi.json"' in start
        assert FOREIGN.search((await client.get("/docs/assets/swagger-ui.css")).text) is None


async def test_pages_are_guarded_and_every_answer_is_taken_for_what_it_says() -> None:
    async with Edged().client() as client:
        page, answer, error = await client.get("/docs"), await client.get("/api/v1/x"), await client.get("/docs/absent")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search("script-src[^;]*unsafe|https?:", policy)
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "content-security-policy" not in answer.headers
    assert {found.headers["x-content-type-options"] for found in (page, answer, error)} == {"nosniff"}


async def test_a_page_may_have_a_policy_of_its_own() -> None:
    edged = Edged()

    @edged.app.get("/ui")
    async def page() -> HTMLResponse:
        return HTMLResponse("x", headers={"content-security-policy": "default-src 'none'"})

    edged.app.router.routes.insert(0, edged.app.router.routes.pop())
    async with edged.client() as client:
        answer = await client.get("/ui")
    assert answer.headers.get_list("content-security-policy") == ["default-src 'none'"]
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "name", ["../core.py", "..%2fcore.py", "%2e%2e/core.py", "....//core.py", "%00", "/etc/passwd"]
)
async def test_assets_stay_in_their_folder(name: str) -> None:
    async with Edged().client() as client:
        answer = await client.get(f"/docs/assets/{name}")
    assert answer.status_code in (200, 404)  # 200 comes from the echo, where the client tidied the path
    assert "StaticFiles" not in answer.text
    assert "root:" not in answer.text
