"""The overlay that docs/how-to has the operator write renders, and what it monitors is there."""

import json
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

from api.settings import ApiSettings
from deploy.rules import FILE, RULES, resource
from tests.rendered import KUBERNETES, ROOT, read_env, render, render_folder

HOW_TO = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
(OVERLAY,) = re.findall(
    r"^```yaml\n(# deploy/kubernetes/overlays/mine/.*?)^```$", HOW_TO, re.MULTILINE | re.DOTALL
)
DAYS = (ROOT / "docs" / "how-to" / "cluster.md").read_text()
COMPONENT = "app.kubernetes.io/component"
OPERATORS = "monitoring.coreos.com/v1"
"""For these kinds `kubernetes-validate` has no schema: they are looked at here."""
ADDED = {(OPERATORS, "PodMonitor"), (OPERATORS, "PrometheusRule"), ("batch/v1", "CronJob")}


def blocks_behind(first: str) -> list[Any]:
    """What the blocks of cluster.md say that begin so."""
    found = re.findall(rf"^```yaml\n({first}.*?)^```$", DAYS, re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(each) for each in found]


@cache
def mine() -> tuple[dict[str, Any], ...]:
    """The overlay as it stands on the page, but for the way to its resources."""
    return overlay_with({})


def overlay_with(more: dict[str, list[Any]]) -> tuple[dict[str, Any], ...]:
    """The same, with what another page has the operator add."""
    with TemporaryDirectory() as folder:
        # kustomize resolves links, as that of a folder for temporary files may be
        there = Path(folder).resolve()
        overlays = Path(os.path.relpath(KUBERNETES / "overlays", there))
        told = yaml.safe_load(OVERLAY)
        told = {key: value + more.get(key, []) if key in more else value for key, value in told.items()}
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
        if each["kind"] in {"Ingress", "ConfigMap", "PersistentVolumeClaim", "CronJob", "StatefulSet"}:
            kubernetes_validate.validate(each, "1.32", strict=True)


def test_what_is_the_operators_is_put_everywhere() -> None:
    assert "example.com" not in yaml.safe_dump_all(mine())
    claims = {each["metadata"]["name"]: each["spec"] for each in of_kind("PersistentVolumeClaim")}
    assert {name: each["storageClassName"] for name, each in claims.items()} == {
        "blobs": "nfs",
        "weights": "nfs",
        "backups": "nfs-backups",
    }
    templates = [each for one in of_kind("StatefulSet") for each in one["spec"]["volumeClaimTemplates"]]
    assert {each["spec"]["storageClassName"] for each in templates} == {"ssd"}
    assert {each["spec"]["ingressClassName"] for each in of_kind("Ingress")} == {"nginx"}
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
    # pods of our name alone reach the broker, and this one does not
    labels = cron["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] != "lensqueue"
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


def test_settings_of_json_reach_the_pods_as_they_are_written() -> None:
    (added,) = blocks_behind("configMapGenerator:")
    (generator,) = added["configMapGenerator"]
    told = dict(each.split("=", 1) for each in generator["literals"])
    assert any(value.startswith("[") for value in told.values())
    more = overlay_with({"configMapGenerator": [generator]})
    (settings,) = [each for each in more if each["metadata"]["name"].startswith("settings-")]
    assert told.items() <= settings["data"].items()
    for name in ("s3_allowed", "egress_allowed"):
        assert ApiSettings.model_validate({name: json.loads(told[f"LENSQUEUE_{name.upper()}"])})


def test_patches_for_secrets_and_weights_reach_whom_they_are_for() -> None:
    patches = [patch for block in blocks_behind("# patches: ") for patch in block]
    made = set(re.findall(r"create secret generic (\S+)", DAYS))
    got: dict[str, set[str]] = {name: set() for name in made}
    for each in overlay_with({"patches": patches}):
        if each["kind"] not in {"Deployment", "Job"}:
            continue
        kubernetes_validate.validate(each, "1.32", strict=True)
        (container,) = each["spec"]["template"]["spec"]["containers"]
        for source in container["envFrom"][1:]:
            got[source["secretRef"]["name"]].add(each["metadata"]["labels"][COMPONENT])
        if each["metadata"]["name"] == "api":
            assert [mount["readOnly"] for mount in container["volumeMounts"] if mount["name"] == "weights"]
    assert got == {
        "lensqueue-hub": {"worker"},
        "lensqueue-s3": {"analyst"},
        "lensqueue-broker": {"api", "analyst", "worker", "migrate"},
    }


def test_the_pod_that_fills_the_weights_is_as_confined_as_ours() -> None:
    (pod,) = blocks_behind("# fill.yaml")
    kubernetes_validate.validate(pod, "1.32", strict=True)
    (api,) = [each for each in of_kind("Deployment") if each["metadata"]["name"] == "api"]
    ours = api["spec"]["template"]["spec"]
    assert pod["metadata"]["namespace"] == api["metadata"]["namespace"]
    assert pod["spec"]["securityContext"] == ours["securityContext"]
    (container,), (of_ours,) = pod["spec"]["containers"], ours["containers"]
    assert container["securityContext"] == of_ours["securityContext"]
    assert container["image"] == of_ours["image"]
    (mount,) = container["volumeMounts"]
    assert f"-C {mount['mountPath']} <" in DAYS
