"""Ingest over the twins."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.ingest.stand import Stand, settings_of


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """Ingest without a text model."""
    built = Stand(settings_of())
    async with built.client:
        yield built
