"""Which settings of Celery are looked at, and how they are kept: no URL, no password. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from celery.app.defaults import DEFAULTS

from celery_observe.doctor.evidence import Conf

_OPTIONS: Final = ("visibility_timeout", "priority_steps", "queue_order_strategy")


def _scheme(url: Any) -> str | None:
    """Return the kind of result backend, such as `redis`; None where there is none."""
    if isinstance(url, list | tuple):
        url = url[0] if url else None
    kind = str(url).partition(":")[0].partition("+")[0].lower() if url else ""
    return None if kind in {"", "disabled"} else kind


def _seconds(value: Any) -> float | None:
    """Return seconds; None for never, and for what cannot be read, such as a text that tells a timedelta."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _expiry(value: Any) -> float | None:
    """Return after how many seconds results expire; a worker tells a timedelta as text, which is not never."""
    default = DEFAULTS["result_expires"].total_seconds()
    return float(default) if isinstance(value, str) else _seconds(value)


def _options(value: Any) -> dict[str, Any]:
    return {name: value[name] for name in _OPTIONS if name in value} if isinstance(value, Mapping) else {}


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else ()


def _has_tls(value: Any) -> bool:
    return bool(value)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) else None


_KEPT: Final[dict[str, Callable[[Any], Any]]] = {
    "accept_content": _names,
    "result_accept_content": _names,
    "beat_enable_remote_control": bool,
    "beat_scheduler": str,
    "broker_transport_options": _options,
    "broker_use_ssl": _has_tls,
    "event_serializer": str,
    "imports": _names,
    "result_backend": _scheme,
    "result_expires": _expiry,
    "result_serializer": str,
    "task_acks_late": bool,
    "task_always_eager": bool,
    "task_default_priority": _whole,
    "task_ignore_result": bool,
    "task_inherit_parent_priority": bool,
    "task_queue_max_priority": _whole,
    "task_reject_on_worker_lost": bool,
    "task_send_sent_event": bool,
    "task_serializer": str,
    "task_soft_time_limit": _seconds,
    "task_time_limit": _seconds,
    "worker_max_memory_per_child": _whole,
    "worker_max_tasks_per_child": _whole,
    "worker_prefetch_multiplier": _whole,
    "worker_send_task_events": bool,
}
"""The settings that checks look at, and what is kept of each."""

WATCHED: Final = tuple(_KEPT)


def conf_of(given: Mapping[str, Any]) -> Conf:
    """Return what is kept of settings by the names of today; what is not given is Celery's default."""
    return {name: keep(given[name] if name in given else DEFAULTS.get(name)) for name, keep in _KEPT.items()}
