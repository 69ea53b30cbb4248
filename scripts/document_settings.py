"""Write docs/settings.md from the declarations in celery_observe/settings/declaration.py."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from celery_observe.settings import SETTINGS, WORKER, Setting

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"

HEAD = """\
# Settings

<!-- Written by scripts/document_settings.py from celery_observe/settings/declaration.py: change it there. -->

A setting is a flag, an environment variable and a key of a TOML file, all of one name: `--log-level`,
`CELERY_OBSERVE_LOG_LEVEL`, `log_level`. A flag goes before the environment, the environment before the file that
`--config` or `CELERY_OBSERVE_CONFIG` names, the file before the default. The place that goes first has the whole say:
lists are not merged. `celery-observe run --check` prints what is in effect and where it comes from, passwords masked.

What is repeatable on the command line is, elsewhere:

| | list | `KEY=VALUE` |
|---|---|---|
| flags | `--task-deny 'a.*' --task-deny 'b.*'` | `--task-queue 'a.*=fast' --task-queue 'b.*=slow'` |
| environment | `a.* b.*` or `["a.*", "b.*"]` | `a.*=fast b.*=slow` or `{"a.*": "fast", "b.*": "slow"}` |
| TOML | `["a.*", "b.*"]` | `{ "a.*" = "fast", "b.*" = "slow" }` |

What is written with commas (`TYPE,…`) may be so in each of the three. Times are seconds. An empty environment
variable is one that is not set. Unknown settings are refused, except for the variables that Kubernetes adds for a
Service called `celery-observe` (`CELERY_OBSERVE_SERVICE_HOST`, `CELERY_OBSERVE_PORT=tcp://…` and so on), which mean
nothing here, and `CELERY_OBSERVE_DISABLED`, which turns instrumented processes off.

Instrumented processes (`docs/worker.md`) take the same environment and file, less what is about brokers; what is a flag
here is an argument of `instrument(app, port=9100)` there.

Several brokers share one set of the settings below. With `--app`, what is not given here comes from the app's
configuration: `broker_read_url` or `broker_url`, `broker_transport_options`, `broker_use_ssl`, `accept_content` (less
pickle), `event_exchange`, `event_queue_*`, `control_exchange`, `task_queues`, `task_routes`. `--broker` beside
`--app` replaces the URL and keeps the rest, as `celery --broker` does; transport options are added to the app's.
`celery -A proj observe` takes the same options but these two.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_section(name, group) for name, group in groupby(SETTINGS.values(), lambda s: s.group))


def _section(name: str, settings: Any) -> str:
    rows = "\n".join(map(_row, settings))
    return f"\n## {name}\n\n| flag | environment | default | |\n|---|---|---|---|\n{rows}\n"


def _row(setting: Setting) -> str:
    short = f"`{setting.short}` " if setting.short else ""
    negation = f" `--no-{setting.flag[2:]}`" if setting.form is bool else ""
    flag = f"{setting.flag} {setting.metavar}".strip().replace("|", r"\|")
    if setting.group == WORKER:
        flag, negation = f"{setting.name}={setting.metavar or True}", ""
    default = f"`{setting.default_text}`" if setting.default_text else ""
    return f"| {short}`{flag}`{negation} | `{setting.env}` | {default} | {setting.help} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
