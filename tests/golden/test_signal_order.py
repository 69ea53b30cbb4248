"""The order in which Celery sends signals, as recorded from each pool, is that which our handlers rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from celery import signals

from celery_observe.worker import instrumentation
from golden.replay import RECORDINGS

FILES = sorted(RECORDINGS.glob("*/signals-*.json"))
UNUSED = {"task_success", "task_internal_error"}
"""Signals that were watched and are not needed: what they tell, task_postrun tells too."""
NEVER_STARTED = ("unregistered", "expired", "revoked")
BEGUN_AND_ENDED = {
    "success": ["SUCCESS"],
    "failure": ["FAILURE"],
    "retry": ["RETRY", "SUCCESS"],
    "retries_exhausted": ["RETRY", "FAILURE"],
    "ignore": ["IGNORED"],
    "replace": ["IGNORED", "SUCCESS"],
    "reject": ["REJECTED"],
    "reject_requeue": ["REJECTED", "SUCCESS"],
    "result_not_encodable": ["FAILURE"],
}
"""What happens → the states that task_postrun names."""


class Told(NamedTuple):
    """One signal: `task_postrun[SUCCESS]@child`."""

    name: str
    remark: str
    where: str


class Recording:
    """The signals of one pool of one Celery."""

    def __init__(self, file: Path) -> None:
        told = json.loads(file.read_text())
        self.version: tuple[int, ...] = tuple(int(number) for number in told["celery"].split(".")[:2])
        self.pool: str = told["pool"]
        self.where = "child" if self.pool == "prefork" else "main"
        self.plays: dict[str, list[Told]] = {
            name: [self._told(line) for line in lines] for name, lines in told["plays"].items()
        }

    @staticmethod
    def _told(line: str) -> Told:
        signal, _, where = line.partition("@")
        name, _, remark = signal.rstrip("]").partition("[")
        return Told(name, remark, where)

    def names(self, play: str) -> list[str]:
        """The names of the signals of a play."""
        return [told.name for told in self.plays[play]]

    def remarks(self, play: str, name: str, where: str = "") -> list[str]:
        """What a signal says in a play, each time that it is sent; there, if it matters where."""
        return [told.remark for told in self.plays[play] if told.name == name and where in {"", told.where}]


@pytest.fixture(params=FILES, ids=lambda file: f"{file.parent.name}-{file.stem.partition('-')[2]}")
def recording(request: pytest.FixtureRequest) -> Recording:
    """Each in turn."""
    return Recording(request.param)


def test_each_pool_of_each_celery_is_recorded() -> None:
    """None was forgotten."""
    versions, pools = ("5.5", "5.6", "5.7"), ("eventlet", "gevent", "prefork", "solo", "threads")

    assert [(file.parent.name, file.stem) for file in FILES] == [
        (version, f"signals-{pool}") for version in versions for pool in pools
    ]


def test_what_is_sent_is_handled(recording: Recording) -> None:
    """Or not needed."""
    handled = {signal.name for signal, _ in instrumentation._RECEIVERS}  # noqa: SLF001 - all that we receive

    told = {told.name for play in recording.plays.values() for told in play}
    assert told <= handled | UNUSED | {signals.task_received.name}  # of which we wrap what sends it


@pytest.mark.parametrize("play", BEGUN_AND_ENDED)
def test_what_begins_ends_where_it_began(recording: Recording, play: str) -> None:
    """Each task_prerun is followed by its task_postrun, in the same process, which names the state."""
    own = [told for told in recording.plays[play] if told.name in {"task_prerun", "task_postrun"}]

    assert [(told.name, told.where) for told in own] == [
        ("task_prerun", recording.where),
        ("task_postrun", recording.where),
    ] * len(BEGUN_AND_ENDED[play])
    assert recording.remarks(play, "task_postrun") == BEGUN_AND_ENDED[play]


@pytest.mark.parametrize("play", ["failure", "retries_exhausted", "result_not_encodable"])
def test_the_cause_is_told_while_a_task_executes(recording: Recording, play: str) -> None:
    """task_failure is sent between task_prerun and task_postrun, there too."""
    names = recording.names(play)
    last = len(names) - 1 - names[::-1].index("task_failure")

    assert names[last + 1] == "task_postrun"
    assert "task_prerun" in names[:last]
    assert len(recording.remarks(play, "task_failure", recording.where)) == names.count("task_failure") == 1


@pytest.mark.parametrize("play", ["retry", "retries_exhausted"])
def test_a_retry_is_told_while_a_task_executes(recording: Recording, play: str) -> None:
    """After the next attempt was published, and it may have been received by then."""
    names = recording.names(play)

    assert names.index("task_prerun") < names.index("before_task_publish") < names.index("task_retry")
    assert names[names.index("task_retry") + 1 :].index("task_postrun") < 2


@pytest.mark.parametrize("play", NEVER_STARTED)
def test_what_never_starts_is_told_of_by_the_main_process(recording: Recording, play: str) -> None:
    """Once, and nothing is told of an execution."""
    ended = [told for told in recording.plays[play] if told.name in {"task_unknown", "task_revoked"}]

    assert [told.where for told in ended] == ["main"]
    assert not {"task_prerun", "task_postrun"} & set(recording.names(play))


@pytest.mark.parametrize("play", [*BEGUN_AND_ENDED, "revoked"])
def test_a_message_is_received_before_it_is_executed(recording: Recording, play: str) -> None:
    """By the main process; as often as it is delivered."""
    names = recording.names(play)

    received = [index for index, name in enumerate(names) if name == "task_received"]
    begun = [index for index, name in enumerate(names) if name == "task_prerun"]
    assert all(one < other for one, other in zip(received, begun, strict=False))
    assert len(begun) <= len(received)


def test_who_was_interrupted_does_not_know_the_state(recording: Recording) -> None:
    """Terminated or past a hard limit, task_postrun says None, if it is sent; the main process knows."""
    for play, name in (("terminated", "task_revoked"), ("hard_limit", "task_failure")):
        if play not in recording.plays or (play, recording.pool) == ("hard_limit", "eventlet"):
            continue  # eventlet enforces no limit
        assert set(recording.remarks(play, "task_postrun")) <= {"None"}
        untold = play == "hard_limit" and recording.pool == "gevent" and recording.version < (5, 7)
        assert set(recording.remarks(play, name, "main")) == (
            set() if untold else {"terminated" if play == "terminated" else "TimeLimitExceeded"}
        )


def test_a_rejection_may_be_told_as_a_failure_afterwards(recording: Recording) -> None:
    """By Celery 5.7, from the main process and with the class Reject, by which it is known."""
    expected = ["Reject"] if recording.version >= (5, 7) else []

    assert (
        recording.remarks("reject", "task_failure") == recording.remarks("reject", "task_failure", "main") == expected
    )
    assert recording.names("reject")[-1] == ("task_failure" if expected else "task_postrun")


@pytest.mark.parametrize("file", [file for file in FILES if "prefork" in file.name], ids=lambda file: file.parent.name)
def test_a_lost_child_says_nothing_more(file: Path) -> None:
    """No task_postrun; the main process tells, unless the message goes back to the queue."""
    recording = Recording(file)

    assert recording.names("lost_child") == ["task_received", "task_prerun", "task_failure"]
    assert recording.remarks("lost_child", "task_failure", "main") == ["WorkerLostError"]
    assert recording.names("lost_child_requeue")[:4] == ["task_received", "task_prerun"] * 2
    assert recording.remarks("soft_limit", "task_failure", "child") == ["SoftTimeLimitExceeded"]
