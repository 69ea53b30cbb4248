"""How much memory processes are resident with now. Linux alone tells (proc(5)); nowhere else anything is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_memory(pid: int) -> int | None:
    """Return the bytes that a process is resident with; None if it is gone, or the platform does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return None


def resident_memory_of_all(pids: Iterable[int]) -> int | None:
    """Return the bytes of all that are not gone together, pages that they share counted each time; None of none."""
    found = [memory for memory in map(resident_memory, pids) if memory is not None]
    return sum(found) if found else None
