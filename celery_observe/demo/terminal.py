"""Where the summary is shown: redrawn in place on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
from typing import TextIO

from celery_observe.demo.summary import Summary, status, table

_LINES_EVERY = 5.0


class Terminal:
    """Shows a summary as often as it is told to; on something else than a terminal, a line each 5 s."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.live = out.isatty()
        """Whether somebody reads it while it is written."""
        self._drawn = 0
        self._next_line = _LINES_EVERY

    def say(self, text: str) -> None:
        """Print a text that stays."""
        self._out.write(f"{text}\n")
        self._out.flush()

    def show(self, summary: Summary, elapsed: float) -> None:
        """Show how things stand `elapsed` seconds into the run."""
        if self.live:
            self._draw([f"{elapsed:.0f} s", *table(summary)])
        elif elapsed >= self._next_line:
            self._next_line += _LINES_EVERY
            self.say(f"{elapsed:3.0f} s  {status(summary)}")

    def finish(self, summary: Summary, elapsed: float) -> None:
        """Show how things stood in the end: all of it, which is not written over and may scroll."""
        lines = [f"after {elapsed:.0f} s", *table(summary)]
        if self.live:
            self._write_over(lines)
        else:
            self.say("\n".join(["", *lines]))

    def _draw(self, lines: list[str]) -> None:
        """Write over what was drawn before, cut, not to scroll."""
        size = os.get_terminal_size(self._out.fileno())
        self._write_over([line[: size.columns - 1] for line in lines[: size.lines - 1]])

    def _write_over(self, lines: list[str]) -> None:
        """Write over what was drawn before; at once, not to flicker."""
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._out.write(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = len(lines)
