"""The console's files: few bytes, nothing from elsewhere, no script in the page."""

import hashlib
import re

from services.serving.console.routes import PAGE
from tests.unit.serving.world import WorldFactory

MOST_BYTES = 150_000
UPLOT_1_6_32 = "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"  # as the npm package has it
FOREIGN = re.compile(r"""(?:src|href|url|import|fetch)\s*[=(:]?\s*["'(]?\s*(?:https?:)?//""", re.IGNORECASE)


def test_all_files_together_weigh_little_and_the_licence_is_there() -> None:
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert hashlib.sha256((PAGE / "uplot" / "uPlot.iife.min.js").read_bytes()).hexdigest() == UPLOT_1_6_32
    licence = (PAGE / "uplot" / "LICENSE").read_text()
    assert "MIT License" in licence


def test_nothing_comes_from_elsewhere_and_no_script_stands_in_the_page() -> None:
    page = (PAGE / "index.html").read_text()
    assert re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", page) is None
    for path in PAGE.glob("*.*"):
        assert FOREIGN.search(path.read_text()) is None, path.name
    assert "innerHTML" not in "".join(path.read_text() for path in PAGE.glob("*.js"))


async def test_every_file_the_page_names_is_served_and_asked_for_anew(world: WorldFactory) -> None:
    async with world() as w:
        page = (await w.client.get("/ui")).text
        linked = re.findall(r'(?:src|href)="(ui/[^"]+)"', page)
        modules = {
            f"ui/assets/{name}"
            for path in PAGE.glob("*.js")
            for name in re.findall(r'from "\./([^"]+)"', path.read_text())
        }
        assert len(linked) == 5
        assert len(modules) >= 8
        for link in {*linked, *modules}:
            found = await w.client.get(f"/{link}")
            assert found.status_code == 200, link
            assert found.headers["cache-control"] == "no-cache"
        assert (await w.client.get("/ui/assets/../routes.py")).status_code == 404
