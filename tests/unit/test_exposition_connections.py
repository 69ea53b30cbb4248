"""Which connection goes when there are too many."""

from __future__ import annotations

from celery_observe.exposition.connections import Connections


class Peer:
    """A connection that reads its answer, or not."""

    def __init__(self, *, writing: bool = False) -> None:
        self.unread = writing

    def writing(self) -> bool:
        """Tell whether an answer lies unread."""
        return self.unread


def connections(*peers: Peer, limit: int = 3) -> Connections[Peer]:
    """Return connections opened in this order."""
    opened: Connections[Peer] = Connections(limit, unread_timeout=30.0)
    for peer in peers:
        opened.wait(peer)
    return opened


def test_nobody_goes_while_there_is_room() -> None:
    """The limit is what may be open."""
    assert connections(Peer(), Peer()).surplus() is None


def test_the_longest_waiting_goes() -> None:
    """The first that was opened has had the most time for a request."""
    first, second, third = Peer(), Peer(), Peer()

    assert connections(first, second, third).surplus() is first


def test_a_request_moves_a_connection_to_the_end() -> None:
    """Who asks stays."""
    scraper, second, third = Peer(), Peer(), Peer()
    opened = connections(scraper, second, third)

    opened.wait(scraper)

    assert opened.surplus() is second


def test_a_connection_that_reads_its_answer_is_spared() -> None:
    """An idle one misses less."""
    scraper, idle = Peer(writing=True), Peer()

    assert connections(scraper, idle, limit=2).surplus() is idle


def test_when_all_read_the_slowest_goes() -> None:
    """Asking and never reading is no way to keep others out."""
    slowest, other = Peer(writing=True), Peer(writing=True)

    assert connections(slowest, other, limit=2).surplus() is slowest


def test_a_closed_connection_makes_room() -> None:
    """It is forgotten, even twice."""
    first, second = Peer(), Peer()
    opened = connections(first, second, limit=2)

    opened.forget(first)
    opened.forget(first)

    assert opened.surplus() is None
    assert len(opened) == 1


def test_an_answer_may_lie_unread_for_so_long() -> None:
    """The time runs from the first look that found it unread."""
    slow = Peer(writing=True)
    opened = connections(slow, Peer())

    assert opened.stalled(now=100.0) == []
    assert opened.stalled(now=129.9) == []
    assert opened.stalled(now=130.0) == [slow]


def test_the_time_starts_anew_with_each_answer() -> None:
    """A client that has read one answer has the whole time for the next."""
    busy = Peer(writing=True)
    opened = connections(busy)
    opened.stalled(now=100.0)

    opened.wait(busy)

    assert opened.stalled(now=130.0) == []
