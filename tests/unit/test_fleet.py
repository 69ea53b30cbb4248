"""Which workers are there, and how many of their tasks nobody saw."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_observe.event import Snapshot
from celery_observe.fact import Unobserved, WorkerExited, WorkerForgotten, WorkerIdentified, WorkerSeen, WorkerUp
from celery_observe.fleet import MAX_WORKERS, Ledger
from unit.world import WORKER, World

# -- coming and going


def ups(world: World) -> list[int]:
    """The states of the worker, in their order."""
    return [fact.up for fact in world.told(WorkerUp)]


def exits(world: World) -> list[str]:
    """How the worker left, each time."""
    return [str(fact.kind) for fact in world.told(WorkerExited)]


def test_a_worker_is_up_from_its_first_heartbeat_on() -> None:
    """An event of a task alone is no heartbeat."""
    assert ups(World().play("r")) == []
    assert ups(World().beat().beat()) == [1]


def test_a_worker_that_says_goodbye_is_down_at_once() -> None:
    """It has shut down in good order, if it is not back soon."""
    world = World().beat().say("worker-offline").say("worker-offline")
    assert (ups(world), exits(world)) == ([1, 0], [])

    world.pass_time(11)

    assert (ups(world), exits(world)) == ([1, 0], ["shutdown"])


def test_a_worker_that_says_goodbye_and_is_back_has_not_exited() -> None:
    """It says goodbye, too, when it has lost its connection."""
    world = World().beat().say("worker-offline").beat().pass_time(5).beat().pass_time(5)

    assert (ups(world), exits(world)) == ([1, 0, 1], [])


def test_a_worker_that_is_silent_is_lost() -> None:
    """After five heartbeats, and no less than ten seconds."""
    world = World().beat(freq=2.0).pass_time(10)
    assert ups(world) == [1]

    world.pass_time(1)

    assert (ups(world), exits(world)) == ([1, 0], ["lost"])


def test_a_worker_with_slow_heartbeats_has_more_time() -> None:
    """Five of its own."""
    world = World().beat(freq=30.0).pass_time(149)

    assert ups(world) == [1]
    assert ups(world.pass_time(2)) == [1, 0]


def test_a_worker_whose_tasks_speak_is_alive() -> None:
    """A solo worker sends no heartbeat while it runs a task."""
    world = World().beat().pass_time(8).play("r").pass_time(8)

    assert ups(world) == [1]


def test_silence_while_the_stream_was_lost_says_nothing() -> None:
    """The clock of silence starts with the connection."""
    world = World().beat()
    world.clock.advance(100.0)
    world.tracker.connected(world.clock.now)

    world.pass_time(9)

    assert ups(world) == [1]


def test_a_lost_worker_may_come_back() -> None:
    """It is the same one."""
    world = World().beat().pass_time(20).beat()

    assert (ups(world), exits(world)) == ([1, 0, 1], ["lost"])


def test_a_worker_that_is_gone_for_long_is_forgotten() -> None:
    """After the timeout that was set."""
    world = World(worker_timeout=60.0).beat().pass_time(60)
    assert not world.told(WorkerForgotten)

    world.pass_time(1)

    assert [fact.worker for fact in world.told(WorkerForgotten)] == [WORKER]
    assert world.fleet.get(WORKER) is None


def test_too_many_workers_are_thinned_out() -> None:
    """Those unheard of the longest go first."""
    world = World()
    for number in range(MAX_WORKERS + 1):
        world.clock.advance(0.001)
        world.beat(hostname=f"w{number}@host")

    assert len(list(world.fleet)) <= MAX_WORKERS
    assert world.fleet.get("w0@host") is None
    assert world.fleet.get(f"w{MAX_WORKERS}@host") is not None


def test_what_ran_on_workers_that_are_thinned_out_is_not_left_running() -> None:
    """Their attempts vanish with them."""
    world = World().beat(hostname="first@host").play("s r st", hostname="first@host")
    for number in range(MAX_WORKERS):
        world.beat(hostname=f"w{number}@host", ago=-1.0)
    world.pass_time(1)

    assert world.fleet.get("first@host") is None
    assert world.outcomes == ["vanished"]


# -- what heartbeats tell


def test_a_heartbeat_tells_counts_load_and_version() -> None:
    """Each becomes a fact."""
    world = World().beat(active=3, processed=9, loadavg=[0.5, 1.0, 2.0], sw_ver="5.6.3")

    (seen,) = world.told(WorkerSeen)
    assert (seen.active, seen.processed, seen.load1) == (3, 9, 0.5)
    assert [fact.version for fact in world.told(WorkerIdentified)] == ["5.6.3"]


def test_a_heartbeat_that_answers_a_broadcast_tells_that_the_worker_lives() -> None:
    """It has no counts."""
    world = World().beat(active=None, processed=None, freq=5.0)

    (seen,) = world.told(WorkerSeen)
    assert (seen.active, seen.processed) == (None, None)
    assert ups(world) == [1]


def test_a_version_is_told_once_per_process() -> None:
    """And again after an upgrade."""
    world = World().beat(sw_ver="5.6.3").beat(sw_ver="5.6.3").beat(sw_ver="5.7.0", pid=2)

    assert [fact.version for fact in world.told(WorkerIdentified)] == ["5.6.3", "5.7.0"]


def test_a_pool_is_told_with_the_version_once_it_is_known() -> None:
    """By a snapshot, whichever comes first; a snapshot that does not say takes nothing back."""
    world = World()

    world.tracker.seed(Snapshot(WORKER, world.clock.now.wall, (), (), None, "prefork"), world.clock.now)
    world.beat(processed=0).snapshot()

    told = [(fact.version, fact.pool) for fact in world.told(WorkerIdentified)]
    assert told == [("", "prefork"), ("5.7.0", "prefork")]


def test_the_skew_of_a_clock_is_the_least_difference_of_late() -> None:
    """A heartbeat that was delayed looks older than it is."""
    world = World()
    for delay in (0.3, 0.1, 4.0):
        world.clock.advance(2.0)
        world.beat(ago=60.0 + delay)

    assert round(world.told(WorkerSeen)[-1].clock_skew, 6) == 60.1


def test_celery_announces_exits_of_children_from_5_7_on() -> None:
    """Older workers, and those whose version cannot be read, do not."""
    versions = ("5.6.3", "5.7.0", "5.10.1", "6.0.0", "", "main", "5")
    worlds = [World().beat(sw_ver=version).fleet.get(WORKER) for version in versions]

    assert [worker.announces_exits for worker in worlds if worker] == [False, True, True, True, False, False, False]


# -- loss


def lost(world: World) -> int:
    """How many tasks are known to be unobserved."""
    return sum(fact.count for fact in world.told(Unobserved))


def beats(world: World, processed: int, times: int = 4) -> World:
    """Let heartbeats say that this many tasks were accepted."""
    for _ in range(times):
        world.clock.advance(2.0)
        world.beat(processed=processed)
    return world


def test_what_a_worker_accepted_and_did_not_tell_is_unobserved() -> None:
    """Three were accepted, one was seen."""
    world = World().beat(processed=0).play("st")

    assert lost(beats(world, 3)) == 2


def test_what_a_worker_accepted_before_we_came_is_not_unobserved() -> None:
    """We count from the first heartbeat on."""
    assert lost(beats(World().beat(processed=1000), 1000)) == 0


def test_the_start_of_a_task_accepted_before_we_came_is_none_of_those_that_count() -> None:
    """It was in the buffer of the worker; it must not hide a loss."""
    world = World().beat(processed=10).say("task-started", uuid="a", ago=0.5)

    assert lost(beats(world, 11)) == 1


def test_a_new_process_is_counted_from_its_first_task_on() -> None:
    """It was seen to begin."""
    world = beats(World(), 10).beat(pid=2, processed=4)

    for _ in range(4):
        world.clock.advance(2.0)
        world.beat(pid=2, processed=4)

    assert lost(world) == 4


def test_the_same_pid_with_a_lower_count_is_a_new_process() -> None:
    """In containers every worker has the same pid."""
    world = beats(World(), 10)

    assert lost(beats(world, 2)) == 2
    assert exits(world) == ["restarted"]


def test_an_observer_that_was_away_knows_what_it_missed() -> None:
    """The ledgers of its first life are handed to its second."""
    first = beats(World(), 5, times=1).play("st")
    saved = msgspec.json.decode(msgspec.json.encode(first.fleet.ledgers()), type=list[Ledger])

    second = World()
    second.fleet.resume(saved, second.clock.now)
    beats(second, 9)

    assert lost(second) == 3


def test_what_was_unobserved_in_an_earlier_life_stays_counted() -> None:
    """A counter does not fall because of a restart, and nothing is counted twice."""
    first = beats(World().beat(processed=0), 2)

    second = World()
    second.fleet.resume(first.fleet.ledgers(), second.clock.now)
    beats(second, 2)

    assert lost(first) == lost(second) == 2


def test_a_worker_that_restarted_while_the_observer_was_away_is_counted_from_its_beginning() -> None:
    """Its pid says so."""
    first = beats(World(), 5)

    second = World()
    second.fleet.resume(first.fleet.ledgers(), second.clock.now)
    for _ in range(4):
        second.clock.advance(2.0)
        second.beat(pid=2, processed=3)

    assert lost(second) == 3


def test_a_start_that_bears_a_later_time_than_the_heartbeat_that_counts_it_is_no_loss() -> None:
    """A thread is interrupted between counting a task and sending its event; the next heartbeat agrees with us."""
    world = World().beat(processed=0)
    for number in range(1, 6):
        world.clock.advance(2.0)
        world.beat(processed=number if number % 2 else number - 1)
        world.say("task-started", uuid=f"task-{number}", ago=-0.001)

    assert lost(world) == 0


def test_heartbeats_without_counts_say_nothing_of_losses() -> None:
    """They answer a broadcast."""
    world = World().beat(processed=0).play("st")
    for _ in range(5):
        world.clock.advance(2.0)
        world.beat(processed=None)

    assert lost(world) == 0


@dataclass
class Worker:
    """A worker that accepts tasks at some times and tells of each a while later, before the heartbeat after next."""

    accepted: list[float]
    delays: list[float]
    drop: list[bool]
    beats: int
    skew: float
    told: list[tuple[float, str, float, int]] = field(default_factory=list)

    def speak(self) -> list[tuple[float, str, float, int]]:
        """All it says, as (when it arrives, what, when it happened by its clock, processed)."""
        heartbeats = [2.0 * number for number in range(self.beats)]
        said = [(at, "beat", at + self.skew, sum(time <= at for time in self.accepted)) for at in heartbeats]
        for time, delay, dropped in zip(self.accepted, self.delays, self.drop, strict=True):
            after_next = 2.0 * (time // 2.0 + 2.0)
            if not dropped:
                said.append((time + delay * (after_next - time) * 0.99, "start", time + self.skew, 0))
        return sorted(said)


@st.composite
def workers(draw: st.DrawFn) -> Worker:
    """Busy and idle ones, honest clocks and wrong ones."""
    count = draw(st.integers(0, 40))
    times = st.floats(0.001, 20.0, allow_nan=False).filter(lambda time: time % 2.0 > 1e-6)
    return Worker(
        accepted=draw(st.lists(times, min_size=count, max_size=count)),
        delays=draw(st.lists(st.floats(0.0, 1.0), min_size=count, max_size=count)),
        drop=draw(st.lists(st.booleans(), min_size=count, max_size=count)),
        beats=16,
        skew=draw(st.sampled_from([0.0, 3600.0, -3600.0, 0.5])),
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow machine is no failure
@given(worker=workers())
def test_every_loss_is_counted_and_nothing_else(worker: Worker) -> None:
    """Under any interleaving of heartbeats and buffered events the number is never too high, and right in the end."""
    world = World()
    happened = 0
    for arrives, what, timestamp, processed in worker.speak():
        world.clock.advance(max(0.0, arrives - world.clock()))
        stamp = world.clock.now.wall - world.clock() + timestamp
        if what == "beat":
            world.beat(processed=processed, timestamp=stamp)
            happened = sum(
                dropped for time, dropped in zip(worker.accepted, worker.drop, strict=True) if time <= arrives
            )
        else:
            world.say("task-started", uuid=str(arrives), timestamp=stamp)
        assert lost(world) <= happened

    assert lost(world) == sum(worker.drop)
