"""Write docs/doctor/ from the docstrings of the checks: a page for each, and a table of all."""

from __future__ import annotations

import re
from pathlib import Path

from celery_observe.doctor.registry import Registered, registered
from celery_observe.findings import page

DOCS = Path(__file__).parent.parent / "docs"
PAGES = DOCS / "doctor"

HEAD = """\
# Checks of the doctor

<!-- Written by scripts/document_doctor.py from celery_observe/doctor/checks/: change it there. -->

What `celery-observe doctor` looks for: see [Doctor](../doctor.md). The severity is the worst that a check gives.

| check | severity | what is wrong | on |
| --- | --- | --- | --- |
"""
GENERATED = "<!-- Written by scripts/document_doctor.py from the docstring of the check: change it there. -->\n\n"


def pages() -> dict[str, str]:
    """Return the text of each page by the name of its file."""
    runbooks = _runbooks()

    def link(name: str) -> str:
        if name.startswith("celery_"):
            return f"[`{name}`](../metrics.md)"
        return f"[{name}](../runbooks/{runbooks[name]}#{name.lower()})"

    texts = {f"{rule.name}.md": GENERATED + page(rule, link) for rule, *_ in registered()}
    return texts | {"README.md": HEAD + "".join(_row(each) for each in registered())}


def _row(each: Registered) -> str:
    rule, transports, on = each.rule, each.transports, {"redis": "Redis", "amqp": "RabbitMQ"}
    where = ", ".join(name for transport, name in on.items() if transport in transports) or "any broker"
    return f"| [`{rule.name}`]({rule.name}.md) | {rule.severity} | {rule.title} | {where} |\n"


def _runbooks() -> dict[str, str]:
    """Return the file of the runbook of each alert."""
    return {
        alert: file.name
        for file in sorted((DOCS / "runbooks").glob("*.md"))
        for alert in re.findall(r"^## (\w+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    }


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
