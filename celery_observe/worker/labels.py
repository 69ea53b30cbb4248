"""The user's callable, which labels the attempts that are executed here.

It is called with the task as each attempt begins, and ``task.request`` is that of the attempt. What it reads there is
the user's decision: we tell what it returns for the names in ``label_names``, and no more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


class Labeller:
    """Calls it, in workers only."""

    def __init__(self) -> None:
        self.given: Callable[[Any], Mapping[str, Any] | None] | None = None
        self.names: tuple[str, ...] = ()
        self.is_wanted = False

    def settle(self, names: tuple[str, ...]) -> None:
        """Label attempts from now on, if there is a callable and names for what it returns."""
        self.names = names
        self.is_wanted = callable(self.given) and bool(names)
        if self.given is not None and not self.is_wanted:
            log.error("no task is labelled: instrument() needs labels=CALLABLE and label_names=[NAME, ...]")

    def labels_of(self, task: Any) -> dict[str, str]:
        """Return what the callable says. Raises whatever it raises."""
        said = (self.given(task) if self.given is not None else None) or {}
        return {name: str(said[name]) for name in self.names if said.get(name) is not None}


labeller = Labeller()
"""The one of this process and its children."""
