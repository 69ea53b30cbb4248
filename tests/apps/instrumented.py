"""The sample app, instrumented. `SAMPLE_INSTRUMENT` is a JSON object of settings for `instrument`."""

from __future__ import annotations

import json
import os

from apps.sample import app
from celery_observe import instrument

instrument(app, **json.loads(os.environ.get("SAMPLE_INSTRUMENT", "{}")))
