"""Loans with Django, in one file: `python -m examples.web.django_app runserver`, with a database in `DATABASE_URL`."""

# mypy: disable-error-code="misc,untyped-decorator"
# Django has no types of its own.

from __future__ import annotations

import atexit
import os
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings

url = urlsplit(os.environ.get("DATABASE_URL", "postgresql://localhost/loans"))
database = {"NAME": url.path[1:], "HOST": url.hostname or "", "PORT": url.port or "", "USER": url.username or ""}
settings.configure(
    SECRET_KEY="of no use: nothing is signed here",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "PASSWORD": url.password or "", **database}},
)
django.setup()

from django.core.management import execute_from_command_line  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from examples.web.app import bus  # noqa: E402
from examples.web.loans import ApplyForLoan  # noqa: E402
from sagabus.errors import RequestTimeoutError  # noqa: E402
from sagabus.outbox import PostgresOutbox  # noqa: E402

outbox = PostgresOutbox(bus)
atexit.register(bus.close)


class Application(models.Model):
    number = models.TextField(primary_key=True)
    customer = models.TextField()

    class Meta:
        app_label = "loans"
        db_table = "applications"


def register(request: HttpRequest) -> JsonResponse:
    """Write a row and the message that tells of it: both, or neither."""
    number, customer = request.POST["number"], request.POST["customer"]
    with transaction.atomic():
        Application.objects.create(number=number, customer=customer)
        outbox.send(connection, ApplyForLoan(number, customer), to="loans")
    return JsonResponse({"number": number}, status=202)


def register_and_hope(request: HttpRequest) -> JsonResponse:
    """Write a row, and send when that has committed. Who dies in between, or finds the broker down, has not sent."""
    number, customer = request.POST["number"], request.POST["customer"]
    with transaction.atomic():
        Application.objects.create(number=number, customer=customer)
        transaction.on_commit(lambda: bus.send(ApplyForLoan(number, customer), to="loans"))
    return JsonResponse({"number": number}, status=202)


def decide(request: HttpRequest) -> JsonResponse:
    """Start a saga and wait for what it tells its starter."""
    try:
        decided = bus.ask(ApplyForLoan(request.POST["number"], request.POST["customer"]), to="loans", timeout=10)
    except RequestTimeoutError:
        return JsonResponse({"problem": "no decision yet"}, status=504)
    return JsonResponse({"granted": decided.granted})


async def decide_async(request: HttpRequest) -> JsonResponse:
    """The same under ASGI: no thread waits."""
    number, customer = request.POST["number"], request.POST["customer"]
    decided = await bus.request(ApplyForLoan(number, customer), to="loans", timeout=10)
    return JsonResponse({"granted": decided.granted})


urlpatterns = [
    path("applications", register),
    path("applications/hopeful", register_and_hope),
    path("loans/decision", decide),
    path("loans/decision/async", decide_async),
]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
