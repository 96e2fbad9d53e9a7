"""The description of the API without a daemon behind it."""

import datetime as dt
import typing as t

from api.app import build_apps
from api.backend import Backend
from api.openapi import Json, document
from config.listeners import HttpConfig

NOBODY: t.Final[t.Any] = None  # nothing is asked: the routes are only looked at


def describe(version: str) -> Json:
    """What ``GET /schema/openapi.json`` of a daemon of this version answers."""
    backend = Backend(
        fleet=NOBODY,
        storage=NOBODY,
        writer=NOBODY,
        version=version,
        started_at=dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        figures=NOBODY,
    )
    return document(build_apps(backend, HttpConfig()).app)
