"""Questions to workers take turns, and each answer holds for as long as it should."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from celery_observe.probes.known import Known
from celery_observe.probes.rota import ROUND, Rota

EVERYTHING = ("a", "b", "c", "x", "y")


def rota() -> Rota:
    """Three places of one question, and one that two share."""
    return Rota(("a",), ("b",), ("c",), ("x", "y"))


def play(told: Rota, turns: int, possible: tuple[str, ...] = EVERYTHING, start: float = 0.0) -> str:
    """The questions of so many turns."""
    asked = []
    for number in range(turns):
        asked.append(told.next(possible))
        told.note(asked[-1], start + number)
    return " ".join(asked)


def test_each_question_has_its_turn() -> None:
    """In their order, those that share a place every other time."""
    assert play(rota(), 12) == "a b c x a b c y a b c x"


def test_what_cannot_be_asked_is_left_out() -> None:
    """Nobody waits for its turn."""
    assert play(rota(), 6, ("a", "c")) == "a c a c a c"
    assert play(rota(), 8, ("a", "b", "c", "y")) == "a b c y a b c y"


def test_what_was_asked_together_goes_last() -> None:
    """At the start all that matters is asked at once; then first what was left out."""
    told = rota()
    for command in "abc":
        told.note(command, -1.0)

    assert play(told, 6) == "x a b c y a"


def test_a_place_that_two_share_takes_no_more_turns_than_one() -> None:
    """So nothing is older than a round, whatever is new in it."""
    told = Rota(("a",), ("b",), ("c",), ("d",), ("e",), ("x", "y", "z"))
    asked = play(told, 60, tuple("abcdexyz")).split()

    for command in "abcde":
        turns = [number for number, each in enumerate(asked) if each == command]
        assert {later - turn for turn, later in pairwise(turns)} == {ROUND}


# -- what is remembered


def stats(pid: int = 1) -> Any:
    """What a process says of itself."""
    return SimpleNamespace(pid=pid)


def test_what_a_worker_said_holds_until_it_does_not_answer() -> None:
    """What it is, holds longer than what was true of that moment."""
    known = Known()
    known.take("reserved", {"a": 3, "b": 4}, (), at=1.0)
    known.take("reserved", {"a": 5}, {"a", "b"}, at=2.0)

    assert (known.now("reserved"), known.last("reserved")) == ({"a": 5}, {"a": 5, "b": 4})

    known.take("reserved", {"b": 6}, {"b"}, at=3.0)

    assert known.now("reserved") == {"a": 5, "b": 6}


def test_one_question_says_nothing_of_another() -> None:
    """A worker that had no time for the one may have had for the other."""
    known = Known()
    known.take("stats", {"a": stats()}, (), at=1.0)
    known.take("reserved", {}, {"a"}, at=2.0)

    assert (list(known.now("stats")), known.now("reserved"), known.now("scheduled")) == (["a"], {}, {})


def test_another_process_may_have_other_settings() -> None:
    """Those of the former are forgotten, and asked for."""
    known = Known()
    known.take("conf", {"a": 4}, (), at=1.0)
    known.take("stats", {"a": stats(pid=1)}, (), at=1.0)
    assert known.older("conf", {"a"}, 0.5) == set()

    known.take("stats", {"a": stats(pid=2)}, (), at=2.0)

    assert known.last("conf") == {}
    assert known.older("conf", {"a"}, 0.5) == {"a"}


def test_who_has_not_answered_for_long_is_known() -> None:
    """Or never."""
    known = Known()
    known.take("conf", {"old": 4}, (), at=1.0)
    known.take("conf", {"new": 4}, (), at=9.0)

    assert known.older("conf", {"old", "new", "never"}, 5.0) == {"old", "never"}


def test_who_is_gone_is_forgotten() -> None:
    """With all that it said."""
    known = Known()
    for command in ("stats", "conf"):
        known.take(command, {"a": stats(), "b": stats()}, (), at=1.0)

    known.keep({"b", "c"})

    assert (known.workers, set(known.last("stats")), set(known.now("conf"))) == ({"b"}, {"b"}, {"b"})
    assert known.older("conf", {"a"}, 0.5) == {"a"}
