"""What somebody should look at, of all that tables show. What lasts is for the rules of Prometheus to judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from celery_observe.overview.model import Concern, Observer, Queue, Root, Worker

MOST = 20
_CRITICAL, _WARNING = "critical", "warning"


def concerns(
    queues: Iterable[Queue],
    workers: Iterable[Worker],
    workflows: Iterable[Root],
    observer: Observer,
    *,
    ready: bool,
) -> list[Concern]:
    """Return what is wrong now, the worst first; ``MOST`` at the most. Why we are not ready is told elsewhere."""
    found = [*_of_queues(queues), *_of_workers(workers), *_of_workflows(workflows), *_of_loss(observer)]
    found += _of_plugins(observer) if ready else []
    return sorted(found, key=lambda each: each.severity)[:MOST]  # critical comes before warning


def _of_queues(queues: Iterable[Queue]) -> Iterator[Concern]:
    for queue in queues:
        if queue.is_troubled:
            text = f"no worker consumes it, {queue.waiting:.0f} waiting"
            yield Concern(severity=_CRITICAL, about="queue", name=queue.queue, text=text)


def _of_workers(workers: Iterable[Worker]) -> Iterator[Concern]:
    for worker in workers:
        if worker.up is False:
            yield _about_worker(_WARNING, worker, "has left, or is silent")
        elif worker.stalled:
            yield _about_worker(_CRITICAL, worker, "is online and free, messages wait, and it takes none")
        elif worker.connected is False:
            yield _about_worker(_WARNING, worker, "has no connection to its broker")


def _about_worker(severity: str, worker: Worker, text: str) -> Concern:
    return Concern(severity=severity, about="worker", name=worker.worker, text=text)


def _of_workflows(workflows: Iterable[Root]) -> Iterator[Concern]:
    for root in workflows:
        for reason, count in root.chords_stalled.items():
            text = f"the body of a chord does not come: {reason.replace('_', ' ')} ({count:.0f})"
            yield Concern(severity=_WARNING, about="workflow", name=root.root, text=text)


def _of_loss(observer: Observer) -> Iterator[Concern]:
    if observer.unobserved_lately:
        text = f"workers accepted {observer.unobserved_lately:.0f} tasks lately of which no event arrived"
        yield Concern(severity=_WARNING, about="observer", name="loss", text=text)


def _of_plugins(observer: Observer) -> Iterator[Concern]:
    for plugin in observer.plugins:
        if not plugin.up:
            text = plugin.problem or "failed when it ran last"
            yield Concern(severity=_WARNING, about="observer", name=plugin.plugin, text=text)
