"""Write the page of each rule, from its docstring and its samples, and the table of all rules in docs/lint.md."""

from __future__ import annotations

import re
from pathlib import Path

from celery_observe.findings import page
from celery_observe.lint import Check, checks

DOCS = Path(__file__).parent.parent / "docs"
HEAD = "<!-- Written by scripts/document_lint.py from celery_observe/lint/rules/{name}.py: change it there. -->\n\n"
ALERT = re.compile(r"^## (\w+)$", re.MULTILINE)
TABLE = re.compile(r"(?<=<!-- rules -->\n).*?(?=<!-- end of rules -->)", re.DOTALL)


def pages() -> dict[str, str]:
    """Return the pages of the rules by file name."""
    return {f"{name}.md": _page(check) for name, check in checks().items()}


def overview() -> str:
    """Return docs/lint.md with its table of rules as they are."""
    rows = [
        f"| [{name}](lint/{name}.md) | {check.rule.severity} | {check.rule.title.rstrip('.')} |"
        for name, check in checks().items()
    ]
    table = "\n".join(["| rule | severity | what it finds |", "| --- | --- | --- |", *rows]) + "\n"
    return TABLE.sub(lambda _: table, (DOCS / "lint.md").read_text(encoding="utf-8"))


def _page(check: Check) -> str:
    samples = [*(_sample("It finds", check.bad[:1])), *(_sample("It does not find", check.good[:1]))]
    head = HEAD.format(name=check.rule.name.replace("-", "_"))
    return head + page(check.rule, _link, "\n\n".join(samples))


def _sample(said: str, samples: tuple[str, ...]) -> list[str]:
    return [f"{said}:\n\n```python\n{sample.replace('  # bad', '  # this').strip()}\n```" for sample in samples]


def _link(name: str) -> str:
    """Return a link to an alert's runbook, or to the metrics."""
    for book in sorted((DOCS / "runbooks").glob("*.md")):
        if name in ALERT.findall(book.read_text(encoding="utf-8")):
            return f"[`{name}`](../runbooks/{book.name}#{name.lower()})"
    return f"[`{name}`](../metrics.md)"


if __name__ == "__main__":
    (DOCS / "lint").mkdir(exist_ok=True)
    for name, text in pages().items():
        (DOCS / "lint" / name).write_text(text, encoding="utf-8")
    (DOCS / "lint.md").write_text(overview(), encoding="utf-8")
