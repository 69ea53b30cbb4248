"""What is known of workers by their answers, question by question, and what of it still holds. Pure.

One question goes out at a time, so answers are of several ages. What a worker *is* holds until it says otherwise: its
slots, queues and limits, also while it is too busy to answer. What is true of a moment holds until the same question is
asked again, of those that answered it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_OF_A_PROCESS = ("conf", "registered", "active_queues", "reserved", "scheduled")
"""What another process under the same name may answer otherwise."""


class Known:
    """Answers by command and worker."""

    def __init__(self) -> None:
        self.workers: set[str] = set()
        self._last: dict[str, dict[str, Any]] = {}
        self._silent: dict[str, set[str]] = {}
        self._at: dict[tuple[str, str], float] = {}

    def take(self, command: str, answers: Mapping[str, Any], asked: Collection[str], at: float) -> None:
        """Take in what was answered to a question that was for the workers `asked`, and those that answered."""
        last = self._last.setdefault(command, {})
        for worker, answer in answers.items():
            before = last.get(worker)
            if command == "stats" and before is not None and before.pid != answer.pid:
                self._forget_process(worker)
            last[worker] = answer
            self._at[command, worker] = at
        self.workers |= answers.keys()
        self._silent[command] = (self._silent.get(command, set()) | set(asked)) - answers.keys()

    def _forget_process(self, worker: str) -> None:
        for command in _OF_A_PROCESS:
            self._last.get(command, {}).pop(worker, None)
            self._at.pop((command, worker), None)

    def keep(self, workers: Collection[str]) -> None:
        """Forget all other workers."""
        self.workers &= set(workers)
        self._last = {
            command: {worker: answer for worker, answer in last.items() if worker in self.workers}
            for command, last in self._last.items()
        }
        self._silent = {command: silent & self.workers for command, silent in self._silent.items()}
        self._at = {key: at for key, at in self._at.items() if key[1] in self.workers}

    def last(self, command: str) -> Mapping[str, Any]:
        """Return what each worker said last, whenever that was."""
        return self._last.get(command, {})

    def now(self, command: str) -> dict[str, Any]:
        """Return what those say that answered when they were asked last."""
        silent = self._silent.get(command, set())
        return {worker: answer for worker, answer in self.last(command).items() if worker not in silent}

    def older(self, command: str, workers: Collection[str], at: float) -> set[str]:
        """Return those of these workers that have not answered a question since a time, or never."""
        return {worker for worker in workers if self._at.get((command, worker), at) <= at}
