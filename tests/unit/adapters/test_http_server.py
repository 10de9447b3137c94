"""Answers without end, and a server that ends."""

import asyncio

import uvicorn
from fastapi import FastAPI

from libs.adapters.http_server import LEAVING, _Server


async def test_answers_without_end_are_told_that_the_server_stops() -> None:
    app = FastAPI()
    leaving = asyncio.Event()
    setattr(app.state, LEAVING, leaving)
    server = _Server(uvicorn.Config(app, port=0, log_config=None), drain_s=0.1)
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.002)
        assert not leaving.is_set()
        server.should_exit = True
        await running
    assert leaving.is_set()
