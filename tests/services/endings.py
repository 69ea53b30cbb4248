"""Tasks of apps.sample that end in every way that a task can end."""

from __future__ import annotations

from services.exporter import Exporter
from services.worker import Worker

Table = dict[tuple[str, str], float]

ENDINGS: Table = {
    ("add", "succeeded"): 2,
    ("fail", "failed"): 2,
    ("retry", "retried"): 2,
    ("retry", "succeeded"): 1,
    ("give_up", "retried"): 1,
    ("give_up", "failed"): 1,
    ("soft_limit", "failed"): 1,
    ("hard_limit", "failed"): 1,
    ("kill_self", "failed"): 1,
    ("kill_self_once", "rejected"): 1,
    ("kill_self_once", "succeeded"): 1,
    ("exit_process", "failed"): 1,
    ("reject", "rejected"): 1,
    ("reject_once", "rejected"): 1,
    ("reject_once", "succeeded"): 1,
    ("ignore", "ignored"): 1,
    ("say", "succeeded"): 1,
    ("nobody_knows", "unregistered"): 1,
    ("work", "expired"): 1,
    ("work", "revoked"): 1,
    ("work", "terminated"): 1,
}
"""What `run_everything` leads to with Celery 5.7 in a prefork pool."""
REPLACED: Table = {("replace", "ignored"): 1, ("add", "succeeded"): 3}
"""And what is different when `replace` was published too, which becomes one more `add`."""


def run_everything(worker: Worker, page: Exporter) -> None:
    """Publish tasks that end in every way, but for `replace`.

    That and what comes in its place have one id, and the start of the one may be told of after the other was published.
    Other exporters then count it for the other. They do not name what no worker knows unless its publisher is heard
    before that fails, so the worker stands still meanwhile.
    """
    terminated = worker.send("work", 30)
    page.wait_for(lambda samples: samples.value("celery_task_running", task="work") == 1)
    worker.revoke(terminated, terminate=True)
    revoked = worker.send("work", 0, countdown=5)
    worker.send("work", 0, countdown=1, expires=0.5)
    worker.wait_output(f"[{revoked}] received")
    worker.revoke(revoked)
    worker.pause()
    for _ in range(2):
        worker.send("add", 1, 2)
        worker.send("fail")
    for task in ("give_up", "soft_limit", "hard_limit", "kill_self", "kill_self_once", "exit_process"):
        worker.send(task)
    for task in ("reject", "reject_once", "ignore", "say", "nobody_knows"):
        worker.send(task)
    worker.send("retry", 2)
    worker.resume()
