"""What the manifests for Kubernetes name exists: in the code, in the Dockerfile, and in themselves."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import make_url

from api.routes import health
from api.settings import ApiSettings
from cli.up import API_GRACE_SECONDS, WORKER_GRACE_SECONDS
from deploy.workers import manifests
from engine.catalog import DEMO_MODEL, Catalog
from jobs.broker import SETTINGS
from models.queue import ANALYSIS
from models.session import POOL_SIZE, SYNC_OVERFLOW, SYNC_POOL_SIZE
from tests.rendered import KUBERNETES, OVERLAYS, ROOT, arguments_of, read_env, render
from worker.settings import WorkerSettings

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
HOW_TO = "".join((ROOT / "docs" / "how-to" / f"{page}.md").read_text() for page in ("deploy", "cluster"))
MONITOR = (ROOT / "docs" / "how-to" / "monitor.md").read_text()
UPGRADE = (ROOT / "docs" / "how-to" / "upgrade.md").read_text()
SCALE_OUT = (ROOT / "docs" / "how-to" / "scale-out.md").read_text()
OF_AN_API = 3 * POOL_SIZE + 2 * (SYNC_POOL_SIZE + SYNC_OVERFLOW)
OF_A_WORKER = 6
HUB_MODELS = sorted(name for name in Catalog().names() if name != DEMO_MODEL)
ENV = read_env(KUBERNETES / "base" / "settings.env")
KINDS = {
    *(("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("batch/v1", "Job"), ("v1", "Service")),
    *(("v1", "ConfigMap"), ("v1", "Namespace"), ("v1", "PersistentVolumeClaim")),
    *(("networking.k8s.io/v1", "Ingress"), ("networking.k8s.io/v1", "NetworkPolicy")),
    ("policy/v1", "PodDisruptionBudget"),
}
KEDA_KINDS = {("keda.sh/v1alpha1", "ScaledObject"), ("keda.sh/v1alpha1", "TriggerAuthentication")}
"""For these `kubernetes-validate` has no schema: they are looked at here."""
SCALER_KEYS = {
    *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod"),
    *("advanced", "triggers"),
}
TRIGGER_KEYS = {
    *("host", "port", "userName", "dbName", "sslmode"),
    *("query", "targetQueryValue", "activationTargetQueryValue"),
}

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def of_kind(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in render(overlay) if each["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in of_kind(overlay, kind) if each["metadata"]["name"] == name]
    return found


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the pod of everything that runs, ours and the datastores."""
    for owner in of_kind(overlay, "Deployment", "StatefulSet", "Job"):
        yield owner["metadata"]["name"], owner["spec"]["template"]["spec"]


def ours(overlay: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The name, the pod and the container of what runs our code."""
    for name, pod in pods(overlay):
        (container,) = pod["containers"]
        if "lensqueue-" in container["image"]:
            yield name, pod, container


def named_container(overlay: str, name: str) -> dict[str, Any]:
    (found,) = [pod["containers"][0] for found, pod in pods(overlay) if found == name]
    container: dict[str, Any] = found
    return container


def of_scalers(overlay: str) -> set[str]:
    return {each["metadata"]["name"] for each in of_kind(overlay, "ScaledObject")}


def names_of(found: object, key: str) -> set[str]:
    """Every value of a key, however deep it lies."""
    if isinstance(found, list):
        return set().union(*(names_of(each, key) for each in found))
    if not isinstance(found, dict):
        return set()
    here = {found[key]} if isinstance(found.get(key), str) else set()
    return here.union(*(names_of(each, key) for each in found.values()))


def test_every_kind_is_one_that_is_checked(overlay: str) -> None:
    assert {(each["apiVersion"], each["kind"]) for each in render(overlay)} == KINDS | KEDA_KINDS
    assert {each["metadata"].get("namespace", "lensqueue") for each in render(overlay)} == {"lensqueue"}


def test_workers_are_written_by_their_template(overlay: str) -> None:
    assert all(path.read_text() == text for path, text in manifests())


def test_images_are_targets_of_the_dockerfile_and_each_role_runs_in_its_own(overlay: str) -> None:
    for name, _, container in ours(overlay):
        target = container["image"].rpartition("/")[2].partition(":")[0].removeprefix("lensqueue-")
        assert re.search(rf" AS {target}$", DOCKERFILE, re.MULTILINE), name
        model = "worker-cuda" if overlay == "gpu" else "worker-cpu"
        assert target == {"api": "api", "migrate": "api", "analyst": "analyst"}.get(name, model)


def test_every_command_parses_and_every_model_has_a_worker_and_a_scaler(overlay: str) -> None:
    commands = {name: arguments_of(container["args"]) for name, _, container in ours(overlay)}
    served = {name: told["model"] for name, told in commands.items() if told.get("model")}
    assert sorted(served.values()) == HUB_MODELS
    assert [told["queue"] for told in commands.values() if told.get("queue")] == [ANALYSIS]
    scaled = {each["spec"]["scaleTargetRef"]["name"]: each for each in of_kind(overlay, "ScaledObject")}
    assert scaled.keys() == served.keys()
    for name, scaler in scaled.items():
        query = scaler["spec"]["triggers"][0]["metadata"]["query"]
        assert set(re.findall(r"model = '([^']+)'", query)) == {served[name]}
        # what replicas the autoscaler has chosen, no manifest takes back
        assert "replicas" not in named(overlay, "Deployment", name)["spec"]


def test_the_default_model_is_always_served(overlay: str) -> None:
    (name,) = [
        name
        for name, _, container in ours(overlay)
        if container["args"][-1] == ENV["LENSQUEUE_DEFAULT_MODEL"]
    ]
    assert named(overlay, "ScaledObject", name)["spec"]["minReplicaCount"] == 1


def test_a_scaler_asks_the_database_that_the_service_uses(overlay: str) -> None:
    database = make_url(ENV["LENSQUEUE_DATABASE_URL"])
    (authentication,) = of_kind(overlay, "TriggerAuthentication")
    for scaler in of_kind(overlay, "ScaledObject"):
        # an unknown field would be dropped without a word
        assert set(scaler["spec"]) == SCALER_KEYS
        (trigger,) = scaler["spec"]["triggers"]
        assert set(trigger) == {"type", "authenticationRef", "metadata"}
        assert trigger["type"] == "postgresql"
        assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
        metadata = trigger["metadata"]
        assert set(metadata) == TRIGGER_KEYS
        assert all(isinstance(value, str) for value in metadata.values())
        assert metadata["host"] == f"{database.host}.lensqueue.svc.cluster.local"
        assert (metadata["userName"], metadata["dbName"]) == (database.username, database.database)
    told = {each["name"]: each["value"] for each in named_container(overlay, "postgres")["env"]}
    assert (told["POSTGRES_USER"], told["POSTGRES_DB"]) == (database.username, database.database)


def test_services_select_pods_and_name_ports_that_they_listen_on(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        selector = service["spec"]["selector"]
        (owner,) = [
            each
            for each in of_kind(overlay, "Deployment", "StatefulSet")
            if selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        ports = {port["name"] for port in owner["spec"]["template"]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    hosts = {service["metadata"]["name"] for service in of_kind(overlay, "Service")}
    broker = make_url(ENV["LENSQUEUE_BROKER_URL"])
    assert {make_url(ENV["LENSQUEUE_DATABASE_URL"]).host, broker.host} <= hosts
    assert named(overlay, "Service", broker.host or "")["spec"]["ports"][0]["port"] == broker.port
    for backend in (each["spec"]["rules"][0]["http"] for each in of_kind(overlay, "Ingress")):
        service = backend["paths"][0]["backend"]["service"]
        found = named(overlay, "Service", service["name"])
        assert service["port"]["name"] in {port["name"] for port in found["spec"]["ports"]}


def test_probes_ask_what_the_api_answers_on_the_port_that_it_listens_on(overlay: str) -> None:
    paths = {route.path for route in health.router.routes if isinstance(route, APIRoute)}
    container = named_container(overlay, "api")
    (port,) = container["ports"]
    assert port["name"] == "http"
    assert arguments_of(container["args"])["port"] == port["containerPort"]
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
        assert path in paths
    for _, _, other in ours(overlay):
        if other["args"][1] == "worker":
            assert other["readinessProbe"]["exec"]["command"] == ["python", "-m", "worker.ready"]


def test_all_new_pods_of_the_api_stand_by_when_a_new_schema_makes_the_old_ones_unready(
    overlay: str,
) -> None:
    deployment = named(overlay, "Deployment", "api")["spec"]
    told = deployment["strategy"]["rollingUpdate"]
    assert told == {"maxSurge": "100%", "maxUnavailable": 0}
    for page in (HOW_TO, UPGRADE):
        assert {f"`{key}: {value}`" for key, value in told.items()} <= set(re.findall(r"`max\w+: \S+`", page))
    probe = named_container(overlay, "api")["readinessProbe"]
    # a new one is ready by its first good look, and an old one has two more to go
    assert probe["failureThreshold"] >= 3
    assert probe.get("successThreshold", 1) == 1
    assert deployment.get("minReadySeconds", 0) == 0
    assert re.findall(r"updatedReplicas}'=(\d+)", HOW_TO) == [str(deployment["replicas"])]


def test_everything_that_is_mounted_is_declared_and_lies_where_it_is_looked_for(overlay: str) -> None:
    claims = {each["metadata"]["name"] for each in of_kind(overlay, "PersistentVolumeClaim")}
    assert names_of(list(render(overlay)), "claimName") == claims
    (weights,) = re.findall(r"HF_HOME=(\S+)$", DOCKERFILE, re.MULTILINE)
    for name, pod, container in ours(overlay):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert mounts["blobs"] == ENV["LENSQUEUE_BLOBS"]
        assert ENV["LENSQUEUE_DATABASE_PASSWORD_FILE"] == f"{mounts['database']}/password"
        assert mounts.get("weights") == (weights if name in of_scalers(overlay) else None)


def test_every_secret_and_its_keys_are_made_by_the_how_to(overlay: str) -> None:
    made = dict(re.findall(r"create secret generic (\S+) --from-file=(\w+)=", HOW_TO.replace("\\\n", "")))
    certificates = set(re.findall(r"create secret tls (\S+) ", HOW_TO))
    ingresses = of_kind(overlay, "Ingress")
    assert {tls["secretName"] for each in ingresses for tls in each["spec"]["tls"]} <= certificates
    mounted = {
        volume["secret"]["secretName"]
        for _, pod in pods(overlay)
        for volume in pod.get("volumes", ())
        if "secret" in volume
    }
    read = {
        (source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
        for _, _, container in ours(overlay)
        for source in (each.get("valueFrom", {}) for each in container.get("env", ()))
        if "secretKeyRef" in source
    }
    assert read == {("lensqueue-metrics", "token")}
    assert mounted | dict(read).keys() == made.keys()
    assert all(made[name] == key for name, key in read)
    (authentication,) = of_kind(overlay, "TriggerAuthentication")
    for reference in authentication["spec"]["secretTargetRef"]:
        assert made[reference["name"]] == reference["key"]
    assert {ENV["LENSQUEUE_DATABASE_PASSWORD_FILE"].rpartition("/")[2]} == {made[name] for name in mounted}


def test_the_secrets_that_are_exchanged_are_those_that_were_made(overlay: str) -> None:
    made = re.compile(r"create secret (?:generic|tls) (\S+) (?:--from-file=(\w+))?")
    first, exchanged = ((ROOT / "docs" / "how-to" / page).read_text() for page in ("deploy.md", "secrets.md"))
    assert sorted(made.findall(exchanged)) == sorted(made.findall(first))
    restarted = re.findall(r"rollout restart deployment --selector (\S+)=(\S+)", exchanged)
    ((label, value),) = restarted
    deployments = of_kind(overlay, "Deployment")
    assert {each["metadata"]["labels"][label] for each in deployments} == {value}


def test_every_setting_that_pods_are_given_is_one(overlay: str) -> None:
    known = {**ApiSettings.model_fields, **WorkerSettings.model_fields}
    settings = {each["metadata"]["name"]: each["data"] for each in of_kind(overlay, "ConfigMap")}
    for _, _, container in ours(overlay):
        (source,) = container["envFrom"]
        told = [
            *settings[source["configMapRef"]["name"]],
            *(each["name"] for each in container.get("env", ())),
        ]
        assert set(told) <= {f"LENSQUEUE_{field}".upper() for field in known}


def test_postgres_has_a_connection_for_all_that_may_run(overlay: str) -> None:
    postgres = " ".join(named_container(overlay, "postgres")["args"])
    (most,) = map(int, re.findall(r"max_connections=(\d+)", postgres))
    # in a rollout twice as many
    api = 2 * named(overlay, "Deployment", "api")["spec"]["replicas"]
    scalers = of_kind(overlay, "ScaledObject")
    workers = 1 + sum(each["spec"]["maxReplicaCount"] for each in scalers)
    assert most >= api * OF_AN_API + workers * OF_A_WORKER + len(scalers) + 20
    assert f"| an API process | {OF_AN_API} |" in SCALE_OUT
    assert f"| a worker or an analyst | some {OF_A_WORKER} |" in SCALE_OUT
    assert f"and {most} in" in SCALE_OUT


def test_what_serves_is_disrupted_one_at_a_time(overlay: str) -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in of_kind(overlay, "PodDisruptionBudget")}
    deployments = {each["metadata"]["name"]: each["spec"] for each in of_kind(overlay, "Deployment")}
    assert budgets.keys() == deployments.keys()
    for name, budget in budgets.items():
        assert budget["selector"] == deployments[name]["selector"]
        labels = deployments[name]["template"]["metadata"]["labels"]
        assert budget["selector"]["matchLabels"] == labels
    # a budget of the only one would keep its node for ever
    assert deployments["api"]["replicas"] > budgets["api"]["minAvailable"]


def test_processes_are_given_the_time_that_they_take_to_end(overlay: str) -> None:
    soft_seconds: float = SETTINGS["worker_soft_shutdown_timeout"]
    for name, pod, container in ours(overlay):
        if container["args"][1] == "worker":
            grace: float = pod["terminationGracePeriodSeconds"]
            assert grace >= max(WORKER_GRACE_SECONDS, soft_seconds * 2), name
        elif name == "api":
            before: float = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert pod["terminationGracePeriodSeconds"] >= before + API_GRACE_SECONDS


def test_every_pod_runs_confined_and_says_what_it_needs(overlay: str) -> None:
    for name, pod in pods(overlay):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
    for _, pod, _ in ours(overlay):
        assert f"USER {pod['securityContext']['runAsUser']}" in DOCKERFILE


def test_only_workers_of_the_gpu_overlay_take_a_gpu(overlay: str) -> None:
    taking = {
        name for name, _, container in ours(overlay) if "nvidia.com/gpu" in container["resources"]["limits"]
    }
    assert taking == (of_scalers(overlay) if overlay == "gpu" else set())


def test_the_broker_which_asks_for_no_password_is_open_to_our_pods_alone(overlay: str) -> None:
    policy = named(overlay, "NetworkPolicy", "valkey")["spec"]
    broker = named(overlay, "StatefulSet", "valkey")["spec"]["template"]
    assert policy["podSelector"]["matchLabels"] == broker["metadata"]["labels"]
    (rule,) = policy["ingress"]
    (source,), (port,) = rule["from"], rule["ports"]
    assert port["port"] in {each["name"] for each in broker["spec"]["containers"][0]["ports"]}
    allowed = source["podSelector"]["matchLabels"].items()
    reaching = {
        owner["metadata"]["name"]
        for owner in of_kind(overlay, "Deployment", "StatefulSet", "Job")
        if allowed <= owner["spec"]["template"]["metadata"]["labels"].items()
    }
    assert reaching == {name for name, _, _ in ours(overlay)}


def test_metrics_of_workers_are_told_on_their_port_to_monitoring_alone(overlay: str) -> None:
    policy = named(overlay, "NetworkPolicy", "workers")["spec"]
    (component,) = policy["podSelector"]["matchExpressions"]
    assert component["operator"] == "In"
    (rule,) = policy["ingress"]
    assert rule == {
        "from": [{"namespaceSelector": {"matchLabels": {"lensqueue/monitoring": "true"}}}],
        "ports": [{"port": "metrics"}],
    }
    assert "label namespace monitoring lensqueue/monitoring=true" in MONITOR
    for deployment in of_kind(overlay, "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        works = container["args"][1] == "worker"
        assert (labels["app.kubernetes.io/component"] in component["values"]) == works
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        if works:
            port = {"name": "metrics", "containerPort": int(ENV["LENSQUEUE_METRICS_PORT"])}
            assert container["ports"] == [port]
    assert ENV["LENSQUEUE_METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - of a container
