"""Every test that the guarantees name exists, so that no promise loses the one that holds it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_each_promise_names_tests_that_exist() -> None:
    promises = (ROOT / "docs/guarantees.md").read_text().split("\n## ")[1:]
    assert promises
    for promise in promises:
        title = promise.partition("\n")[0]
        named = NAMED.findall(promise)
        assert named, f"no test holds: {title}"
        assert "Ends where:" in promise, f"no limit is said of: {title}"
        for path, test in named:
            assert f"def {test}(" in (ROOT / path).read_text(), f"{path} has no {test}"
