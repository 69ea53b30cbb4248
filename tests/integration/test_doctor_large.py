"""The doctor on a large system: seconds, and a report that can be read."""

from __future__ import annotations

import json

import click

from celery_observe.doctor import examine
from celery_observe.findings import render
from celery_observe.settings import load
from services.crowd import Crowd
from services.imitation import ImitatedWorker
from services.redis import Redis

WORKERS, TASKS, QUEUES, MESSAGES, KEYS = 1000, 300, 500, 1000, 50_000


def fill(server: Redis) -> None:
    """Many queues, one of them with many messages, dead letters, and many keys that are none of Celery's."""
    message = json.dumps({"body": "x" * 1000, "headers": {"task": "shop.charge"}, "content-type": "application/json"})
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(QUEUES):
            pipe.sadd(f"_kombu.binding.q{number}", f"q{number}\x06\x16\x06\x16q{number}")
            pipe.lpush(f"q{number}", *[message] * (MESSAGES if not number else 3))
        pipe.lpush("orders.dlq", message)
        for number in range(KEYS):
            pipe.set(f"cache:{number}", "x")
        pipe.execute()


def test_a_large_system_is_looked_at_in_seconds(redis_server: Redis) -> None:
    """A thousand workers are asked little each, a hundred of them the rest; what is said of them stays short."""
    fill(redis_server)
    settings = load({"broker": (redis_server.url,), "inspect_timeout": "5"}, {})

    with Crowd(redis_server.url, WORKERS, TASKS), ImitatedWorker(redis_server.url, name="w0@h") as worker:
        worker.beat()
        report = examine(settings, listen=2.0)

    told = click.unstyle(render(report, "text"))
    assert f"{WORKERS} workers, {QUEUES + 1} queues" in told
    assert "dlq" not in told
    assert "100 of 1000 workers were asked for settings and tasks" in told
    assert f"{TASKS} tasks may hang for ever" in told
    assert len(told) < 20_000
    assert report.seconds < 60
    print(f"{report.seconds:.1f} s")
