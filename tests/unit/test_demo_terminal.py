"""The demo redraws its summary on a terminal, and writes a line now and then elsewhere."""

from __future__ import annotations

import io
import os
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from celery_observe.demo.summary import summarise, table
from celery_observe.demo.terminal import Terminal

SUMMARY = summarise("", "", load=0)


@pytest.fixture
def screen() -> Iterator[tuple[int, TextIO]]:
    """A pseudo-terminal of 60 columns and 12 lines: its outer end, and the stream that a program writes to."""
    outer, inner = os.openpty()
    termios.tcsetwinsize(inner, (12, 60))
    with os.fdopen(outer, "rb"), os.fdopen(inner, "w", encoding="utf-8") as stream:
        yield outer, stream


def shown(screen: tuple[int, TextIO]) -> str:
    """All that was written since the last look: a terminal hands it on in pieces, so a mark tells the last."""
    outer, stream = screen
    stream.write("\x04")
    stream.flush()
    text = b""
    while not text.endswith(b"\x04"):
        text += os.read(outer, 65536)
    return text.decode().removesuffix("\x04")


def test_elsewhere_than_on_a_terminal_a_line_comes_each_five_seconds() -> None:
    """A log is not flooded with a table a second."""
    out = io.StringIO()
    terminal = Terminal(out)

    for elapsed in range(12):
        terminal.show(SUMMARY, float(elapsed))

    assert [line[:5] for line in out.getvalue().splitlines()] == ["  5 s", " 10 s"]


def test_the_end_is_a_table_everywhere() -> None:
    """The last word has all numbers."""
    out = io.StringIO()

    Terminal(out).finish(SUMMARY, 20.0)

    assert "after 20 s" in out.getvalue()
    assert "self-check" in out.getvalue()


def test_on_a_terminal_the_table_is_written_over_the_last_one(screen: tuple[int, TextIO]) -> None:
    """The second drawing goes back to where the first began, and is cut to the screen."""
    terminal = Terminal(screen[1])

    terminal.show(SUMMARY, 1.0)
    first = shown(screen)
    terminal.show(SUMMARY, 2.0)
    second = shown(screen)

    assert first.count("\n") == 11
    assert second.startswith("\x1b[11F2 s")
    assert max(len(line.removesuffix("\x1b[K\r")) for line in first.split("\n")) < 60


def test_the_end_is_not_cut_on_a_small_terminal(screen: tuple[int, TextIO]) -> None:
    """Its last line says whether all tasks are accounted for."""
    terminal = Terminal(screen[1])

    terminal.show(SUMMARY, 1.0)
    shown(screen)
    terminal.finish(SUMMARY, 2.0)
    end = shown(screen)

    assert end.startswith("\x1b[11Fafter 2 s")
    assert all(line in end for line in table(SUMMARY))
