"""Write dashboards/<board>.json from dashboards/src/<board>.py."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

ROOT = Path(__file__).parent.parent
BOARDS = ROOT / "dashboards"


def rendered() -> dict[str, str]:
    """Return the text of each file, by its name."""
    sys.path.append(str(ROOT))  # last, so that `celery_observe` is the one that is installed
    finished = importlib.import_module("dashboards.src.kit.boards").finished
    sources = sorted((BOARDS / "src").glob("*.py"))
    made = {source.stem: importlib.import_module(f"dashboards.src.{source.stem}").board() for source in sources}
    return {
        f"{name}.json": json.dumps(finished(board), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
        for name, board in made.items()
    }


def main() -> None:
    """Write the files, and remove those that have no source any more."""
    texts = rendered()
    for stale in {file.name for file in BOARDS.glob("*.json")} - texts.keys():
        (BOARDS / stale).unlink()
    for name, text in texts.items():
        (BOARDS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
