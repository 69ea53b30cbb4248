"""Outlives the demo by a moment, to leave nothing of it behind however it died, SIGKILL included.

A script of the standard library alone, run with the demo's temporary folder as its argument and a pipe from
the demo as its input. It leads the process group that all children of the demo are in. The system closes
the pipe when the demo is gone; unlike Linux's parent-death signal, that holds on every POSIX system, and
the group has the grandchildren too.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys


def main(folder: str) -> None:
    """Wait for the end of standard input, then remove the folder and kill the group, this process with it."""
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
