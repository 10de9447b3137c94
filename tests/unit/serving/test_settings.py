"""Settings of serving, and the process that must not start with bad ones, or with torch."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from services.serving.settings import Settings


def settings(**given: object) -> Settings:
    return Settings(_env_file=None, **given)  # type: ignore[arg-type]


def test_origins_are_a_list_with_commas() -> None:
    given = settings(serving_cors_origins="https://a.example, https://b.example/,")
    assert given.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("host", "origins"),
    [
        ("127.0.0.1", ("http://localhost:3000",)),
        ("localhost", ("http://localhost:3000",)),
        ("0.0.0.0", ()),
        ("api", ()),
    ],
)
def test_the_admin_page_may_call_in_development_only(host: str, origins: tuple[str, ...]) -> None:
    assert settings(serving_host=host).allowed_origins == origins


def test_an_empty_list_allows_nobody() -> None:
    assert settings(serving_cors_origins="").allowed_origins == ()


def test_some_contents_must_be_proposed() -> None:
    none = {f"serving_propose_{source}": 0 for source in ("nearest", "popular", "new", "random")}
    with pytest.raises(ValidationError, match="MOARD_SERVING_PROPOSE_"):
        settings(**none)
    assert settings(**none | {"serving_propose_random": 2}).serving_propose_random == 2.0
    assert settings(serving_propose_random=0).serving_propose_nearest > 0


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MOARD_")} | environment
    return subprocess.run(
        [sys.executable, "-c", code],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


REFUSING_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "gensim"):
            raise AssertionError("imported " + name)

sys.meta_path.insert(0, Refuse())
"""


def test_nothing_of_serving_imports_torch_or_gensim() -> None:
    code = REFUSING_TORCH + "import services.serving.__main__, services.serving.server; print('fine')"
    done = run(code)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "names"),
    [
        ("MOARD_SERVING_PORT", "http", "MOARD_SERVING_PORT"),
        ("MOARD_SERVING_RULE", "best", "MOARD_SERVING_RULE"),
        ("MOARD_SERVING_TEMPERATURE", "0", "MOARD_SERVING_TEMPERATURE"),
        ("MOARD_SERVING_PROPOSE_COUNT", "1001", "MOARD_SERVING_PROPOSE_COUNT"),
        ("MOARD_SERVING_PROPOSE_NEW", "-0.1", "MOARD_SERVING_PROPOSE_NEW"),
        ("MOARD_SERVING_PROPOSE_NEAREST", "inf", "MOARD_SERVING_PROPOSE_NEAREST"),
        ("MOARD_SERVING_HOST", "0.0.0.0", "MOARD_ALLOW_INSECURE"),
        ("MOARD_DOC2VEC_PATH", "/nonexistent", "MOARD_DOC2VEC_PATH"),
    ],
)
def test_a_bad_setting_is_named_and_refused(variable: str, value: str, names: str) -> None:
    code = "import sys; from services.serving.__main__ import main; sys.exit(main())"
    done = run(code, **{variable: value})
    assert done.returncode == 2
    assert names in done.stderr
    assert "Traceback" not in done.stderr
