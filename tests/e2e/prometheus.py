"""A real Prometheus with the committed configuration, and what is wrong with a query on it."""

import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from infra.child import Child
from infra.ports import LOOPBACK, free_port
from infra.tools import PROMETHEUS, find
from tests.promql import selectors

FOLDER = Path(__file__).parents[2] / "infra/prometheus"
START_S = 20.0
_STATUS = re.compile(r',?\s*status=~"[^"]*"')  # series by status come with the first such answer
_ONLY_WHILE_FIRING = "ALERTS"


class Prometheus:
    """Scrapes each job at the address that a test gives it, every second instead of every five."""

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        self._folder = folder
        self._port = free_port()
        self._child = Child("prometheus", folder / "prometheus.log")
        self._targets = targets
        self._http = httpx.Client(base_url=f"http://{LOOPBACK}:{self._port}", timeout=10)
        self.began_s = time.time()

    def __enter__(self) -> "Prometheus":
        config = self._folder / "prometheus.yml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        options = [f"--web.listen-address={LOOPBACK}:{self._port}", f"--storage.tsdb.path={self._folder / 'data'}"]
        self._child.start([find(PROMETHEUS), f"--config.file={config}", *options], {}, self._folder)
        problem = self._child.wait_until(self._is_ready, START_S)
        assert not problem, problem
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop(grace_s=5)
        self._http.close()

    def problem(self, expr: str, *, may_be_silent: bool = False) -> str:
        """Return what is wrong with a query, empty when it is valid and draws something.

        ``or vector(0)`` draws a wrong name as 0: so each series that the query names has to exist, too. An alert's
        expression is silent while all is well.
        """
        answer = self._get("query_range", query=expr, start=self.began_s, end=time.time(), step=1)
        if answer["status"] != "success":
            return f"invalid: {answer['error']}"
        absent = [selector for selector in selectors(expr) if not self._exists(selector)]
        if absent:
            return f"no series: {', '.join(absent)}"
        if may_be_silent:
            return ""
        values = [float(value) for series in answer["data"]["result"] for _, value in series["values"]]
        if not values:
            return "empty"
        return "" if not all(map(math.isnan, values)) else "not a number, all the time"

    def alerts(self) -> dict[str, str]:
        """Return the expression of each alert that it has loaded."""
        rules = self._get("rules", type="alert")["data"]["groups"]
        return {rule["name"]: rule["query"] for group in rules for rule in group["rules"]}

    def recorded(self) -> dict[str, str]:
        """Return the expression of each series that it records."""
        rules = self._get("rules", type="record")["data"]["groups"]
        return {rule["name"]: rule["query"] for group in rules for rule in group["rules"]}

    def _exists(self, selector: str) -> bool:
        if selector.startswith(_ONLY_WHILE_FIRING):
            return True
        return bool(self._get("series", **{"match[]": _STATUS.sub("", selector)})["data"])

    def _get(self, what: str, **parameters: Any) -> dict[str, Any]:
        return dict(self._http.get(f"/api/v1/{what}", params=parameters).json())

    def _is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
        jobs = {job["job_name"]: job for job in config["scrape_configs"]}
        assert jobs.keys() == self._targets.keys()
        for name, address in self._targets.items():
            jobs[name]["static_configs"] = [{"targets": [address]}]
        return config
