from infra.system import LocalPorts
from services.ingest.settings import Settings as Ingest
from services.learner.settings import Settings as Learner
from services.serving.settings import Settings as Serving


def test_the_ports_that_are_preferred_are_the_defaults_of_the_services() -> None:
    preferred = LocalPorts.model_construct()
    for name, settings, field in (
        ("ingest", Ingest, "ingest_port"),
        ("learner", Learner, "learner_metrics_port"),
        ("serving", Serving, "serving_port"),
    ):
        assert preferred.of(name) == settings.model_fields[field].default  # type: ignore[arg-type]
