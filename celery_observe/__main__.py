"""`python -m celery_observe` is `celery-observe`."""

from __future__ import annotations

from celery_observe.cli import main

if __name__ == "__main__":
    main(prog_name="celery-observe")
