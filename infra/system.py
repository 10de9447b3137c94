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

_SERVICES: Final[tuple[ServiceName, ...]] = ("learner", "ingest", "serving")
"""In the order of starting."""


class LocalPorts(StackSettings):
    """Where the services listen on this machine; the defaults are their own."""

    learner_metrics_port: int = 8002
    ingest_port: int = 8001
    serving_port: int = 8000

    def chosen(self) -> dict[str, str]:
        """Return the ports that somebody chose, as settings. Any other may be replaced if it is taken."""
        names = self.model_fields_set & (set(LocalPorts.model_fields) - set(StackSettings.model_fields))
        return {f"MOARD_{name.upper()}": str(getattr(self, name)) for name in sorted(names)}

    def of(self, name: ServiceName) -> int:
        """Return the port of a service."""
        return {"learner": self.learner_metrics_port, "ingest": self.ingest_port, "serving": self.serving_port}[name]


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
        settings = load_settings(LocalPorts)
        addresses = self._stack.up(say)
        upgrade(addresses.database_url)
        here = {"kafka_bootstrap_servers": addresses.kafka_bootstrap_servers}
        asyncio.run(ensure_topics(settings.model_copy(update=here)))
        environment = addresses.environment() | settings.chosen()
        environment |= {
            "MOARD_LEARNER_CHECKPOINT_PATH": str(self._folder / "checkpoints"),
            "MOARD_STATE_PATH": str(self._folder / "serving"),
        }
        with self._state.owned():
            services = [self._service(name, environment) for name in _SERVICES]
            for service in services:
                self._start(service, say)
            for service in services:
                _wait(service, say)
        return environment | {service.port_variable: str(service.port) for service in services}

    def down(self) -> None:
        """Stop the services, the learner last so that it saves all that it was sent; then the servers."""
        with self._state.owned():
            for name in reversed(_SERVICES):
                self._service(name, {}).stop()
        LocalStack(self._folder, detached=True, use_external=False).down()

    def _service(self, name: ServiceName, environment: Mapping[str, str]) -> ServiceProcess:
        service = ServiceProcess(
            name,
            environment,
            self._working,
            logs=self._folder / "logs",
            preferred_port=LocalPorts.model_construct().of(name),
            detached=True,
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
