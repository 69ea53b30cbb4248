"""What real workers have sent, as traces."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import pytest

from celery_observe.tracing.conventions import OUTCOME
from celery_observe.tracing.replay import Span
from golden.replay import RECORDINGS, Replay, recordings

NAMES = [str(file.relative_to(RECORDINGS).with_suffix("")) for file in recordings()]
# The end of a header's last task was lost there (https://github.com/celery/celery/issues/10434): the body hangs loose.
LOSSY = {"5.5/threads/chord", "5.6/threads/chord"}

TREES = {
    "chain": """
        publish shop.add
          process shop.add succeeded
            publish shop.add
              process shop.add succeeded
        """,
    "retry": """
        publish shop.fetch
          process shop.fetch retried
            publish shop.fetch
          process shop.fetch succeeded < previous_attempt
        """,
    "replace_chain": """
        publish shop.replace_chain
          process shop.replace_chain ignored
            publish shop.add
              process shop.add succeeded
            publish shop.add
          process shop.add succeeded < previous_attempt
        """,
    "reject_requeue": """
        publish shop.reject
          process shop.reject rejected
          process shop.reject succeeded < previous_attempt
        """,
    "without_task_sent": """
        process shop.add succeeded
        process shop.pay failed
        """,
    "expired": """
        publish shop.add
          discard shop.add expired
        """,
    "unregistered": """
        publish shop.gone
          discard shop.gone unregistered
        """,
}
"""The same in each version, with prefork."""
OF_KILLED = {
    "hard_limit": "publish shop.hard\n  process shop.hard failed",
    "sigkill": "publish shop.sigkill\n  process shop.sigkill failed",
    "revoked_terminate": "publish shop.wait\n  process shop.wait terminated",
    "sigkill_late_ack_reject": """
        publish shop.sigkill_late
          process shop.sigkill_late rejected
          process shop.sigkill_late succeeded < previous_attempt
        """,
}


def spans_of(name: str) -> list[Span]:
    """The spans of a recording, its workers gone."""
    replay = Replay(worker_timeout=20, traces=True).play(RECORDINGS / f"{name}.jsonl").wait(35)
    replay.tracker.finish()
    return replay.spans


def drawn(spans: Iterable[Span]) -> Iterator[str]:
    """Trees as text: each span below its parent, in the order of their starts, with what it is linked to."""
    below = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.start):
        below[span.parent].append(span)
    stack = [(0, span) for span in reversed(below[None])]
    while stack:
        depth, span = stack.pop()
        links = f" < {', '.join(link.why for link in span.links)}" if span.links else ""
        yield f"{'  ' * depth}{span.name} {span.attributes.get(OUTCOME, '')}".rstrip() + links
        stack += [(depth + 1, child) for child in reversed(below[span.id])]


def dedented(text: str) -> list[str]:
    """The lines of a tree as it is written above."""
    lines = [line for line in text.splitlines() if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return [line[margin:] for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_spans_are_whole_trees(name: str) -> None:
    """Each span has an id of its own, a time, and a parent and links that are there; each trace has one root."""
    spans = spans_of(name)

    known = {(span.trace, span.id) for span in spans}
    roots = Counter(span.trace for span in spans if span.parent is None)
    assert len(known) == len(spans)
    assert all(0.0 < span.start <= span.end < 2e9 for span in spans)
    assert all((span.trace, link.span) in known for span in spans for link in span.links)
    loose = [span.name for span in spans if span.parent is not None and (span.trace, span.parent) not in known]
    assert not loose or name in LOSSY
    assert all(count == 1 for count in roots.values())


@pytest.mark.parametrize("version", ["5.5", "5.6", "5.7"])
@pytest.mark.parametrize("scenario", [*TREES, *OF_KILLED])
def test_a_tree_is_what_happened(version: str, scenario: str) -> None:
    """Retries are siblings, what a task publishes is below it, and nothing is missing of what was killed."""
    tree = (TREES | OF_KILLED)[scenario]

    assert list(drawn(spans_of(f"{version}/prefork/{scenario}"))) == dedented(tree)


def test_the_body_of_a_chord_is_below_the_last_of_its_header() -> None:
    """Which published it; events do not say that the others belong to it, nor that a client's header is one."""
    trees = list(drawn(spans_of("5.7/prefork/chord")))

    assert trees[-4:] == dedented("""
        publish shop.add
          process shop.add succeeded
            publish shop.total
              process shop.total succeeded
        """)
    assert trees[:-4] == ["publish shop.add", "  process shop.add succeeded"] * 2
