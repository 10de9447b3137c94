"""Settings that both HTTP services read."""

from dataclasses import dataclass

from pydantic import Field

from libs.adapters.settings import PositiveInt, StackSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a body may take, and how many requests there may be; 0 turns one off."""

    body_deadline_s: float = 0.0
    concurrent_requests: int = 0
    rate_per_s: float = 0.0
    rate_burst: int = 1


class HttpSettings(StackSettings):
    """Limits at the edge of ingest and of serving, each for one worker process."""

    http_concurrent_requests: int = Field(
        256,
        ge=0,
        description="Requests one worker works on at once; more get 503 before their body is read. 0: no limit.",
    )
    http_rate_per_s: float = Field(
        0.0,
        ge=0,
        description="Requests per second of one API key (of one address where no key is asked for) and worker; more "
        "get 429. 0: no limit, because a backend is one caller with all the traffic.",
    )
    http_rate_burst: PositiveInt = Field(
        100, description="Requests a caller may send at once before http_rate_per_s counts."
    )
    http_body_deadline_ms: int = Field(
        10_000,
        gt=0,
        le=30_000,
        description="Milliseconds a request's body may take to arrive; later it gets 408. 2 MB at 2 Mbit/s take 8 s.",
    )

    @property
    def http_limits(self) -> Limits:
        """The limits of one worker."""
        return Limits(
            body_deadline_s=self.http_body_deadline_ms / 1_000,
            concurrent_requests=self.http_concurrent_requests,
            rate_per_s=self.http_rate_per_s,
            rate_burst=self.http_rate_burst,
        )
