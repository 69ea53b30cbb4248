"""The web process."""

from __future__ import annotations

from fastapi import FastAPI
from tasks import place

app = FastAPI()


@app.post("/orders/{number}", status_code=202)
def order(number: int) -> dict[str, str]:
    """Have an order placed, and say as which task. No coroutine: to publish may wait for the broker."""
    return {"task": place.delay(number).id}
