"""The remote control command ``celery -A app control celery_observe off``, and ``on``."""

from __future__ import annotations

from typing import Any

from celery.worker.control import control_command

from celery_observe.worker.reporter import reporter


@control_command(args=[("switch", str)], signature="<on|off>")  # type: ignore[untyped-decorator]  # Celery has no types
def celery_observe(_state: Any, switch: str, **_: Any) -> dict[str, str]:
    """Turn the instrumentation of workers on or off, in the pool's children too."""
    if switch not in {"on", "off"}:
        return {"error": f"celery_observe takes on or off, not {switch!r}"}
    reporter.turn(off=switch == "off")
    return {"ok": f"celery_observe is {switch}"}
