"""What is measured is documented, and what the dashboard and the alerts ask for is measured."""

import json
import re
from itertools import chain
from typing import Any

import pytest
import yaml

from api import metrics as of_api
from handbook import metrics as table
from models.types import WorkerState
from tests.rendered import ROOT, read_env
from worker import metrics as of_workers

MONITORING = ROOT / "deploy" / "monitoring"
METRICS = {
    name: (module, metric)
    for module in (of_api, of_workers)
    for name, metric in table.names_of(module).items()
}
STANDARD = {"up", "process_resident_memory_bytes"}
OF_CLUSTERS = {
    "kubelet_volume_stats_available_bytes": {"namespace", "persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"namespace", "persistentvolumeclaim"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
}
"""The kubelet's and kube-state-metrics', which are no part of this."""
OF_REQUESTS = {"method", "route", "status", "turns", "spool"}
OF_WORK = {"model", "state", "stage", "outcome", "device", "dtype"}
BOUNDED = OF_REQUESTS | OF_WORK
OF_PROMETHEUS = {"job", "instance", "le"}
RULES = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ASKED = [
    *((rule["alert"], rule["expr"]) for rule in ALERTS),
    *((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]),
]
SELECTOR = re.compile(r"\b((?:lensqueue_|process_|kubelet_|kube_)\w+|up\b)(?:\{([^}]*)\})?")


def metric_of(sample: str) -> str:
    return sample if sample in METRICS else re.sub(r"_(bucket|sum|count)$", "", sample)


def names_in(group: str) -> set[str]:
    return set(re.split(r",\s*", group))


def test_every_metric_that_the_code_declares_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `(\w+)`", table.page(), re.MULTILINE)) == METRICS.keys()


def test_names_say_what_they_are_and_no_label_says_whose() -> None:
    for name, (module, metric) in METRICS.items():
        assert name.startswith("lensqueue_worker_" if module is of_workers else "lensqueue_")
        assert name.endswith("_total") == (metric._type == "counter"), name
        assert name.endswith("_seconds") or metric._type != "histogram", name
        assert set(table.labels_of(module, metric)) <= BOUNDED, name


@pytest.mark.parametrize(("title", "expr"), ASKED, ids=[title for title, _ in ASKED])
def test_what_is_asked_for_is_measured_with_these_labels(title: str, expr: str) -> None:
    asked = SELECTOR.findall(expr)
    assert asked
    known: set[str] = set()
    for sample, matchers in asked:
        if sample in STANDARD:
            known |= OF_PROMETHEUS
            continue
        if sample in OF_CLUSTERS:
            assert set(re.findall(r"(\w+)=", matchers)) <= OF_CLUSTERS[sample]
            assert 'namespace="lensqueue"' in matchers
            known |= OF_CLUSTERS[sample]
            continue
        name = metric_of(sample)
        assert name in METRICS, sample
        module, metric = METRICS[name]
        assert sample == name or metric._type == "histogram", sample
        labels = set(table.labels_of(module, metric))
        assert set(re.findall(r"(\w+)(?:=~|!=|!~|=)", matchers)) <= labels, sample
        assert set(re.findall(r'state="(\w+)"', matchers)) <= {*WorkerState, "failed", "submitted"}
        known |= labels
    groups = re.findall(r"(?:by|on) \(([^)]*)\)", expr)
    assert set(chain.from_iterable(map(names_in, groups))) <= known | OF_PROMETHEUS
    assert expr.count("(") == expr.count(")")


def test_everything_that_is_measured_is_shown() -> None:
    targets = [target["expr"] for panel in PANELS for target in panel["targets"]]
    shown = {metric_of(sample) for expr in targets for sample, _ in SELECTOR.findall(expr)}
    assert METRICS.keys() <= shown


def test_every_alert_says_why_and_how_urgent_it_is() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS) > 10
    for rule in ALERTS:
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "reason"}
        assert len(rule["annotations"]["reason"]) > 60
        assert rule["annotations"]["reason"].endswith(".")
        of_whom = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        outermost = re.match(r"\s*(?:time\(\) - )?(?:sum|max|absent)(?: by \(([^)]*)\))?", rule["expr"])
        left = names_in(outermost[1] or "") if outermost else {"instance", "spool"}
        assert of_whom <= left, rule["alert"]


def test_the_page_names_the_alerts_and_the_jobs_that_there_are() -> None:
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text()
    alerts = (MONITORING / "alerts.yaml").read_text()
    assert set(re.findall(r"`(Lensqueue\w+)`", page)) <= {rule["alert"] for rule in ALERTS}
    assert set(re.findall(r'\bjob="([\w-]+)"', alerts)) == set(re.findall(r"job_name: ([\w-]+)", page))
    # "five are for the night"
    assert sum(rule["labels"]["severity"] == "page" for rule in ALERTS) == 5
    assert set(re.findall(r"LENSQUEUE_METRICS_\w+", page)) == {
        "LENSQUEUE_METRICS_TOKEN",
        "LENSQUEUE_METRICS_PORT",
        "LENSQUEUE_METRICS_HOST",
    }


def test_the_page_scrapes_containers_where_they_listen() -> None:
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text()
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    (config,) = re.findall(r"^```text\n(rule_files.*?)^```$", page, re.MULTILINE | re.DOTALL)
    api, workers = yaml.safe_load(config)["scrape_configs"]
    ((target,),) = [each["targets"] for each in api["static_configs"]]
    name, _, port = target.partition(":")
    assert services[name]["command"][-2:] == ["--port", port]
    (looked_up,) = workers["dns_sd_configs"]
    assert all(services[name]["command"][1] == "worker" for name in looked_up["names"])
    for file in ("deploy/settings.env", "deploy/kubernetes/base/settings.env"):
        env = read_env(ROOT / file)
        # no address of its own: another container asks
        assert env["LENSQUEUE_METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - of a container
        assert env["LENSQUEUE_METRICS_PORT"] == str(looked_up["port"])
    overrides = yaml.safe_load_all(
        "---\n".join(re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    )
    (beside,) = [each["services"]["prometheus"] for each in overrides if "services" in each]
    mounted = {mount.split(":")[1] for mount in beside["volumes"]}
    assert api["authorization"]["credentials_file"] in mounted
    assert services["api"]["environment"].keys() == {"LENSQUEUE_METRICS_TOKEN"}
