"""The demo: a shop on real Celery workers, its broker, a steady load, and the exporter that watches them.

`stage` is the run itself; `shop` the Celery app, `load` its customers, `broker` the embedded server;
`processes` are the children and `guardian` what ends them in any case; `reading` is a reading of /metrics,
`summary` what is shown of it, and `terminal` where; `around` is what stands around the observers, and `opening`
opens the live page.
"""

from __future__ import annotations

__all__ = ["run"]


def run(
    *,
    broker: str | None = None,
    port: int | None = None,
    duration: float | None = None,
    flower: bool = False,
    traces: bool = False,
    prometheus: bool = True,
    browser: bool = True,
) -> int:
    """Run the demo until Ctrl-C, SIGTERM, or the end of `duration`; return the exit code.

    Args:
        broker: URL of a broker to use; without one an embedded broker is started.
        port: of the exporter, on loopback; without one 9808, or a free one if that is taken; 0 is any free one,
            for what stands around it too.
        duration: seconds of load, after which tasks in flight may end; without one it runs until stopped.
        flower: start a Flower beside it.
        traces: have workers and beat make spans of what they do; OpenTelemetry's `OTEL_*` variables say where those go.
        prometheus: start Prometheus and Alertmanager with the shipped rules, if they are installed.
        browser: open the live page, if there is a display and a terminal.

    Raises:
        DemoError: a child died, the port is taken, or the broker cannot be used.
    """
    from celery_observe.demo import stage  # noqa: PLC0415 - workers import this package for the shop alone

    wishes = stage.Wishes(
        broker=broker,
        port=port,
        duration=duration,
        flower=flower,
        traces=traces,
        prometheus=prometheus,
        browser=browser,
    )
    return stage.run(wishes)
