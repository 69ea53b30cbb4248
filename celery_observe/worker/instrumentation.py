"""``instrument``: connects our handlers to Celery's signals, in whatever kind of process this is.

Celery's signals belong to the process, not to an app, and everything that needs an app waits until a worker or beat
brings its own; so this may come before or after the app is made or configured, and again.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import Task, bootsteps, signals
from celery.concurrency import get_implementation

from celery_observe.broker import socket_path
from celery_observe.errors import SettingsError
from celery_observe.hooks.registry import detail_level
from celery_observe.settings import SETTINGS, Settings, is_disabled, load
from celery_observe.worker import canvas, consumer, context, executions, logs, publisher, tracer
from celery_observe.worker.children import Children
from celery_observe.worker.ending import ending
from celery_observe.worker.guard import handler, harmless, told
from celery_observe.worker.labels import labeller
from celery_observe.worker.queues import queue_names
from celery_observe.worker.quotation import quotation
from celery_observe.worker.reporter import reporter
from celery_observe.worker.tracing import set_up, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery_observe.worker.resident import Resident

log = logging.getLogger(__name__)

_given: dict[str, Any] = {}
_children = Children()

_CPU_CLOCKS = {"prefork": time.process_time, "solo": time.thread_time, "thread": time.thread_time}
"""By pool: a prefork child executes one task at a time; greenlets share a thread, which cannot be divided."""


@told
def instrument(
    app: Any = None, *, labels: Callable[[Any], Mapping[str, Any] | None] | None = None, **settings: Any
) -> None:
    """Measure the tasks that this process executes, and those that it publishes.

    Call it once per process, anywhere; a second call adds settings. In a worker's main process it serves
    ``/metrics``, ``/healthz`` and ``/readyz``, unless there is a ``sidecar`` to report to; so it does in beat. Other
    processes (web) stamp what they publish, and report it to the sidecar if there is one.

    Args:
        app: the Celery app, or none: signals belong to the process.
        labels: called with each task as it begins, returns labels of your own for it; their names are declared in the
            setting ``label_names``.
        settings: as in ``docs/settings.md``, above all ``port``, ``host``, ``sidecar``, ``families`` and ``resource``;
            what is not given comes from ``CELERY_OBSERVE_*``.

    It never raises: a wrong setting is logged, and nothing is measured. ``CELERY_OBSERVE_DISABLED=1`` turns it off.
    """
    if is_disabled():
        return
    _given.update(settings)
    labeller.given = labels or labeller.given
    found = _settings()
    if found is None:
        return
    path = socket_path(found.sidecar) if found.sidecar else None
    if path is not None and not reporter.has_listener:
        reporter.connect_to(path)
    logs.set_up(found)
    set_up(found)
    receivers = (*tracing.first, *_RECEIVERS, *(_LOGGING if logs.lines.on else ()), *tracing.last)
    for signal, receiver in receivers if tracing.first else ():
        signal.disconnect(receiver)  # those of an earlier call would come before the first
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)
    publisher.watch_failures(app)


def _settings() -> Settings | None:
    unknown = sorted(_given.keys() - SETTINGS.keys())
    if unknown:
        log.error("nothing is measured: instrument() has no setting %s", ", ".join(unknown))
        return None
    try:
        return load(_given, instrumented=True)
    except SettingsError as error:
        log.error("nothing is measured: %s", error)  # noqa: TRY400 - the message says all
        return None


def in_effect() -> Settings | None:
    """Return the settings that this process is instrumented with; None if it is not."""
    return None if is_disabled() else _settings()


@told
def _prepare(sender: Any, **_: Any) -> None:
    """Make ready what the pool's children inherit, and have the worker start and stop the rest with itself."""
    settings = _settings()
    if settings is None:
        return
    context.binding.settle(logging=logs.lines.on)
    if not context.binding.wanted:
        _leave_out(logs.introduce, context.restore)
    from celery_observe.worker import commands, progress, resident  # noqa: F401, PLC0415 - publishers do without

    canvas.watch_chords()
    consumer.watch()
    progress.watch()
    quotation.settle(detail_level(settings))
    labeller.settle(settings.label_names)
    queue_names.declare(sender.app.amqp.queues.consume_from.values())
    pool = get_implementation(sender.pool_cls).__module__.rpartition(".")[2]
    tracing.prepare(apart=pool == "prefork", green=resident.is_green())
    executions.meter.clock = _CPU_CLOCKS.get(pool) if settings.resource else None
    app = sender.app
    if pool == "prefork" and _only_measures(app):
        _leave_out(executions.begin, executions.end)
        signals.worker_process_init.connect(told(lambda **_: tracer.surround(app)), weak=False)
    guest = resident.Resident(sender, settings, _children)
    guest.prepare()
    sender.app.steps["worker"].add(_step_for(guest))
    sender.app.steps["consumer"].add(guest.pulse.step())
    signals.worker_shutdown.connect(told(lambda **_: guest.stop()), weak=False)


def _only_measures(app: Any) -> bool:
    """Tell whether all that is to be done at an attempt can be done around its tracer.

    A task with a strategy of its own, such as celery-batches', may be executed without one. The span that
    OpenTelemetry's instrumentation makes, whose trace we name, has ended by then.
    """
    others = "opentelemetry.instrumentation.celery" in sys.modules
    amid = others or tracing.spans is not None or logs.lines.on or labeller.is_wanted
    return not amid and all(task.Strategy == Task.Strategy for task in app.tasks.values())


def _leave_out(*calls: Callable[..., None]) -> None:
    """Disconnect what has nothing to do in this worker: each receiver of a signal takes its time of every task."""
    for signal, receiver in _RECEIVERS:
        if getattr(receiver, "__wrapped__", None) in calls:
            signal.disconnect(receiver)


def _step_for(guest: Resident) -> type[bootsteps.StartStopStep]:
    class ResidentStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        """Starts our thread once the pool has its first children."""

        requires = ("celery.worker.components:Pool",)

        @told
        def start(self, _worker: Any) -> None:
            guest.start()

        def stop(self, _worker: Any) -> None:
            """Leave that to worker_shutdown: tasks still end while the pool is being joined."""

        terminate = stop

    return ResidentStep


@told
def _be_beat(sender: Any, **_: Any) -> None:
    """Tell of a beat process; or of a beat that is a thread of a worker, with which it reports."""
    if not reporter.hostname:
        reporter.hostname = f"beat@{socket.gethostname()}"
        queue_names.declare(sender.app.amqp.queues.values())
        _watch(sender)
    elif threading.current_thread() is not threading.main_thread():
        _watch(sender)


@told
def _be_embedded_beat(sender: Any, **_: Any) -> None:
    """Tell of beat in the process that `worker --beat` forks, which closes all that it inherited.

    ``celery/beat.py: _Process.run`` does, before this signal.
    """
    reporter.forget()
    reporter.hostname = f"beat@{socket.gethostname()}"
    _watch(sender)


def _watch(service: Any) -> None:
    settings = _settings()
    if settings is not None:
        from celery_observe.worker.beat import Beat  # noqa: PLC0415 - others do without

        beat = Beat(service.scheduler)
        beat.watch()
        beat.start(settings)


def _format(logger: logging.Logger, **_: Any) -> None:
    from celery_observe.worker import formatter  # noqa: PLC0415 - publishers do without

    formatter.join(logger)


_AMID_TASK = (signals.before_task_publish, signals.after_task_publish, signals.task_prerun)
"""Those after which a task goes on."""

# All at once: Celery's tracers look whether a signal has receivers when they are built.
_RECEIVERS = (
    *(
        (signal, handler(call, amid_task=signal in _AMID_TASK))
        for signal, call in (
            (signals.before_task_publish, publisher.stamp),
            (signals.before_task_publish, context.carry),
            (signals.after_task_publish, publisher.published),
            (signals.task_prerun, logs.introduce),
            (signals.task_prerun, executions.begin),
            (signals.task_postrun, executions.end),
            (signals.task_failure, consumer.failed),
            (signals.task_retry, consumer.retried),
            (signals.task_revoked, consumer.revoked),
            (signals.task_unknown, consumer.unknown),
            (signals.task_rejected, consumer.refused),
            (signals.worker_before_create_process, _children.expect),
            (signals.worker_init, _prepare),
            (signals.worker_shutting_down, ending.take),
            (signals.beat_init, _be_beat),
            (signals.beat_embedded_init, _be_embedded_beat),
        )
    ),
    (signals.task_postrun, harmless(context.restore)),  # turned off meanwhile or not
)

_LOGGING = (
    *(
        (signal, handler(call, amid_task=signal in _AMID_TASK))
        for signal, call in (
            (signals.after_task_publish, logs.published),
            (signals.task_received, logs.received),
            (signals.task_unknown, logs.unknown),
            (signals.task_rejected, logs.refused),
        )
    ),
    (signals.after_setup_logger, told(_format)),
    (signals.after_setup_task_logger, told(_format)),
)
