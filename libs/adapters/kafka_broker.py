"""How to reach the broker, and how to prove who we are: what every Kafka client here is opened with."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

_NONE: Final = SecretStr("")


@dataclass(frozen=True, slots=True)
class Broker:
    """Addresses and credentials. Its text is the addresses alone."""

    servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: SecretStr = _NONE
    ca_file: str = ""

    def __str__(self) -> str:
        return self.servers

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of aiokafka's clients."""
        found: dict[str, Any] = {"bootstrap_servers": self.servers, "security_protocol": self.security_protocol}
        if self.security_protocol.endswith("SSL"):
            # Certificates and host names are checked; an empty name means the system's authorities.
            found["ssl_context"] = ssl.create_default_context(cafile=self.ca_file or None)
        if self.security_protocol.startswith("SASL"):
            found["sasl_mechanism"] = self.sasl_mechanism
            found["sasl_plain_username"] = self.username
            found["sasl_plain_password"] = self.password.get_secret_value()
        return found


def broker_of(given: "Broker | str") -> Broker:
    """Return a broker; bare addresses mean one without credentials."""
    return given if isinstance(given, Broker) else Broker(given)


def problem_with(broker: Broker) -> str | None:
    """Return what is missing, naming the setting; None when nothing is."""
    if broker.security_protocol.startswith("SASL") and not (broker.username and broker.password.get_secret_value()):
        return "MOARD_KAFKA_SASL_USERNAME and MOARD_KAFKA_SASL_PASSWORD: both are needed for SASL"
    if broker.ca_file and not Path(broker.ca_file).is_file():
        return f"MOARD_KAFKA_CA_FILE: there is no file {broker.ca_file!r}"
    return None
