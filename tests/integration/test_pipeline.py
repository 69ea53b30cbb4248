"""Everything together, of which no part may take the page with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import ProcessCollector

from celery_observe.compat import Compat
from celery_observe.pipeline import Pipeline
from celery_observe.probes import Prober
from celery_observe.settings import load
from services.exporter import Samples
from services.waiting import eventually
from services.web import ask

OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}


@pytest.fixture
def pipeline(free_port: int) -> Iterator[Pipeline]:
    """The pipeline of a broker that is not there."""
    flags = {"broker": (f"redis://127.0.0.1:{free_port}",), "port": "0", "compat": ("celery-exporter",)}
    pipeline = Pipeline(load(flags, {}))
    pipeline.start()
    yield pipeline
    pipeline.stop()


def fail(*_: object) -> None:
    """What a collector does that fails."""
    raise RuntimeError


def test_collectors_that_fail_never_empty_the_page(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each of them tells is missing, the rest is there and says so, on the very page; and they come back."""
    eventually(lambda: b"\ncelery_observe_stream_up 0" in ask(pipeline.exposition).body, what="it has tried to connect")
    with monkeypatch.context() as broken:
        for collector, method in ((Compat, "derive"), (ProcessCollector, "collect"), (Prober, "expire")):
            broken.setattr(collector, method, fail)
        answer, openmetrics = ask(pipeline.exposition), ask(pipeline.exposition, headers=OPENMETRICS)
    whole = Samples.parse(ask(pipeline.exposition).body.decode())

    page = Samples.parse(answer.body.decode())
    assert answer.status == openmetrics.status == 200
    assert openmetrics.body.endswith(b"# EOF\n")
    assert page.value("celery_observe_build_info") == 1
    assert page.value("celery_observe_stream_up") == 0
    assert page.value("process_cpu_seconds_total") is None
    assert whole.value("process_cpu_seconds_total") is not None
    for plugin in ("compat", "process", "expiry"):
        assert page.value("celery_observe_plugin_up", plugin=plugin) == 0
        assert whole.value("celery_observe_plugin_up", plugin=plugin) == 1
