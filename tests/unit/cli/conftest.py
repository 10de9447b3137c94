"""The command says how it logs; that is nothing that the next test should inherit."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
