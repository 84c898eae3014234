"""The overlay that docs/how-to/deploy.md has the operator write renders, and what it monitors is there."""

import os
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import make_url

from deploy.rules import FILE, RULES, resource
from tests.rendered import KUBERNETES, ROOT, read_env, render, render_folder

HOW_TO = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
(OVERLAY,) = re.findall(
    r"^```yaml\n(# deploy/kubernetes/overlays/mine/.*?)^```$", HOW_TO, re.MULTILINE | re.DOTALL
)
COMPONENT = "app.kubernetes.io/component"
OPERATORS = "monitoring.coreos.com/v1"
"""For these kinds `kubernetes-validate` has no schema: they are looked at here."""
ADDED = {(OPERATORS, "PodMonitor"), (OPERATORS, "PrometheusRule"), ("batch/v1", "CronJob")}


@cache
def mine() -> tuple[dict[str, Any], ...]:
    """The overlay as it stands on the page, but for the way to its resources."""
    with TemporaryDirectory() as folder:
        # kustomize resolves links, as that of a folder for temporary files may be
        there = Path(folder).resolve()
        overlays = Path(os.path.relpath(KUBERNETES / "overlays", there))
        told = yaml.safe_load(OVERLAY)
        for key in ("resources", "components"):
            told[key] = [os.path.normpath(overlays / "mine" / path) for path in told[key]]
        (there / "kustomization.yaml").write_text(yaml.safe_dump(told))
        return render_folder(there)


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in mine() if each["kind"] == kind]


def test_it_adds_only_what_is_checked_and_that_is_valid() -> None:
    kinds = {(each["apiVersion"], each["kind"]) for each in mine()}
    assert kinds - {(each["apiVersion"], each["kind"]) for each in render("cpu")} == ADDED
    assert all(each["metadata"].get("namespace", "lensqueue") == "lensqueue" for each in mine())
    assert all(each["metadata"].get("namespace") for each in mine() if each["apiVersion"] == OPERATORS)
    for each in mine():
        if each["kind"] in {"Ingress", "ConfigMap", "PersistentVolumeClaim", "CronJob"}:
            kubernetes_validate.validate(each, "1.32", strict=True)


def test_what_is_the_operators_is_put_everywhere() -> None:
    assert "example.com" not in yaml.safe_dump_all(mine())
    assert {each["spec"]["storageClassName"] for each in of_kind("PersistentVolumeClaim")} == {"nfs"}
    (settings,) = [each for each in of_kind("ConfigMap") if each["metadata"]["name"].startswith("settings-")]
    told = dict(each.split("=", 1) for each in yaml.safe_load(OVERLAY)["configMapGenerator"][0]["literals"])
    assert settings["data"] == {**read_env(KUBERNETES / "base" / "settings.env"), **told}


@pytest.mark.parametrize("job", ["lensqueue-api", "lensqueue-worker"])
def test_every_process_is_scraped_on_a_port_that_it_has_under_the_job_of_the_alerts(job: str) -> None:
    (monitor,) = [each for each in of_kind("PodMonitor") if each["metadata"]["name"] == job]
    # an unknown field would be dropped without a word
    assert monitor["spec"].keys() == {"selector", "podMetricsEndpoints"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert {*endpoint} - {"authorization"} == {"port", "path", "interval", "relabelings"}
    assert {"targetLabel": "job", "replacement": job} in endpoint["relabelings"]
    assert f'job="{job}"' in RULES.read_text()
    wanted = ["api"] if job == "lensqueue-api" else ["worker", "analyst"]
    one_of = {"key": COMPONENT, "operator": "In", "values": wanted}
    name = {"app.kubernetes.io/name": "lensqueue"}
    assert monitor["spec"]["selector"] in (
        {"matchLabels": {**name, COMPONENT: wanted[0]}},
        {"matchLabels": name, "matchExpressions": [one_of]},
    )
    scraped = [
        each["spec"]["template"]["spec"]["containers"][0]
        for each in of_kind("Deployment")
        if each["spec"]["template"]["metadata"]["labels"][COMPONENT] in wanted
    ]
    assert scraped
    for container in scraped:
        assert endpoint["port"] in {port["name"] for port in container["ports"]}
        tokens = [each for each in container["env"] if each["name"] == "LENSQUEUE_METRICS_TOKEN"]
        sent = endpoint.get("authorization", {}).get("credentials")
        assert [each["valueFrom"]["secretKeyRef"] for each in tokens] == (
            [{**sent, "optional": True}] if sent else []
        )


def test_the_operators_rules_are_the_alerts() -> None:
    assert FILE.read_text() == resource(), "run `python -m deploy.rules`"
    (rule,) = of_kind("PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


@pytest.mark.parametrize("name", ["back-up", "restore"])
def test_a_backup_and_a_restore_reach_the_database_and_the_blobs_of_the_service(name: str) -> None:
    (cron,) = [each for each in of_kind("CronJob") if each["metadata"]["name"] == name]
    assert cron["spec"].get("suspend", False) == (name == "restore")
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    settings = read_env(KUBERNETES / "base" / "settings.env")
    database = make_url(settings["LENSQUEUE_DATABASE_URL"])
    assert (env["PGHOST"], env["PGUSER"], env["PGDATABASE"]) == (
        database.host,
        database.username,
        database.database,
    )
    assert env["PASSWORD_FILE"] == settings["LENSQUEUE_DATABASE_PASSWORD_FILE"]
    (postgres,) = [each for each in of_kind("StatefulSet") if each["metadata"]["name"] == "postgres"]
    assert container["image"] == postgres["spec"]["template"]["spec"]["containers"][0]["image"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts.values()) == volumes.keys()
    assert volumes[mounts[env["BLOBS"]]]["persistentVolumeClaim"]["claimName"] == "blobs"
    assert volumes[mounts[env["BACKUPS"]]]["persistentVolumeClaim"]["claimName"] == "backups"
    script = Path(container["command"][1])
    told = volumes[mounts[str(script.parent)]]["configMap"]["name"]
    assert [
        script.name in each["data"] for each in of_kind("ConfigMap") if each["metadata"]["name"] == told
    ] == [True]
    # our pods alone reach the broker, and this one is none of them
    assert (
        container["securityContext"]["readOnlyRootFilesystem"]
        is pod["securityContext"]["runAsNonRoot"]
        is True
    )
    written = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written - {"script", "temporary"} == ({"blobs"} if name == "restore" else {"backups"})
    page = (ROOT / "docs" / "how-to" / "back-up.md").read_text()
    if name == "restore":
        assert f"set env cronjob/restore {(env.keys() - {*re.findall(r'--env (.+?)=', page)}).pop()}=" in page
    else:
        assert set(re.findall(r"--env (\w+)=", page)) == env.keys()
        assert f"  {container['image']} sh {script}\n" in page


def test_a_new_cluster_is_given_what_a_restore_needs_and_nothing_that_runs_our_code() -> None:
    page = (ROOT / "docs" / "how-to" / "back-up.md").read_text()
    (told,) = re.findall(rf"apply .* --selector '{COMPONENT} in \((.*)\)'", page)
    chosen = [
        each for each in mine() if each["metadata"].get("labels", {}).get(COMPONENT) in told.split(", ")
    ]
    kinds = {each["kind"] for each in chosen}
    assert kinds == {
        "PersistentVolumeClaim",
        "StatefulSet",
        "Service",
        "NetworkPolicy",
        "CronJob",
        "ConfigMap",
    }
    for kind in ("PersistentVolumeClaim", "StatefulSet", "CronJob"):
        assert [each for each in chosen if each["kind"] == kind] == of_kind(kind)
