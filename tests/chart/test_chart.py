"""The chart gives, with each example of values, what Kubernetes takes, and refuses values that it does not know."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import celery_observe
from celery_observe.settings import load
from house.source import ROOT
from services.helm import CHART, EXAMPLES, ChartError, Helm

GOLDEN = Path(__file__).parent / "golden"
MINIMAL = {"broker": {"url": "redis://redis/0"}}
# Of the Prometheus operator and of KEDA; Kubernetes itself does not know them.
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject"}
KUBERNETES = ("1.25", "1.37")

every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.name.removesuffix("-values.yaml"))


def of_kind(manifests: list[Any], kind: str) -> list[Any]:
    """The resources of a kind."""
    return [each for each in manifests if each["kind"] == kind]


def deployment(manifests: list[Any], component: str = "exporter") -> Any:
    """The one Deployment, or StatefulSet, of a component."""
    (found,) = (
        each
        for each in (*of_kind(manifests, "Deployment"), *of_kind(manifests, "StatefulSet"))
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )
    return found


def container(manifests: list[Any], component: str = "exporter") -> Any:
    """The one container of a component."""
    (found,) = deployment(manifests, component)["spec"]["template"]["spec"]["containers"]
    return found


@every_example
def test_an_example_passes_helms_lint(helm: Helm, example: Path) -> None:
    """Strictly: a warning is an error."""
    assert "1 chart(s) linted, 0 chart(s) failed" in helm.run("lint", "--strict", str(CHART), "--values", str(example))


@every_example
def test_an_example_is_what_kubernetes_takes(helm: Helm, example: Path) -> None:
    """By the schemas of the oldest version that the chart is for, and of a new one; no field is unknown."""
    for manifest in helm.manifests(example):
        for version in () if manifest["kind"] in CUSTOM else KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


@every_example
def test_kubectl_reads_an_example(helm: Helm, example: Path) -> None:
    """Each resource, without a cluster."""
    manifests = helm.manifests(example)

    text = helm.kubectl(
        "annotate", "--local", "--filename=-", "a=b", "--output=yaml", given=yaml.safe_dump_all(manifests)
    )

    found = [item for each in yaml.safe_load_all(text) for item in each.get("items", [each])]
    assert len(found) == len(manifests)
    assert all(each["metadata"]["annotations"]["a"] == "b" for each in found)


@every_example
def test_an_example_gives_its_golden_manifests(helm: Helm, example: Path, *, update_golden: bool) -> None:
    """A change of what is installed is seen; `--update-golden` writes them anew."""
    file = GOLDEN / example.name.replace("-values", "")
    text = yaml.safe_dump_all(map(without_copies, helm.manifests(example)), sort_keys=False, width=120)
    if update_golden:
        file.write_text(text)

    assert text == file.read_text()


def without_copies(manifest: Any) -> Any:
    """A resource, less the rules and dashboards in it, which have tests of their own."""
    if manifest["kind"] == "PrometheusRule" and "links" not in manifest["metadata"]["name"]:
        return manifest | {"spec": {"groups": len(manifest["spec"]["groups"]) > 0}}
    if manifest["metadata"]["labels"]["app.kubernetes.io/component"] == "dashboards":
        return manifest | {"data": list(manifest["data"])}
    return manifest


def test_every_golden_file_has_its_example() -> None:
    """None is left behind."""
    assert {file.name for file in GOLDEN.iterdir()} == {file.name.replace("-values", "") for file in EXAMPLES}


@every_example
def test_pods_are_as_restricted_as_can_be(helm: Helm, example: Path) -> None:
    """What the profile "restricted" of Kubernetes demands, a read-only root, limits, and no token."""
    manifests = helm.manifests(example)
    for each in (*of_kind(manifests, "Deployment"), *of_kind(manifests, "StatefulSet")):
        pod = each["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for own in pod["containers"]:
            assert own["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert own["resources"]["limits"]["memory"]


@every_example
def test_the_exporter_takes_the_settings_of_an_example(helm: Helm, example: Path) -> None:
    """Names and values alike, as the product itself reads them."""
    manifests = helm.manifests(example)
    if not yaml.safe_load(example.read_text()).get("exporter", {}).get("enabled", True):
        assert not of_kind(manifests, "Deployment")
        return
    (settings,) = of_kind(manifests, "ConfigMap")[:1]
    own = {each["name"]: each.get("value", "redis://redis/0") for each in container(manifests)["env"]}
    env = {name: value for name, value in (settings["data"] | own).items() if name.startswith("CELERY_OBSERVE_")}

    given = {name: value.replace("auto/", "0/") for name, value in env.items() if not name.endswith("_FILE")}
    found = load({}, given)  # a pod takes its number from its name

    assert (found.host, found.port) == ("0.0.0.0", 9808)
    assert found.probe == ("leader" if deployment(manifests)["spec"]["replicas"] > 1 else "on")


def test_shards_are_a_stateful_set(helm: Helm) -> None:
    """Whose pods end in their numbers, all at once, and of which one asks."""
    manifests = helm.manifests(CHART / "ci" / "shards-values.yaml")
    (found,) = of_kind(manifests, "StatefulSet")
    env = {each["name"]: each.get("value") for each in container(manifests)["env"]}

    assert not of_kind(manifests, "Deployment")
    assert (found["spec"]["replicas"], found["spec"]["podManagementPolicy"]) == (3, "Parallel")
    assert (env["CELERY_OBSERVE_SHARD"], env["CELERY_OBSERVE_PROBE"]) == ("auto/3", "leader")
    assert found["spec"]["serviceName"] == of_kind(manifests, "Service")[0]["metadata"]["name"]


def test_settings_reach_the_exporter(helm: Helm) -> None:
    """Lists, mappings and large numbers."""
    (settings,) = of_kind(helm.manifests(CHART / "ci" / "settings-values.yaml"), "ConfigMap")

    found = load({}, settings["data"] | {"CELERY_OBSERVE_BROKER": "redis://redis/0"})

    assert found.queue == ("celery", "mail")
    assert found.max_tracked_tasks == 1_000_000
    assert found.task_queue == {"shop.mail.*": "mail"}
    assert found.task_buckets == {"shop.reports.*": (1, 10, 60.5)}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"brokers": {}}, "brokers"),
        ({"broker": {"uri": "x"}}, "uri"),
        ({"replicas": "two"}, "replicas"),
        ({"shards": 0}, "shards"),
        ({"settings": {"shard": "0/3"}}, "shard"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"service": {"port": 80}}, "port"),
        ({"settings": {"queues": ["celery"]}}, "queues"),
        ({"settings": {"probe": "never"}}, "probe"),
        ({"settings": {"max_slots": 0}}, "max_slots"),
        ({"settings": {"management_url": ["http://u:p@h"]}}, "management_url"),
        ({"settings": {"port": 1}}, "port"),
        ({"sidecar": {"settings": {"broker": "x"}}}, "broker"),
        ({"serviceMonitor": {"interval": "often"}}, "interval"),
        ({"prometheusRule": {"objectives": [{"alert": "X", "expr": "1"}]}}, "objectives"),
        ({"autoscaling": {"engine": "none"}}, "engine"),
        ({"autoscaling": {"workers": [{"deployment": "w"}]}}, "queues"),
        ({"autoscaling": {"workers": [{"deployment": "w", "queues": ["q"], "by": "cpu"}]}}, "by"),
        ({"autoscaling": {"workers": [{"deployment": "w", "queues": ["q"], "perReplica": 0}]}}, "perReplica"),
        ({"flower": {"enabled": "yes"}}, "enabled"),
    ],
    ids=str,
)
def test_wrong_values_are_refused(helm: Helm, values: dict[str, Any], named: str) -> None:
    """By the schema, which names what is wrong."""
    with pytest.raises(ChartError, match=rf"(?s)specifications of the schema.*{named}"):
        helm.manifests(values=values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "broker.url or broker.existingSecret is needed"),
        (MINIMAL | {"flower": {"enabled": True}}, "flower.auth.existingSecret is needed"),
        (MINIMAL | {"podMonitor": {"enabled": True}}, "podMonitor.selector is needed"),
        (MINIMAL | {"shards": 3, "replicas": 2}, "shards and replicas exclude each other"),
    ],
    ids=str,
)
def test_what_is_missing_is_said(helm: Helm, values: dict[str, Any], said: str) -> None:
    """Nothing is installed that could not work, or that everybody could use."""
    with pytest.raises(ChartError, match=re.escape(said)):
        helm.manifests(values=values)


def test_the_chart_installs_the_product_of_this_version() -> None:
    """Unless told otherwise."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == celery_observe.__version__


def test_secrets_stand_in_secrets_only(helm: Helm) -> None:
    """A URL that is given as a value is in one resource, a Secret."""
    manifests = helm.manifests(values={"broker": {"url": "redis://:hunter2@redis/0"}, "replicas": 2})

    assert [each["kind"] for each in manifests if "hunter2" in str(each)] == ["Secret"]


def test_kubernetes_asks_what_it_can(helm: Helm) -> None:
    """Over HTTPS if that is served; the port alone if certificates are demanded, for the kubelet has none."""
    plain = container(helm.manifests(values=MINIMAL))
    https = container(helm.manifests(CHART / "ci" / "tls-and-auth-values.yaml"))
    mutual = container(helm.manifests(CHART / "ci" / "client-certificates-values.yaml"))

    assert plain["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics", "scheme": "HTTP"}
    assert plain["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert https["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert mutual["livenessProbe"]["tcpSocket"] == {"port": "metrics"}


def test_files_of_secrets_are_mounted_where_settings_look(helm: Helm) -> None:
    """Each file that an environment variable names is below a volume of the right Secret."""
    manifests = helm.manifests(CHART / "ci" / "tls-and-auth-values.yaml")
    own = container(manifests)
    volumes = deployment(manifests)["spec"]["template"]["spec"]["volumes"]
    secrets = {each["name"]: each["secret"]["secretName"] for each in volumes if "secret" in each}
    mounted = {each["mountPath"]: secrets.get(each["name"]) for each in own["volumeMounts"]}

    files = {each["name"]: Path(each["value"]) for each in own["env"] if each["name"].endswith("_FILE")}

    assert {name.removeprefix("CELERY_OBSERVE_"): mounted[str(file.parent)] for name, file in files.items()} == {
        "STATE_FILE": None,
        "BROKER_TLS_CA_FILE": "redis-tls",
        "BROKER_TLS_CERT_FILE": "redis-tls",
        "BROKER_TLS_KEY_FILE": "redis-tls",
        "TLS_CERT_FILE": "celery-observe-tls",
        "TLS_KEY_FILE": "celery-observe-tls",
        "BEARER_TOKEN_FILE": "celery-observe-auth",
    }


def test_pods_are_renewed_when_settings_change(helm: Helm) -> None:
    """Kubernetes does not do so by itself."""

    def annotations(settings: dict[str, Any]) -> Any:
        manifest = deployment(helm.manifests(values=MINIMAL | {"settings": settings}))
        return manifest["spec"]["template"]["metadata"]["annotations"]

    assert annotations({"drain_target": 30}) != annotations({"drain_target": 60})


def test_a_packaged_chart_gives_the_same(helm: Helm, tmp_path: Path) -> None:
    """Without the examples."""
    example = CHART / "ci" / "rules-values.yaml"

    helm.run("package", str(CHART), "--destination", str(tmp_path))

    (package,) = tmp_path.glob("*.tgz")
    assert helm.manifests(example, chart=package) == helm.manifests(example)
    with tarfile.open(package) as files:
        assert not [name for name in files.getnames() if "/ci/" in name]


def test_rules_are_those_that_are_shipped(helm: Helm, promtool: str, tmp_path: Path) -> None:
    """Each file, unchanged but for the links, and promtool takes all."""
    rules = of_kind(helm.manifests(CHART / "ci" / "rules-values.yaml"), "PrometheusRule")
    shipped = {file.stem: yaml.safe_load(file.read_text()) for file in (ROOT / "alerts" / "rules").glob("*.yml")}
    found = {each["metadata"]["name"].removeprefix("obs-celery-observe-"): each["spec"] for each in rules}

    assert {name: found[name] for name in shipped.keys() - {"links"}} == {
        name: spec for name, spec in shipped.items() if name != "links"
    }
    assert found.keys() == shipped.keys() | {"own-objectives"}
    (links,) = found["links"]["groups"][0]["rules"]
    assert links == shipped["links"]["groups"][0]["rules"][0] | {"labels": links["labels"]}
    assert links["labels"]["dashboards"] == "https://grafana.example"
    for name, spec in found.items():
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(spec))
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, tmp_path.glob("*.yml"))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout


def test_dashboards_are_those_that_are_shipped(helm: Helm) -> None:
    """One ConfigMap for each, with the label that the sidecar of Grafana looks for."""
    found = helm.manifests(values=MINIMAL | {"dashboards": {"enabled": True}})
    boards = [each for each in of_kind(found, "ConfigMap") if "grafana_dashboard" in each["metadata"]["labels"]]

    shipped = {file.name: file.read_text() for file in (ROOT / "dashboards").glob("*.json")}

    assert {name: text.strip() for each in boards for name, text in each["data"].items()} == {
        name: text.strip() for name, text in shipped.items()
    }


def test_what_is_copied_and_written_has_not_drifted() -> None:
    """Rules, dashboards, the schema and the table of values: run scripts/fill_chart.py."""
    script = runpy.run_path(str(ROOT / "scripts" / "fill_chart.py"))

    texts: dict[Path, str] = script["filled"]()

    assert {
        file.relative_to(ROOT) for file, text in texts.items() if not file.exists() or file.read_text() != text
    } == set()
    assert {file for file in (CHART / "files").rglob("*") if file.is_file()} <= texts.keys()


def test_workers_of_a_users_chart_have_a_sidecar(helm: Helm, tmp_path: Path) -> None:
    """By templates of ours, and nothing else of ours is installed with it."""
    shop = shutil.copytree(Path(__file__).parent / "shop", tmp_path / "shop")
    shutil.copytree(CHART, shop / "charts" / "celery-observe")

    (worker,) = helm.manifests(chart=shop)

    kubernetes_validate.validate(worker, "1.33", strict=True)
    pod = worker["spec"]["template"]["spec"]
    (sidecar,), (own,) = pod["initContainers"], pod["containers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["image"] == "registry.example/celery-observe:0.1.0"
    assert (
        own["volumeMounts"]
        == sidecar["volumeMounts"]
        == [{"name": "celery-observe", "mountPath": "/run/celery-observe"}]
    )
    environment = {each["name"]: each["value"] for each in sidecar["env"]}
    settings = load({}, environment)
    assert settings.listen == own["env"][0]["value"] == "unix:///run/celery-observe/celery-observe.sock"
    assert settings.worker_label


def queries(manifests: list[Any]) -> Iterator[str]:
    """What KEDA would ask Prometheus."""
    for each in of_kind(manifests, "ScaledObject"):
        (trigger,) = each["spec"]["triggers"]
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        yield trigger["metadata"]["query"]


def test_names_of_queues_are_no_patterns(helm: Helm) -> None:
    """A dot in a name is a dot."""
    manifests = helm.manifests(
        values=MINIMAL | {"autoscaling": {"workers": [{"deployment": "w", "queues": ["a.b", "c|d"]}]}}
    )

    assert list(queries(manifests)) == [r'sum(max by (queue) (celery_queue_desired_slots{queue=~"a\\.b|c\\|d"}))']


def test_an_hpa_never_wants_less_than_one(helm: Helm) -> None:
    """Kubernetes refuses 0 without a feature gate; KEDA scales to zero."""
    workers = [{"deployment": "w", "queues": ["q"], "minReplicas": 0}]
    hpa, keda = (
        helm.manifests(values=MINIMAL | {"autoscaling": {"engine": engine, "workers": workers}})
        for engine in ("hpa", "keda")
    )

    assert [each["spec"]["minReplicas"] for each in of_kind(hpa, "HorizontalPodAutoscaler")] == [1]
    assert [each["spec"]["minReplicaCount"] for each in of_kind(keda, "ScaledObject")] == [0]
    assert not of_kind(hpa, "ScaledObject")
    assert not of_kind(keda, "HorizontalPodAutoscaler")
