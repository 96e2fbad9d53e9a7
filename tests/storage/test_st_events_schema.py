"""Real events, of all types, validate against the schema that is published."""

import datetime as dt
import json
import typing as t
from pathlib import Path

import jsonschema
import pytest
import test_st_alerts as alerts
import test_st_events as stories
from st_helpers import Clock

from actors.event_services import IncidentTeller
from actors.incidents import Incident
from actors.webhook_post import envelope
from config.events import EVENT_TYPES as CONFIGURABLE
from storage.api import Storage
from storage.events import EVENT_TYPES

SCHEMA: t.Final = json.loads(
    (Path(__file__).parents[2] / "docs" / "events.schema.json").read_text()
)
VALIDATOR: t.Final = jsonschema.Draft202012Validator(SCHEMA)

STORIES: t.Final = (
    stories.test_a_message_opens_a_conversation,
    stories.test_placeholders,
    stories.test_edits_and_deletions_name_what_they_change,
    stories.test_an_encrypted_edit_is_told_when_it_is_opened,
    stories.test_two_that_are_one,
    stories.test_transitions_and_runs,
    stories.test_gaps,
    stories.test_the_outbox,
    stories.test_the_quarantine,
    alerts.test_a_change_commits_with_what_is_told_and_its_event,
    alerts.test_an_older_step_changes_nothing,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_events_validate(storage: Storage, story: t.Any) -> None:
    """Whatever happened in the other tests."""
    await story(storage)
    found = await stories.events(storage)
    assert found
    for event in found:
        VALIDATOR.validate(envelope(event))


async def test_status_events_validate(storage: Storage, clock: Clock) -> None:
    """Those of conversations that are closed and reopened."""
    await stories.test_status_of_conversations(storage, clock)
    for event in await stories.events(storage):
        VALIDATOR.validate(envelope(event))


async def test_incidents_are_told(storage: Storage) -> None:
    """Each begin and end once, also when one follows another at once."""
    now: list[Incident] = []
    teller = IncidentTeller(storage, lambda: now)

    async def look() -> None:
        teller._look()
        while teller._untold:
            type_, data = teller._untold.pop(0)
            await storage.append_event(type_, None, data)

    since = dt.datetime(2027, 1, 15, 8, tzinfo=dt.UTC)
    first = Incident(code="outage", since=since, sentence="all are away", connections=3)
    second = Incident(
        code="outage", since=since + dt.timedelta(hours=1), sentence="again", connections=2
    )
    for incidents in ([], [first], [first], [second], []):
        now[:] = incidents
        await look()
    found = await stories.events(storage)
    assert [(event.type, event.data["sentence"]) for event in found] == [
        ("incident.begun", "all are away"),
        ("incident.ended", "all are away"),
        ("incident.begun", "again"),
        ("incident.ended", "again"),
    ]
    for event in found:
        VALIDATOR.validate(envelope(event))


def test_the_schema_knows_every_type() -> None:
    """And so do the configuration and the documentation."""
    known: list[str] = []
    for each in SCHEMA["oneOf"]:
        kind = each["properties"]["type"]
        known += kind.get("enum", [kind.get("const")])
    assert sorted(known) == sorted(EVENT_TYPES) == sorted(CONFIGURABLE)
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    assert [name for name in EVENT_TYPES if f"`{name}`" not in text] == []
