"""F7: the network between learner and broker fails: silence, resets, latency."""

from collections.abc import Callable, Mapping

from infra.services import ServiceName
from tests.faults.checker import EVERY
from tests.faults.proxy import Proxy
from tests.faults.row import Row
from tests.faults.surroundings import HEALED, Probe, recovered_within
from tests.faults.trial import Trial

LATENCY_S = 0.3


def run(trial: Trial) -> None:
    proxy = Proxy()
    faults: dict[str, Callable[[], None]] = {
        "black hole": proxy.black_hole,
        "RST": lambda: proxy.reset(refuse=True),
        "300 ms latency": lambda: proxy.delay(LATENCY_S),
    }
    own: Mapping[ServiceName, Mapping[str, str]] = {"learner": {"KAFKA_BOOTSTRAP_SERVERS": proxy.address}}
    with (
        trial.stack(broker_proxied_at=proxy.port) as stack,
        proxy.forwarding(stack.kafka.proxied_port),
        trial.under_load(stack, own=own) as system,
    ):
        probe, seconds = Probe(trial, system), trial.choose(full=20.0, short=1.5)
        for fault in trial.chance.sample(list(faults), len(faults)):
            trial.pause(0.2, 1.0)
            trial.inject(f"{fault} between learner and broker")
            faults[fault]()
            trial.pause(seconds / 2, seconds)
            proxy.heal()
            trial.inject(HEALED)
            with trial.recovering(f"what came during {fault} is read"):
                probe.deliver()
                probe.learned()


ROW = Row(
    "F7",
    fault="black hole, RST, 300 ms latency between learner and broker",
    must_hold="lag recovers within 15 s after healing",
    run=run,
    checks=(*EVERY, recovered_within(15.0)),
)
