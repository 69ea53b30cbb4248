"""Write alerts/kubernetes/ from alerts/rules/: each file as a `PrometheusRule` of the Prometheus operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).parent.parent / "alerts"
RULES = ALERTS / "rules"
RENDERED = ALERTS / "kubernetes"

HEAD = "# Written by scripts/render_prometheus_rules.py from alerts/rules/{name}: change it there.\n"


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as such."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent)


def manifest(file: Path) -> dict[str, Any]:
    """Return the PrometheusRule with the groups of a file of rules."""
    labels = {"app.kubernetes.io/name": "celery-observe", "app.kubernetes.io/component": "alerts"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": f"celery-observe-{file.stem}", "labels": labels},
        "spec": yaml.safe_load(file.read_text(encoding="utf-8")),
    }


def rendered() -> dict[str, str]:
    """Return the text of each file of the folder, by its name."""
    files = sorted(RULES.glob("*.yml"))
    return {
        f"{file.stem}.yaml": HEAD.format(name=file.name)
        + yaml.dump(manifest(file), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        for file in files
    }


def main() -> None:
    """Write the files, and remove those that have no source any more."""
    RENDERED.mkdir(exist_ok=True)
    texts = rendered()
    for stale in {file.name for file in RENDERED.iterdir()} - texts.keys():
        (RENDERED / stale).unlink()
    for name, text in texts.items():
        (RENDERED / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
