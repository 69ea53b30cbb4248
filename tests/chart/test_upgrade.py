"""What cannot be changed in a cluster stays what it was in every version before."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.helm import CHART, EXAMPLES, Helm

RELEASED = Path(__file__).parent / "released"
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]


def fixed(manifests: list[Any]) -> dict[str, Any]:
    """What Kubernetes refuses to change, and what would be lost with its name, by kind and name of its resource."""
    return {f"{each['kind']}/{each['metadata']['name']}": _fixed(each) for each in manifests if _fixed(each)}


def _fixed(manifest: Any) -> Any:
    match manifest["kind"]:
        case "Deployment":
            return {"selector": manifest["spec"]["selector"]}
        case "PersistentVolumeClaim":
            return {name: value for name, value in manifest["spec"].items() if name != "resources"}
        case "Service":
            return {"type": manifest["spec"]["type"], "selector": manifest["spec"]["selector"]}
    return None


def test_this_version_is_recorded(helm: Helm, *, update_golden: bool) -> None:
    """For the versions after it. `--update-golden` records it, once; a record is never changed."""
    file = RELEASED / f"{VERSION}.yaml"
    if update_golden and not file.exists():
        records = [{"values": yaml.safe_load(example.read_text())} for example in EXAMPLES]
        for record in records:
            record["fixed"] = fixed(helm.manifests(values=record["values"]))
        file.write_text(yaml.safe_dump(records, sort_keys=False))

    assert file.exists(), "a new version of the chart: pytest tests/chart --update-golden"


@pytest.mark.parametrize("file", sorted(RELEASED.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_upgrade_changes_nothing_that_is_fixed(helm: Helm, file: Path) -> None:
    """With the values of then, which are still taken: each such resource is there, and the same."""
    for record in yaml.safe_load(file.read_text()):
        now = fixed(helm.manifests(values=record["values"]))
        assert {name: now.get(name) for name in record["fixed"]} == record["fixed"], record["values"]


def test_a_changed_selector_would_be_found(helm: Helm) -> None:
    """The comparison sees it."""
    before = helm.manifests(CHART / "ci" / "default-values.yaml")
    after = copy.deepcopy(before)
    for each in after:
        if each["kind"] == "Deployment":
            each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/version"] = VERSION

    assert fixed(before) != fixed(after)
