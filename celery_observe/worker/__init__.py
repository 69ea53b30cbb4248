"""What runs inside users' processes: a guest, which never raises, never blocks, and keeps no arguments.

Importing this package instruments the process: ``imports = ["celery_observe.worker"]`` in the app's configuration is
all it takes. ``celery_observe.instrument`` does the same with settings.
"""

from __future__ import annotations

from celery_observe.worker.instrumentation import instrument

instrument()
