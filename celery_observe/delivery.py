"""From facts to receivers of alerts: what the hooks' rules want is looked at, grouped and sent in threads of its own.

The pipeline's thread only tells whether a fact meets a rule's conditions, and remembers the fact: a dead sink, a slow
hook or a flood of failures delays nothing there. Each sink has a courier, so that none waits for another.
"""

from __future__ import annotations

import enum
import importlib
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import tenacity

from celery_observe import overview
from celery_observe.errors import SettingsError, SinkError, SinkRefusedError
from celery_observe.fact import AlertsDropped, AlertsSent, Fact, FactsDropped, WorkerUp
from celery_observe.fleet import Instant
from celery_observe.guard import contained
from celery_observe.hooks.breaker import Breaker
from celery_observe.hooks.grouping import Group
from celery_observe.hooks.registry import registered
from celery_observe.hooks.rule import Rule, flower_links, rule, rules
from celery_observe.logs import log
from celery_observe.masking import mask_text
from celery_observe.metrics import alerts
from celery_observe.sinks import Sink, sink_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from celery_observe.guard import Guard
    from celery_observe.hooks import Message
    from celery_observe.hooks.conditions import Test
    from celery_observe.hooks.registry import Call
    from celery_observe.recorder import Recorder
    from celery_observe.settings import Settings

PLUGIN = "alerts"
INTERVAL = 0.25
"""Seconds between two looks at what has come."""
MOST_FACTS = 10_000
"""Facts that wait to be looked at."""
MOST_MESSAGES = 100
"""Messages that wait for one sink, or facts for one hook."""
MOST_SHOWN = 50
"""Alerts that are shown to who asks which fire."""
SEVERITIES = ("critical", "error", "warning", "info")
TRIES = 4
"""Attempts in a row, about 1, 2 and 4 s apart, before the circuit opens."""
TOO_OLD = 3600.0
"""Seconds after which a message is not worth delivering any more."""
LAST_TRY = 1.0
"""Seconds that the end of the process waits for what is still to be sent."""


class Dropped(enum.StrEnum):
    """Why a message was not delivered."""

    REFUSED = "refused"
    """The receiver does not take it, and will not."""
    TOO_OLD = "too_old"
    """The receiver could not be reached for an hour."""
    QUEUE_FULL = "queue_full"
    """Too many wait for the receiver."""
    SHUTDOWN = "shutdown"
    """We ended, and one last attempt failed."""


class Plan(NamedTuple):
    """What the settings and the registered hooks amount to."""

    rules: tuple[Rule, ...]
    hooks: tuple[tuple[Rule, Call], ...]
    sinks: dict[str, Sink]


def plan(settings: Settings) -> Plan:
    """Return what is to be told and to whom. Raises SettingsError: what is wrong, and the fix."""
    origin = settings.origin("alert_sink")
    sinks = {name: sink_for(name, given, origin) for name, given in settings.alert_sink.items()}
    links = flower_links(settings.flower_url) | settings.alert_link
    found = rules(settings.alert_rule, settings.origin("alert_rule"), links)
    for module in settings.alert_hooks:
        _import(module, settings.origin("alert_hooks"))
    hooks = tuple((rule(each.table, f"@on_fact {name}", links), each.call) for name, each in registered.items())
    for each in (*found, *(one for one, _call in hooks)):
        _check_sinks(each, sinks)
    if found and not sinks:
        raise SettingsError(f"{settings.origin('alert_rule')}: nobody is told. Give an alert_sink too.")
    return Plan(found, hooks, sinks)


def _import(module: str, origin: str) -> None:
    def explain(error: Exception) -> SettingsError:
        said = mask_text(f"{type(error).__name__}: {error}")
        return SettingsError(f"{origin}: {module} cannot be imported: {said}. Look at PYTHONPATH.")

    contained(lambda: importlib.import_module(module), explain)


def _check_sinks(each: Rule, sinks: Mapping[str, Sink]) -> None:
    for name in each.sinks:
        if name not in sinks:
            given = ", ".join(sinks) or "none"
            raise SettingsError(f"rule {each.name!r}: there is no sink {name!r}, but {given}. See alert_sink.")


def rehearse(settings: Settings, names: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Send a test alert to these sinks, or all, and its end; yield each with what went wrong. Raises SettingsError."""
    sinks = plan(settings).sinks
    for name in names or sinks:
        if name not in sinks:
            raise SettingsError(f"there is no sink {name!r}, but {', '.join(sinks) or 'none'}. Give NAME=URL.")
        try:
            for message in _rehearsal():
                sinks[name].deliver(message)
        except SinkError as error:
            yield name, str(error)
        else:
            yield name, None


def _rehearsal() -> Iterator[Message]:
    told = rule({"on": "worker_up", "name": "test", "summary": "celery-observe can send alerts"}, "", {})
    group, now = Group(told, lambda _fact: None), _now()
    test = WorkerUp("celery-observe", 1)
    group.fire(test, {}, now)
    yield from (message for _since, message in group.due(now, final=True))
    group.end(test, {}, now)
    yield from (message for _since, message in group.due(now, final=True))


class _Arrival(NamedTuple):
    """A fact that a rule wants: ``ends`` an alert or begins one."""

    group: Group
    call: _Caller | None
    fact: Fact
    labels: Mapping[str, str]
    at: Instant
    ends: bool = False
    summary: str | None = None


class Delivery(threading.Thread):
    """Looks at what rules want, and hands messages to couriers."""

    def __init__(self, told: Plan, recorder: Recorder, guard: Guard) -> None:
        super().__init__(name="alerts", daemon=True)
        self.stopping = threading.Event()
        self._inbox: deque[_Arrival] = deque()
        self._dropped = self._dropped_told = 0
        self._recorder = recorder
        self._guard = guard
        self._couriers = {name: _Courier(name, sink, recorder, guard) for name, sink in told.sinks.items()}
        self._groups = [(Group(each, recorder.record), None) for each in told.rules]
        self._callers = [
            (Group(each, recorder.record), _Caller(each.name, call, self._put, guard)) for each, call in told.hooks
        ]

    def watch(self, recorder: Recorder, wanted: Callable[[], bool] = lambda: True) -> None:
        """Look at what is recorded here from now on, while it is ``wanted``."""
        for group, caller in (*self._groups, *self._callers):
            for kind, test in group.rule.tests.items():
                recorder.also(kind, self._offering(group, caller, test, recorder.const_labels, wanted))
            for kind, test in group.rule.until.items():
                recorder.also(kind, self._ending(group, test, recorder.const_labels))

    def firing(self, now: float) -> list[overview.Alert]:
        """Return the alerts that fire, by rule and severity and without their texts; ``now`` is in Unix seconds."""
        alerts = [each for group, _caller in (*self._groups, *self._callers) for each in group.firing(MOST_SHOWN)]
        alerts.sort(key=lambda each: (SEVERITIES.index(each.severity), -each.starts_at))
        return [
            overview.Alert(
                rule=each.rule,
                severity=each.severity,
                labels=each.labels,
                count=each.count,
                age=max(0.0, round(now - each.starts_at, 1)),
                uuid=each.detail.uuid if each.detail is not None else "",
            )
            for each in alerts[:MOST_SHOWN]
        ]

    def _offering(
        self,
        group: Group,
        caller: _Caller | None,
        meets: Test,
        labels: Mapping[str, str],
        wanted: Callable[[], bool],
    ) -> Callable[[Fact], None]:
        def offer(found: Fact) -> None:
            if meets(found) and wanted():
                self._put(_Arrival(group, caller, found, labels, _now()))

        return offer

    def _ending(self, group: Group, meets: Test, labels: Mapping[str, str]) -> Callable[[Fact], None]:
        inbox = self._inbox

        def offer(found: Fact) -> None:
            if (group or inbox) and meets(found):
                self._put(_Arrival(group, None, found, labels, _now(), ends=True))

        return offer

    def _put(self, arrival: _Arrival) -> None:
        if len(self._inbox) < MOST_FACTS:
            self._inbox.append(arrival)
        else:
            self._dropped += 1

    def run(self) -> None:
        """Look every quarter of a second, until told to stop; then tell all that there is to tell, at once."""
        for thread in (*self._couriers.values(), *(caller for _group, caller in self._callers)):
            thread.start()
        while not self.stopping.wait(INTERVAL):
            self._guard.run(PLUGIN, self.look, timed=False)
        self._guard.run(PLUGIN, lambda: self.look(final=True), timed=False)
        for courier in self._couriers.values():
            courier.stopping.set()
            courier.put(None)

    def join(self, timeout: float | None = None) -> None:
        """Wait for this thread and those of the couriers."""
        deadline = time.monotonic() + (LAST_TRY if timeout is None else timeout)
        super().join(max(0.0, deadline - time.monotonic()))
        for courier in self._couriers.values():
            courier.join(max(0.0, deadline - time.monotonic()))

    def look(self, *, final: bool = False) -> None:
        """Take in what has come, and hand on what is due; when ``final``, without waiting for more."""
        self._take()
        now = _now()
        for group, _caller in (*self._groups, *self._callers):
            for since, message in group.due(now, final=final):
                self._send(group.rule, message, since)
        dropped = self._dropped - self._dropped_told
        if dropped:
            self._dropped_told += dropped
            self._recorder.record(FactsDropped(dropped))
        for name, courier in self._couriers.items():
            self._recorder[alerts.WAITING].set((name,), len(courier))

    def _take(self) -> None:
        while self._inbox:
            group, caller, found, labels, at, ends, summary = arrival = self._inbox.popleft()
            if ends:
                group.end(found, labels, at)
            elif caller is None:
                group.fire(found, labels, at, summary)
            elif not caller.put(arrival):
                self._dropped += 1

    def _send(self, about: Rule, message: Message, since: float) -> None:
        for name in about.sinks or self._couriers:
            courier = self._couriers[name]
            if not message.repeated or courier.sink.forgets:
                courier.put(_Parcel(message, since))


class _Caller(threading.Thread):
    """Calls one hook in Python, for one fact after the other; a text that it returns becomes an alert."""

    def __init__(self, name: str, call: Call, put: Callable[[_Arrival], None], guard: Guard) -> None:
        super().__init__(name=f"hook-{name}", daemon=True)
        self._call = call
        self._put = put
        self._guard = guard
        self._waiting: queue.Queue[_Arrival] = queue.Queue(MOST_MESSAGES)

    def put(self, arrival: _Arrival) -> bool:
        """Have the hook called with this fact, if there is room."""
        try:
            self._waiting.put_nowait(arrival)
        except queue.Full:
            return False
        return True

    def run(self) -> None:
        """Call it until the process ends."""
        while True:
            arrival = self._waiting.get()
            said = self._guard.run(self.name, lambda found=arrival.fact: self._call(found))  # type: ignore[misc]
            if isinstance(said, str) and said:
                self._put(arrival._replace(call=None, summary=mask_text(said)))


class _Parcel(NamedTuple):
    """A message, and since when there was something to tell, by our monotonic clock."""

    message: Message
    since: float


class _Courier(threading.Thread):
    """Delivers messages to one sink, in their order."""

    def __init__(self, name: str, sink: Sink, recorder: Recorder, guard: Guard) -> None:
        super().__init__(name=f"sink-{name}", daemon=True)
        self.sink = sink
        self.stopping = threading.Event()
        self._label = name
        self._recorder = recorder
        self._guard = guard
        self._waiting: queue.Queue[_Parcel | None] = queue.Queue(MOST_MESSAGES)
        self._breaker = Breaker()
        self._problem: SinkError | None = None
        self._backoff = tenacity.wait_exponential(multiplier=0.5, max=30.0) + tenacity.wait_random(0.0, 0.5)
        recorder[alerts.SENT].increase((name,), 0)
        for reason in Dropped:
            recorder[alerts.DROPPED].increase((name, reason), 0)

    def __len__(self) -> int:
        """Return how many messages wait."""
        return self._waiting.qsize()

    def put(self, parcel: _Parcel | None) -> None:
        """Take a message to be delivered, if there is room; None ends the thread."""
        try:
            self._waiting.put_nowait(parcel)
        except queue.Full:
            if parcel is not None:
                self._drop(Dropped.QUEUE_FULL)

    def run(self) -> None:
        """Deliver until told to stop, and nothing is left."""
        while not (self.stopping.is_set() and self._waiting.empty()):
            parcel = self._waiting.get()
            if parcel is not None:
                self._deliver(parcel)

    def _deliver(self, parcel: _Parcel) -> None:
        """Try until it is delivered, or in vain; while the circuit is open, wait. At the end, try once."""
        while not (self.stopping.is_set() and self._breaker.is_open):
            if self._tried(parcel):
                return
            now = time.monotonic()
            if isinstance(self._problem, SinkRefusedError) or now - parcel.since > TOO_OLD:
                self._drop(Dropped.REFUSED if isinstance(self._problem, SinkRefusedError) else Dropped.TOO_OLD)
                return
            self._breaker.open(now)
            self.stopping.wait(self._breaker.pause(now))
        self._drop(Dropped.SHUTDOWN)

    def _tried(self, parcel: _Parcel) -> bool:
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(1 if self._breaker.is_open else TRIES)
            | tenacity.stop_when_event_set(self.stopping),
            wait=self._pause,
            retry=tenacity.retry_if_result(self._is_worth_another),
            sleep=tenacity.sleep_using_event(self.stopping),
            retry_error_callback=lambda _state: None,
        )
        return bool(attempts(self._guard.run, f"sink-{self._label}", lambda: self._once(parcel)))

    def _once(self, parcel: _Parcel) -> bool:
        self._problem = None
        try:
            self.sink.deliver(parcel.message)
        except SinkError as error:
            self._problem = error
            raise
        self._breaker.close()
        self._recorder.record(AlertsSent(self._label, time.monotonic() - parcel.since))
        return True

    def _is_worth_another(self, delivered: bool | None) -> bool:  # noqa: FBT001 - tenacity hands on what was returned
        return not delivered and not isinstance(self._problem, SinkRefusedError)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        asked = self._problem.retry_after if self._problem else 0.0
        return max(asked, self._backoff(state))

    def _drop(self, reason: Dropped) -> None:
        self._recorder.record(AlertsDropped(self._label, reason))
        log.warning("alert not delivered", sink=self._label, reason=str(reason))


def _now() -> Instant:
    return Instant(time.time(), time.monotonic())
