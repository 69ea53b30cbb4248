"""Reports on the wire."""

from __future__ import annotations

import msgspec
import pytest

from celery_observe.event import Malformed
from celery_observe.fact import Outcome
from celery_observe.report import (
    AnyReport,
    Beat,
    Execution,
    Labelling,
    Loss,
    Progress,
    Running,
    Success,
    decode,
    decode_all,
    encode,
    whole,
)

pack = msgspec.msgpack.encode
LOST = ["lost", 1, "w@h"]


def test_a_report_comes_back_as_it_was() -> None:
    """Several travel in one datagram."""
    sent: list[AnyReport] = [
        Execution(1.0, "w@h", "a", "t", Outcome.FAILED, exception="ValueError", retries=2),
        Success(1.0, "w@h", "b", "t", "q", 0.5, 0.4, 0.1, 0.2),
        Loss(2.0, "w@h", dropped=3),
        Beat(3.0, "w@h", pid=7, active=1, processed=9, queues=["q"], exits={"sigkill": 1}),
    ]

    assert decode(encode(sent), print) == sent


def test_what_is_not_said_takes_no_room() -> None:
    """A report of a plain success fits a small datagram."""
    body = encode([Success(1.0, "w@h", "a", "t", "q", 0.5, 0.4, None, None)])

    assert msgspec.msgpack.decode(body) == [["succeeded", 1.0, "w@h", "a", "t", "q", 0.5, 0.4, None, None]]
    assert len(body) < 60


def test_a_plain_success_is_an_execution_that_says_nothing_else() -> None:
    """By all its fields."""
    success = Success(1.0, "w@h", "a", "t", "q", 0.5, 0.4, 0.1, 0.2)
    execution = Execution(
        1.0, "w@h", "a", "t", Outcome.SUCCEEDED, "q", started=0.5, runtime=0.4, published=0.1, received=0.2
    )

    assert whole(success) == execution
    assert whole(execution) is execution


def test_fields_of_a_newer_version_are_skipped() -> None:
    """A sidecar may be older than the workers beside it."""
    body = pack([[*LOST, 1, 0, "red"]])

    assert decode(body, print) == [Loss(1.0, "w@h", 1)]


def test_all_that_can_be_read_is_read() -> None:
    """One datagram that cannot does not take others with it."""
    reasons: list[Malformed] = []
    bodies = [pack([LOST, [*LOST, 2]]), b"", pack([LOST])[:-1], pack([[*LOST, 3]]), b"\xdd\xff"]

    found = [report.dropped for report in decode_all(bodies, reasons.append) if isinstance(report, Loss)]

    assert (found, reasons) == ([0, 2, 3], [Malformed.NOT_MESSAGEPACK] * 3)
    assert [*decode_all(bodies[:1] * 70_000, print)] == [*decode_all(bodies[:1], print)] * 70_000
    assert [*decode_all([], print)] == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Malformed.NOT_MESSAGEPACK),
        (b'[{"type":"lost","timestamp":1,"hostname":"w@h"}]', Malformed.WRONG_TYPE),
        (b"\xc1", Malformed.NOT_MESSAGEPACK),
        (pack([LOST])[:-1], Malformed.NOT_MESSAGEPACK),
        (pack([LOST]) + b"\xc0", Malformed.NOT_MESSAGEPACK),
        (b"\x91" * 100_000, Malformed.WRONG_TYPE),
        (pack([["lost", 1]]), Malformed.WRONG_TYPE),
        (pack([["unheard-of", 1, "w@h"]]), Malformed.WRONG_TYPE),
        (pack([LOST]).replace(b"w@h", b"w@\xff"), Malformed.NOT_UTF8),
        (pack(LOST), Malformed.WRONG_TYPE),
        (pack([["lost", 1, "w" * 600]]), Malformed.TOO_LARGE),
    ],
)
def test_what_is_no_report_is_counted(body: bytes, reason: Malformed) -> None:
    """By what is wrong with it."""
    reasons: list[Malformed] = []

    assert (decode(body, reasons.append), reasons) == ([], [reason])


def test_reports_have_no_field_for_secrets() -> None:
    """Arguments, results and texts cannot be told, not even by mistake."""
    kinds = Execution, Running, Progress, Labelling
    told = {field for kind in kinds for field in kind.__struct_fields__}

    assert not told & {"meta", "args", "kwargs", "argsrepr", "kwargsrepr", "result", "retval", "traceback", "message"}
