"""A ratio of all traces is kept, and those in which something failed or was slow, from their beginning."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from celery_observe.fact import AttemptId, Outcome, Replayed, Traced
from celery_observe.tracing.conventions import trace_id_of
from celery_observe.tracing.replay_sampling import Sampler, Sampling

PLAIN = Traced(
    task="t",
    queue="q",
    worker="w@h",
    attempt=AttemptId("a"),
    root="a",
    outcome=Outcome.SUCCEEDED,
    published=None,
    eta=None,
    received=1.0,
    started=1.0,
    ended=2.0,
    estimated=False,
    runtime=1.0,
    queue_wait=None,
    worker_wait=0.0,
    redelivered=False,
    first=False,
    parent=None,
    previous=None,
    exception=None,
    cause=None,
    frames=None,
)


def attempt(uuid: str = "a", root: str = "a", **fields: Any) -> Traced:
    """An attempt that is worth no trace unless told otherwise."""
    return msgspec.structs.replace(PLAIN, attempt=AttemptId(uuid), root=root, **fields)


class Taken:
    """A sampler of no ratio, what it let through and what it lost."""

    def __init__(self, *, ratio: float = 0.0, slow: float = 10.0, **bounds: Any) -> None:
        self.lost: Counter[Replayed] = Counter()
        self.sampler = Sampler(Sampling(ratio, slow), lambda why, count: self.lost.update({why: count}), **bounds)
        self.through: list[str] = []

    def take(self, *attempts: Traced, now: float = 0.0) -> list[str]:
        """Hand attempts over and return the ids of those that came through."""
        found = [each.attempt.uuid for one in attempts for each in self.sampler.take(one, now)]
        self.through += found
        return found


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.25, 1.0])
def test_the_ratio_is_that_of_opentelemetry(ratio: float) -> None:
    """A collector or a worker that samples by the same ratio chooses the same traces."""
    theirs, ours = TraceIdRatioBased(ratio), Sampling(ratio)
    traces = [trace_id_of(str(number)) for number in range(3000)]

    chosen = [ours.has(trace) for trace in traces]

    decisions = [theirs.should_sample(None, trace, "t").decision is Decision.RECORD_AND_SAMPLE for trace in traces]
    assert chosen == decisions
    assert abs(sum(chosen) / 3000 - ratio) < 0.03


def test_what_is_in_the_ratio_passes_at_once() -> None:
    """Nothing is held."""
    taken = Taken(ratio=1.0)

    assert taken.take(attempt(), attempt("b", "b")) == ["a", "b"]
    assert len(taken.sampler) == 0


@pytest.mark.parametrize(
    "notable",
    [
        {"outcome": Outcome.FAILED},
        {"outcome": Outcome.VANISHED},
        {"outcome": Outcome.TERMINATED},
        {"outcome": Outcome.EXPIRED},
        {"outcome": Outcome.UNREGISTERED},
        {"runtime": 10.0},
        {"queue_wait": 11.0},
    ],
)
def test_a_trace_is_kept_whole_if_one_of_it_failed_or_was_slow(notable: dict[str, Any]) -> None:
    """What came before is let through with it, what comes after at once."""
    taken = Taken()
    assert taken.take(attempt(), attempt("b"), attempt("x", "other")) == []

    assert taken.take(attempt("c", **notable)) == ["a", "b", "c"]
    assert taken.take(attempt("d")) == ["d"]
    assert len(taken.sampler) == 1


@pytest.mark.parametrize("outcome", [Outcome.RETRIED, Outcome.IGNORED, Outcome.SUCCEEDED])
def test_other_outcomes_are_no_reason(outcome: Outcome) -> None:
    """A task that is retried may still succeed."""
    assert Taken().take(attempt(outcome=outcome, runtime=None)) == []


def test_what_is_held_is_bounded_and_what_is_over_goes_first() -> None:
    """A trace of which something came lately could still fail: that it was let go of is told apart."""
    taken = Taken(most=3, quiet=10.0)
    taken.take(attempt("a", "a"), attempt("b", "b"), now=0.0)
    taken.take(attempt("a2", "a"), now=5.0)

    taken.take(attempt("c", "c"), now=12.0)
    assert taken.lost == {Replayed.SAMPLED_OUT: 1}
    taken.take(attempt("d", "d"), now=13.0)
    assert taken.lost == {Replayed.SAMPLED_OUT: 1, Replayed.HELD_FULL: 2}
    assert len(taken.sampler) == 2


def test_one_trace_alone_may_be_too_large() -> None:
    """Then it is let go of as a whole."""
    taken = Taken(most=3)

    taken.take(*(attempt(str(number)) for number in range(4)))

    assert (len(taken.sampler), taken.lost) == (0, {Replayed.HELD_FULL: 4})


def test_traces_that_are_kept_are_remembered_within_bounds() -> None:
    """The one that was heard of longest ago is forgotten."""
    taken = Taken(most=2)
    for root in ("a", "b"):
        taken.take(attempt(root, root, outcome=Outcome.FAILED))
    taken.take(attempt("a2", "a"))

    taken.take(attempt("c", "c", outcome=Outcome.FAILED))

    assert taken.take(attempt("a3", "a")) == ["a3"]
    assert taken.take(attempt("b2", "b")) == []


def test_at_the_end_what_is_held_is_out_of_the_sample() -> None:
    """Every attempt is counted once."""
    taken = Taken()
    taken.take(attempt(), attempt("b", "b"))

    taken.sampler.forget()

    assert (len(taken.sampler), taken.lost) == (0, {Replayed.SAMPLED_OUT: 2})
