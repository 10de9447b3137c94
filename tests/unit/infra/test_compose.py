"""docker-compose.yml and the Dockerfile say what the settings and the local stack say."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from infra.grafana.panels import DATASOURCE_UID
from infra.kafka_server import HERE
from infra.services import ROOT
from libs.adapters.settings import StackSettings
from services.ingest.settings import Settings as IngestSettings
from services.learner.settings import Settings as LearnerSettings
from services.serving.settings import Settings as ServingSettings

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "infra/Dockerfile").read_text()

SETTINGS: dict[str, type[BaseSettings]] = {
    "ingest": IngestSettings,
    "learner": LearnerSettings,
    "serving": ServingSettings,
    "topics": StackSettings,
    "migrate": StackSettings,
}
OURS = pytest.mark.parametrize("name", SETTINGS)
LISTENING = pytest.mark.parametrize(
    ("name", "port_field"),
    [("ingest", "ingest_port"), ("learner", "learner_metrics_port"), ("serving", "serving_port")],
)


def variables(cls: type[BaseSettings]) -> dict[str, str]:
    """Return the environment variables a settings class reads, each with its field."""
    prefix = cls.model_config.get("env_prefix", "")
    named = {f"{prefix}{field}".upper(): field for field in cls.model_fields}
    for field, info in cls.model_fields.items():
        if isinstance(info.validation_alias, AliasChoices):
            del named[f"{prefix}{field}".upper()]
            named[str(info.validation_alias.choices[0])] = field
    return named


def container_port(service: dict[str, Any]) -> int:
    return int(service["ports"][0].rsplit(":", 1)[1])


@OURS
def test_every_variable_is_a_setting(name: str) -> None:
    assert set(SERVICES[name]["environment"]) <= set(variables(SETTINGS[name]))


@OURS
def test_the_settings_accept_the_values(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # away from any .env
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = SETTINGS[name]()
    named = variables(SETTINGS[name])
    for variable, value in SERVICES[name]["environment"].items():
        read = getattr(settings, named[variable])
        assert str(int(read) if isinstance(read, bool) else read) == value


@LISTENING
def test_ports_are_the_defaults_and_health_is_asked_for_there(name: str, port_field: str) -> None:
    default = SETTINGS[name].model_fields[port_field].default
    service = SERVICES[name]
    assert service["environment"][f"MOARD_{port_field.upper()}"] == str(default)
    assert f"http://127.0.0.1:{default}/" in service["healthcheck"]["test"][-1]
    for port in service.get("ports", []):
        assert port == f"127.0.0.1:{default}:{default}"


def test_addresses_lead_to_the_containers() -> None:
    addresses = COMPOSE["x-stack"]
    host, port = addresses["KAFKA_BOOTSTRAP_SERVERS"].split(":")
    assert f"INTERNAL://{host}:{port}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"INTERNAL://:{port}" in SERVICES["kafka"]["environment"]["KAFKA_LISTENERS"]
    assert addresses["REDIS_URL"] == f"redis://redis:{container_port(SERVICES['redis'])}/0"
    mysql = SERVICES["mysql"]["environment"]
    account = f"{mysql['MYSQL_USER']}:{mysql['MYSQL_PASSWORD']}"
    place = f"mysql:{container_port(SERVICES['mysql'])}/{mysql['MYSQL_DATABASE']}"
    assert addresses["DATABASE_URL"] == f"mysql+asyncmy://{account}@{place}?charset=utf8mb4"
    for name in SETTINGS:
        assert addresses.items() <= SERVICES[name]["environment"].items()


def test_ports_on_the_host_are_those_the_settings_expect_by_default() -> None:
    kafka_port = StackSettings.model_fields["kafka_bootstrap_servers"].default.rpartition(":")[2]
    redis_port = re.search(r":(\d+)/", StackSettings.model_fields["redis_url"].default)
    assert redis_port is not None
    assert SERVICES["kafka"]["ports"] == [f"127.0.0.1:{kafka_port}:{kafka_port}"]
    assert f"HOST://127.0.0.1:{kafka_port}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert SERVICES["redis"]["ports"] == [f"127.0.0.1:{redis_port[1]}:{redis_port[1]}"]


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_published_beyond_this_machine(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_servers_report_their_health_and_jobs_run_once(name: str) -> None:
    service = SERVICES[name]
    if name in ("topics", "migrate"):
        assert service["command"] == ["moard", name]
        assert service["restart"].startswith("on-failure")
    else:
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["stop_grace_period"]


@pytest.mark.parametrize("name", ["ingest", "learner", "serving"])
def test_services_wait_for_topics_and_migrations_and_may_write_nowhere_else(name: str) -> None:
    service = SERVICES[name]
    finished = {"condition": "service_completed_successfully"}
    assert service["depends_on"].items() >= {"topics": finished, "migrate": finished}.items()
    assert service["read_only"] is True
    written = service["environment"].get("MOARD_STATE_PATH") or service["environment"].get(
        "MOARD_LEARNER_CHECKPOINT_PATH"
    )
    volumes = [volume.partition(":")[2] for volume in service.get("volumes", [])]
    assert (written is None and not volumes) or (written is not None and written.startswith(volumes[0]))


def test_a_service_has_longer_to_stop_than_it_may_take() -> None:
    def grace_s(name: str) -> int:
        return int(SERVICES[name]["stop_grace_period"].removesuffix("s"))

    assert grace_s("ingest") * 1_000 > IngestSettings.model_fields["ingest_shutdown_ms"].default
    assert grace_s("serving") * 1_000 > 2 * ServingSettings.model_fields["serving_drain_ms"].default


def test_the_broker_is_the_one_that_tests_run_and_creates_no_topic_by_itself() -> None:
    version = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>([\d.]+)<", (HERE / "pom.xml").read_text())
    assert version is not None
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version[1]}"
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert SERVICES["redis"]["image"].startswith("redis:7")
    assert SERVICES["redis"]["command"][-2:] == ["--maxmemory-policy", "noeviction"]
    assert SERVICES["mysql"]["image"].startswith("mysql:8")


def test_images_are_built_by_stages_that_exist_and_run_as_nobody_special() -> None:
    targets = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    for name in SETTINGS:
        assert SERVICES[name]["build"]["target"] in targets
        assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()
    runtime = DOCKERFILE.split(" AS runtime\n")[1].split("\nFROM ")[0]
    assert runtime.rstrip().endswith("USER moard")


@pytest.mark.parametrize("name", ["ingest", "serving", "learner"])
def test_only_the_learners_image_has_torch(name: str) -> None:
    stage = DOCKERFILE.split(f" AS {name}\n")[1].split("\nFROM ")[0]
    source = re.search(r"--from=(\S+)", stage)
    assert source is not None
    installs = DOCKERFILE.split(f" AS {source[1]}\n")[1].split("\nFROM ")[0]
    assert ("--extra learner" in installs) == (name == "learner")
    assert f'CMD ["python", "-m", "services.{name}"]' in stage


OBSERVABILITY = ("prometheus", "grafana")


@pytest.mark.parametrize("name", OBSERVABILITY)
def test_observability_is_asked_for_pinned_and_may_write_its_data_alone(name: str) -> None:
    service = SERVICES[name]
    assert service["profiles"] == ["observability"]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    mounted = [volume.split(":") for volume in service["volumes"]]
    assert [source for source, _, *mode in mounted if mode != ["ro"]] == [name]
    for source, _, *mode in mounted:
        assert mode == [] or (ROOT / source).is_dir()


def test_prometheus_scrapes_the_services_where_they_listen() -> None:
    config = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    ports = {
        "ingest": IngestSettings.model_fields["ingest_port"].default,
        "learner": LearnerSettings.model_fields["learner_metrics_port"].default,
        "serving": ServingSettings.model_fields["serving_port"].default,
    }
    assert targets == {name: [f"{name}:{port}"] for name, port in ports.items()}


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    provisioning = ROOT / "infra/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["uid"] == DATASOURCE_UID
    assert source["url"] == f"http://prometheus:{container_port(SERVICES['prometheus'])}"
    config = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/moard.yml").read_text())["providers"]
    assert f"./infra/grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (ROOT / "infra/grafana/dashboards" / home.name).is_file()
