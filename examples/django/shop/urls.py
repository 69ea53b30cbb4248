"""The pages."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path
from orders.tasks import place


def order(_: HttpRequest, number: int) -> JsonResponse:
    """Have an order placed, and say as which task."""
    return JsonResponse({"task": place.delay(number).id})


urlpatterns = [path("orders/<int:number>", order)]
