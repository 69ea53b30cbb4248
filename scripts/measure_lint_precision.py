"""Lint the source of large public Celery projects, and compare with what docs/lint-precision.md says of each finding.

    python scripts/measure_lint_precision.py FOLDER [--write]

downloads wheels of pinned versions into FOLDER (with pip, without dependencies; nothing of them is installed or
executed), unpacks their source, lints it, and prints what nobody has judged yet and what is judged and not found any
more. `--write` writes the tables of the page. Not for CI: it needs the network, and some minutes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from celery_observe.findings import Finding, Severity
from celery_observe.lint import Options, checks, lint

PAGE = Path(__file__).parent.parent / "docs" / "lint-precision.md"
PROJECTS = {
    "aa-killtracker": "2.1.0",
    "aa-memberaudit": "5.3.0",
    "aa-structures": "4.1.0",
    "allianceauth": "5.5.0",
    "allianceauth-corptools": "3.5.1",
    "apache-airflow-providers-celery": "3.26.0",
    "apache-superset": "6.1.0",
    "arches": "8.1.5",
    "bamboo-pipeline": "4.0.6",
    "caerp-celery": "2025.3.4",
    "celery-director": "0.10.0",
    "edx-ecommerce-worker": "3.3.4",
    "edx-enterprise": "8.18.0",
    "edx-event-routing-backends": "10.1.0",
    "geonode": "5.1.1",
    "indico": "3.2.9",
    "invenio-files-rest": "6.1.0",
    "invenio-rdm-records": "36.0.0",
    "mayan-edms": "4.12.2",
    "nautobot": "3.2.7",
    "openwisp-controller": "1.3.2",
    "openwisp-firmware-upgrader": "1.3.1",
    "openwisp-monitoring": "1.3",
    "pretix": "2026.8.0",
    "udata": "17.18.0",
    "weblate": "5.14.3",
}
OPTIONS = Options(
    task_decorators=("udata.tasks.task", "udata.tasks.job", "nautobot.core.celery.nautobot_task"),
)
ROW = re.compile(r"^\| `([\w-]+)` \| `([\w.-]+)` \| `([^`]+)` \| (true|false) \|", re.MULTILINE)
TABLE = "(?<=<!-- {0} -->\n).*?(?=<!-- end of {0} -->)"

Key = tuple[str, str, str]
"""Rule, project, and place: path and line."""


class Measured(NamedTuple):
    """What lint found in one project."""

    project: str
    subject: str
    lines: int
    seconds: float
    """Of the processor."""
    findings: list[Finding]


def measured(project: str, version: str, folder: Path) -> Measured:
    """Download a project unless it is there, and lint it."""
    source = folder / project
    if not source.is_dir():
        _download(f"{project}=={version}", source, folder / "wheels" / project)
    began = time.process_time()
    report = lint([source], OPTIONS)
    seconds = time.process_time() - began
    lines = sum(file.read_bytes().count(b"\n") for file in source.rglob("*.py"))
    return Measured(project, report.subject.rpartition(": ")[2], lines, seconds, report.ordered)


def _download(requirement: str, source: Path, wheels: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--python-version", "3.11", "--dest", str(wheels), requirement], check=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(source, [name for name in archive.namelist() if name.endswith(".py")])


def keys(each: Measured, folder: Path) -> Iterator[Key]:
    """Yield what identifies the findings of a project."""
    for finding in each.findings:
        if finding.place is not None:
            path = Path(finding.place.path).absolute().relative_to((folder / each.project).absolute())
            yield finding.rule.name, each.project, f"{path.as_posix()}:{finding.place.line}"


def judged() -> dict[Key, bool]:
    """Return the verdicts of the page."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {(rule, project, place): verdict == "true" for rule, project, place, verdict in rows}


def by_rule(verdicts: dict[Key, bool]) -> str:
    """Return the table of how often each rule is right."""
    found = Counter(rule for rule, _, _ in verdicts)
    true = Counter(rule for (rule, _, _), is_true in verdicts.items() if is_true)
    rows = [
        f"| [{name}](lint/{name}.md) | {found[name]} | {true[name]} | {_rate(true[name], found[name])} |"
        for name in checks()
    ]
    louder = {key: verdict for key, verdict in verdicts.items() if checks()[key[0]].rule.severity is not Severity.INFO}
    true_of_louder = sum(louder.values())
    rows.append(f"| without info | {len(louder)} | {true_of_louder} | {_rate(true_of_louder, len(louder))} |")
    total = f"| all | {found.total()} | {true.total()} | {_rate(true.total(), found.total())} |"
    return "\n".join(["| rule | findings | true | rate |", "| --- | ---: | ---: | ---: |", *rows, total]) + "\n"


def _rate(true: int, found: int) -> str:
    return f"{true / found:.0%}" if found else ""


def by_project(results: list[Measured]) -> str:
    """Return the table of what was linted."""
    rows = [
        f"| `{each.project}` {PROJECTS[each.project]} | {each.subject} | {each.lines:,} | {len(each.findings)} |"
        for each in results
    ]
    head = ["| project | linted | lines | findings |", "| --- | --- | ---: | ---: |"]
    lines, seconds = sum(each.lines for each in results), sum(each.seconds for each in results)
    total = f"\nAltogether {lines:,} lines in {seconds:.1f} s of one processor.\n"
    return "\n".join([*head, *rows]) + "\n" + total


def main(folder: Path, *, is_writing: bool) -> None:
    """Measure all projects, tell what has changed, and write the tables if asked to."""
    results = [measured(project, version, folder) for project, version in PROJECTS.items()]
    found = {key for each in results for key in keys(each, folder)}
    verdicts = judged()
    for title, those in (("not judged", found - verdicts.keys()), ("not found any more", verdicts.keys() - found)):
        for rule, project, place in sorted(those):
            print(f"{title}: | `{rule}` | `{project}` | `{place}` |")
    print(by_rule(verdicts), by_project(results), sep="\n")
    if is_writing:
        page = PAGE.read_text(encoding="utf-8")
        for name, table in (("by rule", by_rule(verdicts)), ("by project", by_project(results))):
            page = re.sub(TABLE.format(name), lambda _, table=table: table, page, flags=re.DOTALL)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), is_writing="--write" in sys.argv)
