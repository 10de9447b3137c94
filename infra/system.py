"""The whole of moard as processes of this machine: the stack and the three services, up until ``moard down``."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.local import LocalStack, Progress
from infra.migrations import upgrade
from infra.run_state import RunningServer, RunState
from infra.services import ServiceDied, ServiceName, ServiceProcess
from libs.adapters.kafka_admin import ensure_topics
from libs.adapters.settings import StackSettings, load_settings
from libs.errors import RefusedStart

_PORTS: Final[dict[ServiceName, int]] = {"learner": 8002, "ingest": 8001, "serving": 8000}
"""The services' own defaults, in the order of starting. One that is taken is replaced, unless somebody chose it."""


class _Settings(StackSettings):
    """The ports that somebody chose."""

    learner_metrics_port: int | None = None
    ingest_port: int | None = None
    serving_port: int | None = None

    def ports(self) -> dict[str, str]:
        """Return them as settings."""
        chosen = self.model_dump(include=set(_Settings.model_fields) - set(StackSettings.model_fields))
        return {f"MOARD_{name.upper()}": str(port) for name, port in chosen.items() if port}


class LocalSystem:
    """Stack and services in one folder, outliving the process that starts them.

    Parameters
    ----------
    folder
        Data, logs, checkpoints and the state file that ``down`` goes by.
    working
        Where the services run: the ``.env`` that counts for them lies there.
    """

    def __init__(self, folder: Path, working: Path) -> None:
        self._folder = folder.absolute()
        self._working = working
        self._stack = LocalStack(folder, detached=True)
        self._state = RunState(self._folder)

    def up(self, say: Progress) -> dict[str, str]:
        """Start what does not run, bring tables and topics up to date, and return the settings that point here.

        Raises
        ------
        RefusedStart
            When a server or a service does not come up, with the end of its log. What does run goes on.
        """
        settings = load_settings(_Settings)
        addresses = self._stack.up(say)
        upgrade(addresses.database_url)
        here = {"kafka_bootstrap_servers": addresses.kafka_bootstrap_servers}
        asyncio.run(ensure_topics(settings.model_copy(update=here)))
        environment = addresses.environment() | settings.ports()
        environment |= {
            "MOARD_LEARNER_CHECKPOINT_PATH": str(self._folder / "checkpoints"),
            "MOARD_STATE_PATH": str(self._folder / "serving"),
        }
        with self._state.owned():
            services = [self._service(name, environment) for name in _PORTS]
            for service in services:
                self._start(service, say)
            for service in services:
                _wait(service, say)
        return environment | {service.port_variable: str(service.port) for service in services}

    def down(self) -> None:
        """Stop the services, the learner last so that it saves all that it was sent; then the servers."""
        with self._state.owned():
            for name in reversed(_PORTS):
                self._service(name, {}).stop()
        LocalStack(self._folder, detached=True, use_external=False).down()

    def _service(self, name: ServiceName, environment: Mapping[str, str]) -> ServiceProcess:
        service = ServiceProcess(
            name, environment, self._working, logs=self._folder / "logs", preferred_port=_PORTS[name], detached=True
        )
        if (running := self._state.running().get(name)) is not None:
            service.adopt(running)
        return service

    def _start(self, service: ServiceProcess, say: Progress) -> None:
        if service.running:
            say(f"{service.name} runs already at {service.url}")
            return
        say(f"starting {service.name} …")
        service.start()
        self._state.record(service.name, RunningServer(service.identity, (service.port,), detached=True))


def _wait(service: ServiceProcess, say: Progress) -> None:
    try:
        service.wait_ready()
    except ServiceDied as error:
        raise RefusedStart(str(error)) from error
    say(f"{service.name} is ready at {service.url}")
