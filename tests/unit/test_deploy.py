"""What deploy/ and generated projects say fits the code: commands, options, paths, streams, groups and times."""

from __future__ import annotations

import configparser
import inspect
import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from sagabus import Bus
from sagabus.cli.group import main
from sagabus.health.health_server import HealthServer
from sagabus.health.vitals import Health
from sagabus.supervisor import HOPELESS, Supervisor
from tests.documents import run
from tests.pages import ROOT
from tests.servers import free_ports
from transports.redis_topology import GROUP, Declaration

DEPLOY = ROOT / "deploy"
OBJECTS = [
    each
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for each in yaml.safe_load_all(path.read_text())
]
DRAIN_S = inspect.signature(Supervisor.stop).parameters["timeout_s"].default
STREAMS_OPTIONS = {
    *("address", "host", "port", "stream", "consumerGroup", "pendingEntriesCount", "streamLength"),
    *("lagCount", "activationLagCount", "enableTLS", "unsafeSsl", "databaseIndex"),
}
"""What the trigger `redis-streams` of KEDA 2.11 and newer takes."""


def the(kind: str, name: str) -> dict[str, Any]:
    """Return one object of deploy/kubernetes."""
    (found,) = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project that deploy/ deploys, as `sagabus init` makes it."""
    folder = tmp_path_factory.mktemp("deployed")
    assert run(folder, "-m", "sagabus", "init", "shop").returncode == 0
    return folder / "shop"


def composed(name: str, project: Path) -> dict[str, Any]:
    path = DEPLOY / "compose.yaml" if name == "deploy" else project / "compose.yaml"
    services = yaml.safe_load(path.read_text())["services"]
    assert isinstance(services, dict)
    return services


def parsed(command: list[str]) -> dict[str, Any]:
    """Return the options of a `sagabus ...` command line; fail where the command does not take them."""
    program, name, *arguments = command
    assert Path(program).name == "sagabus"
    found = main.get_command(click.Context(main), name)
    assert found is not None
    with found.make_context(name, list(arguments)) as context:
        return context.params


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def check_store(arguments: list[str]) -> None:
    """Fail where a server is started that workers refuse, or that forgets."""
    pairs = dict(pairwise(arguments))
    assert (pairs["--maxmemory-policy"], pairs["--appendonly"]) == ("noeviction", "yes")


# -- Compose -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["deploy", "init"])
def test_compose_file_runs_commands_that_there_are(which: str, project: Path) -> None:
    """Store and worker fit each other: a durable server, the app, the health file that is asked for, time to drain."""
    services = composed(which, project)
    store, worker = services["store"], services["worker"]
    check_store(store["command"])
    options = parsed(worker["command"])
    assert options["app"] == "shop.app:bus"
    health = parsed(worker["healthcheck"]["test"][1:])
    assert worker["healthcheck"]["test"][0] == "CMD"
    assert health["path"] == options["health_file"]
    assert worker["environment"]["SAGABUS_STORE"].endswith("@store:6379/0" if which == "deploy" else "//store:6379/0")
    assert worker["depends_on"] == {"store": {"condition": "service_healthy"}}
    assert int(worker["stop_grace_period"].removesuffix("s")) > DRAIN_S
    assert "ports" not in store, "nobody outside needs the store"


def test_images_of_a_generated_project_run_its_app(project: Path) -> None:
    """The Dockerfile's command is that of the Compose file, as far as that goes."""
    text = (project / "Dockerfile").read_text()
    command = re.search(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert command is not None
    assert parsed(yaml.safe_load(command[1]))["app"] == "shop.app:bus"


# -- Kubernetes --------------------------------------------------------------------------------------------------


def test_kustomization_lists_every_file() -> None:
    """`kubectl apply -k` applies all there is."""
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(p.name for p in (DEPLOY / "kubernetes").glob("*.yaml") if p.stem != "kustomization")


def test_worker_pods_run_a_command_that_there_is_and_have_time_to_drain() -> None:
    """Options exist, the app is the one that is deployed, and Kubernetes kills nobody who still works."""
    spec = the("Deployment", "worker")["spec"]["template"]["spec"]
    options = parsed(container(the("Deployment", "worker"))["command"])
    assert (options["app"], options["processes"]) == ("shop.app:bus", 1)
    assert spec["terminationGracePeriodSeconds"] > DRAIN_S
    assert "replicas" not in the("Deployment", "worker")["spec"], "KEDA says how many"


def test_probes_ask_where_the_worker_answers() -> None:
    """The port is the one that the command opens, and the paths are those that are answered."""
    found = container(the("Deployment", "worker"))
    host, port = parsed(found["command"])["health_http"].split(":")
    (named,) = [each for each in found["ports"] if each["name"] == "health"]
    assert (host, int(port)) == ("0.0.0.0", named["containerPort"])
    probes = {kind: found[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert {probe["port"] for probe in probes.values()} == {named["name"]}
    (loopback,) = free_ports(1)
    server = HealthServer(f"127.0.0.1:{loopback}", lambda: Health(True, True, ()))
    with server:
        for probe in probes.values():
            assert _get(server.port, probe["path"]) == 200
        assert _get(server.port, "/nothing") == 404
    # A lane counts as stuck only after a minute, so these need not be patient; the first start may be slow.
    alive = found["livenessProbe"]
    assert alive["periodSeconds"] * alive["failureThreshold"] >= 30


def _get(port: int, path: str) -> int:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_metrics_are_scraped_where_they_are_served(project: Path) -> None:
    """The annotation names the port that the command opens, and the image has what that needs."""
    found = container(the("Deployment", "worker"))
    host, port = parsed(found["command"])["metrics"].split(":")
    (named,) = [each for each in found["ports"] if each["name"] == "metrics"]
    annotations = the("Deployment", "worker")["spec"]["template"]["metadata"]["annotations"]
    assert (host, port, annotations["prometheus.io/port"]) == ("0.0.0.0", str(named["containerPort"]), port)
    assert "'sagabus[metrics]'" in (project / "Dockerfile").read_text()


def test_objects_refer_to_objects_and_keys_that_there_are() -> None:
    """Selectors, Secrets, ConfigMaps, the Service in URLs, targets of budget and scaler."""
    labels = {
        name: the(kind, name)["spec"]["template"]["metadata"]["labels"]
        for kind, name in (("Deployment", "worker"), ("StatefulSet", "store"))
    }
    for kind, name in (("Deployment", "worker"), ("StatefulSet", "store"), ("PodDisruptionBudget", "worker")):
        assert the(kind, name)["spec"]["selector"]["matchLabels"].items() <= labels[name].items()
    assert the("Service", "store")["spec"]["selector"].items() <= labels["store"].items()
    secret, config = the("Secret", "store")["stringData"], the("ConfigMap", "worker")
    for workload in (the("Deployment", "worker"), the("StatefulSet", "store")):
        for variable in container(workload).get("env", ()):
            reference = variable["valueFrom"]["secretKeyRef"]
            assert (reference["name"], reference["key"] in secret) == ("store", True)
    assert container(the("Deployment", "worker"))["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
    assert secret["url"] == f"redis://:{secret['password']}@store:6379/0"
    target = the("ScaledObject", "worker")["spec"]["scaleTargetRef"]["name"]
    assert target == the("Deployment", "worker")["metadata"]["name"]


def test_store_of_the_cluster_is_one_that_workers_take() -> None:
    """No eviction, an append-only file, on a volume."""
    found = container(the("StatefulSet", "store"))
    check_store(found["args"])
    assert dict(pairwise(found["args"]))["--dir"] == found["volumeMounts"][0]["mountPath"]


_QUEUES = """
from shop.app import bus
print(bus.namespace, *(f"{name}={endpoint.options.partitions}" for name, endpoint in bus.endpoints.items()))
"""


def test_scaler_looks_at_every_queue_under_its_name(project: Path) -> None:
    """Stream, group and database are those of the transport, one trigger a partition; options are KEDA's."""
    namespace, *endpoints = run(project, "-c", _QUEUES).stdout.split()
    wanted = [
        stream
        for name, _, partitions in (each.partition("=") for each in endpoints)
        for stream in Declaration.of(namespace, name, int(partitions), 1, ()).streams
    ]
    spec = the("ScaledObject", "worker")["spec"]
    triggers = [trigger["metadata"] for trigger in spec["triggers"]]
    assert sorted(trigger["stream"] for trigger in triggers) == sorted(wanted)
    database = the("Secret", "store")["stringData"]["url"].rpartition("/")[2]
    login = the("TriggerAuthentication", "store")
    for trigger, metadata in zip(spec["triggers"], triggers, strict=True):
        assert (trigger["type"], trigger["authenticationRef"]["name"]) == ("redis-streams", login["metadata"]["name"])
        assert metadata.keys() <= STREAMS_OPTIONS
        assert all(isinstance(value, str) for value in metadata.values())
        assert (metadata["consumerGroup"], metadata["databaseIndex"]) == (GROUP, database)
        # An option that the other asks for.
        assert int(metadata["lagCount"]) > int(metadata["activationLagCount"])
        assert metadata["address"] == "store.shop.svc.cluster.local:6379"
    (secret,) = login["spec"]["secretTargetRef"]
    assert (secret["parameter"], secret["key"]) == ("password", "password")
    assert spec["minReplicaCount"] >= 1, "timers and abandoned messages need a worker, and show no lag"


def test_lag_of_a_queue_is_what_nobody_has_in_hand(valkey_url: str, namespace: str) -> None:
    """What the scaler asks for is known at any time, though entries are deleted once they are acked."""
    import redis

    from sagabus import message

    @message("deploy.job")
    class Job:
        number: int

    with Bus(valkey_url, valkey_url, namespace=namespace) as bus, redis.Redis.from_url(valkey_url) as client:
        jobs = bus.endpoint("jobs", batch=4)

        @jobs.consumer
        def done(m: Job) -> None: ...

        def lag() -> int | None:
            (stream,) = Declaration.of(namespace, "jobs", 1, 1, ()).streams
            (group,) = client.xinfo_groups(stream)
            assert group["name"].decode() == GROUP
            found: int | None = group["lag"]
            return found

        bus.send_many([Job(number) for number in range(10)], to="jobs")
        assert lag() == 10
        receiver = bus.transport.receiver(["jobs"], consumer="someone", claim_s=30.0)
        assert len(receiver.receive(4, 0.0)) == 4
        assert lag() == 6
        receiver.close()
        bus.worker(["jobs"]).run_until_idle()
        assert lag() == 0
        bus.send(Job(10), to="jobs")
        assert lag() == 1


# -- systemd -----------------------------------------------------------------------------------------------------

UNIT = DEPLOY / "systemd" / "sagabus-worker.service"


def test_unit_runs_a_command_that_there_is_and_waits_for_it_to_drain() -> None:
    """Its options exist, its health file is where systemd makes a folder, and hopeless starts are not repeated."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    service = parser["Service"]
    options = parsed(shlex.split(service["ExecStart"]))
    assert options["app"] == "shop.app:bus"
    assert options["health_file"].startswith(f"/run/{service['RuntimeDirectory']}/")
    assert int(service["TimeoutStopSec"]) > DRAIN_S
    assert (service["KillMode"], service["KillSignal"]) == ("mixed", "SIGTERM")
    assert int(service["RestartPreventExitStatus"]) == HOPELESS


def test_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """systemd's own check finds nothing unknown; where it is not installed, there is nobody to ask."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert UNIT.name not in done.stderr, done.stderr


def test_commands_in_comments_of_deploy_exist() -> None:
    """What a comment tells people to type is there."""
    for path in DEPLOY.rglob("*.*"):
        for found in re.findall(r"`sagabus ([a-z]+)", path.read_text()):
            assert CliRunner().invoke(main, [found, "--help"]).exit_code == 0, (path, found)
