"""Write docs/metrics.md from what `celery-observe metrics` prints of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stdout
from enum import StrEnum
from io import StringIO
from pathlib import Path

from celery_observe.cli import main
from celery_observe.doctor.registry import registered
from celery_observe.fact import Cause, Outcome, Stage
from celery_observe.lint import checks

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"

HEAD = """\
# Metrics

<!-- Written by scripts/document_metrics.py from celery_observe/metrics/: change it there. -->

`celery-observe metrics` prints this table too. Where there are several brokers, every series carries the label
`broker`; `--worker-label` adds `worker` to what is counted per task. What cannot be known is absent, never 0.

| label | values |
| --- | --- |
| `task` | the name of the task; `unknown` where no event told it, `__other__` past `--max-series` or by a rule |
| `queue` | from `task-sent`, else the only queue of its worker, else a rule or route, else `unknown` |
| `worker` | the full node name, such as `celery@host` |
| `exception` | the name of a class, never its text |
| `outcome` | {outcomes} |
| `cause` | {causes} |
| `state` | what a task called its state in `update_state`; Celery's own states are not counted |
| `root` | the name of the task with which a workflow began ([Workflows](workflows.md)), `unknown` where nothing told |
| `stage` | {stages} |
| `label` | a name in `label_names`; the names in there are labels of the families `celery_task_labelled_*` |

An attempt has one outcome. `vanished`: it started and nothing told how it ended, since its worker died, its last event
was lost, or Celery before 5.7 said nothing (`sys.exit`, `Ignore`, a `Reject` of what was acknowledged). `ignored`:
`Ignore`, or replaced by another task; from Celery 5.7 on also what a pool without processes swallows (`MemoryError`).

"""


CHECKS = """
## What leads to it

`celery-observe doctor` and [`lint`](lint.md) show beforehand what these metrics show while it happens.

| metric | checks and rules |
| --- | --- |
"""


def page() -> str:
    """Return the page."""
    printed = StringIO()
    with redirect_stdout(printed):
        main(["metrics", "--format", "markdown"], standalone_mode=False)
    head = HEAD.format(outcomes=_values(Outcome), causes=_values(Cause), stages=_values(Stage))
    return head + printed.getvalue() + CHECKS + "".join(_checks())


def _checks() -> Iterator[str]:
    by_metric: dict[str, list[str]] = {}
    doctors = [("doctor", each.rule) for each in registered()]
    for tool, rule in [*doctors, *(("lint", each.rule) for each in checks().values())]:
        for name in rule.metrics:
            by_metric.setdefault(name, []).append(f"[{rule.name}]({tool}/{rule.name}.md)")
    yield from (f"| `{name}` | {', '.join(links)} |\n" for name, links in sorted(by_metric.items()))


def _values(of: type[StrEnum]) -> str:
    return " ".join(f"`{value}`" for value in of)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
