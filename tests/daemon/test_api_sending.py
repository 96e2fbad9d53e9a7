"""Sending over the control socket: what is queued, refused, followed, and sent again."""

import typing as t

import httpx
import pytest
from daemon_fakes import ANA, GROUP, NOON, Control, open_control, problem

from storage.api import ChatKind
from storage.facts import OutboxStep

SALES = "/connections/sales"
TEXT = {"to": "+55 (11) 99999-0001", "text": "olá"}


async def send(client: httpx.AsyncClient, body: t.Any, key: str = "k1") -> httpx.Response:
    """Ask for a message."""
    return await client.post(f"{SALES}/messages", json=body, headers={"Idempotency-Key": key})


def step(number: int, state: str, **fields: t.Any) -> OutboxStep:
    """A step of the sender."""
    return OutboxStep(id=number, state=state, at=NOON.timestamp(), **fields)


async def test_a_message_is_queued(client: httpx.AsyncClient, control: Control) -> None:
    """202 with its row; whoever sends is told; a phone number may be written as people do."""
    answer = await send(client, TEXT)
    assert answer.status_code == 202
    row = answer.json()
    assert (row["state"], row["kind"], row["chat"], row["key"]) == ("queued", "text", ANA, "k1")
    assert (row["connection"], row["body"]) == ("sales", {"text": "olá"})
    assert row["external_id"] == "3EB0sales1"
    assert row["created_at"] == "2026-03-01T12:00:00Z"
    assert control.actions.asked == [("outbox", "sales")]
    assert (await client.get(f"/outbox/{row['id']}")).json() == row


async def test_a_key_is_one_message(client: httpx.AsyncClient, control: Control) -> None:
    """200 and the first row for the same request; 409 for another one; without a key each is
    a message of its own."""
    first = (await send(client, TEXT)).json()
    again = await send(client, {"to": ANA, "kind": "text", "text": "olá"})
    assert (again.status_code, again.json()) == (200, first)
    other = await send(client, TEXT | {"text": "tchau"})
    assert other.status_code == 409
    assert "used for another request" in problem(other)["detail"]
    keys = [(await client.post(f"{SALES}/messages", json=TEXT)).json()["key"] for _ in range(2)]
    assert len({*keys, "k1"}) == 3
    assert len((await client.get("/outbox")).json()) == 3
    assert control.actions.asked == [("outbox", "sales")] * 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "olá"}, "to must be text"),
        ({"to": 5, "text": "olá"}, "to must be text"),
        ({"to": "12", "text": "olá"}, "is no address"),
        ({"to": "Ana", "text": "olá"}, "is no address"),
        ({"to": "0011999990001", "text": "olá"}, "country code"),
        ({"to": "status@broadcast", "text": "olá"}, "neither a person nor a group"),
        ({"to": "@s.whatsapp.net", "text": "olá"}, "neither a person nor a group"),
        ({"to": "a:b@s.whatsapp.net", "text": "olá"}, "is no address"),
        (TEXT | {"kind": "telegram"}, "'telegram'"),
        (TEXT | {"kind": 7}, "kind must be text"),
        ({"to": ANA}, "text"),
        (TEXT | {"text": ""}, "text"),
        (TEXT | {"text": 5}, "text"),
        (TEXT | {"odd": 1}, "odd"),
        (TEXT | {"kind": "reply"}, "quoted"),
        (TEXT | {"quoted": 999}, "sales has no message 999"),
        (TEXT | {"quoted": -1}, "sales has no message -1"),
        (TEXT | {"quoted": 2**70}, "sales has no message"),
        (TEXT | {"mentions": ["nobody"]}, "is no address"),
        (TEXT | {"mentions": [1]}, "mentions must be text"),
        ({"to": ANA, "kind": "image", "file": "xyz"}, "SHA-256"),
        ({"to": ANA, "kind": "image", "file": "00" * 32}, "POST /media"),
        ({"to": ANA, "kind": "document"}, "file"),
    ],
)
async def test_requests_that_cannot_be_sent(
    client: httpx.AsyncClient, body: dict[str, t.Any], words: str
) -> None:
    """422 that names the field and what is wrong with it; nothing is queued."""
    answer = await send(client, body)
    found = problem(answer)
    assert (found["status"], found["type"]) == (422, "urn:zapvisor:bad-request")
    assert words in found["detail"]
    assert (await client.get("/outbox")).json() == []


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"{", b'"x"', b"\xff"])
async def test_bodies_that_are_no_object(client: httpx.AsyncClient, content: bytes) -> None:
    """A problem, whatever is sent."""
    headers = {"content-type": "application/json"}
    answer = await client.post(f"{SALES}/messages", content=content, headers=headers)
    assert answer.status_code in (400, 422)
    problem(answer)


async def test_references_by_number(client: httpx.AsyncClient, control: Control) -> None:
    """A message of the inbox is named by its number here, and its chat is where it goes."""
    ana, ours = control.storage.numbers["ANA1"], control.storage.numbers["TEAM1"]
    rows = [
        (await send(client, body, f"k{index}")).json()
        for index, body in enumerate(
            [
                {"kind": "reply", "text": "oi", "quoted": ana},
                {"kind": "reaction", "target": ana, "emoji": "👍"},
                {"kind": "edit", "target": ours, "text": "olá!"},
                {"kind": "revoke", "target": ours},
                {"kind": "reply", "to": GROUP, "text": "oi", "quoted": "GRP1"},
                {"to": GROUP, "text": "@5511999990001", "mentions": ["+55 11 99999-0001"]},
            ]
        )
    ]
    assert [row["chat"] for row in rows] == [ANA] * 4 + [GROUP] * 2
    assert [row["body"] for row in rows] == [
        {"text": "oi", "quoted": "ANA1"},
        {"target": "ANA1", "emoji": "👍"},
        {"target": "TEAM1", "text": "olá!"},
        {"target": "TEAM1"},
        {"text": "oi", "quoted": "GRP1"},
        {"text": "@5511999990001", "mentions": [ANA]},
    ]
    other = await client.post("/connections/support/messages", json={"text": "x", "quoted": ana})
    assert f"support has no message {ana}" in problem(other)["detail"]


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"kind": "image"}, "image"),
        ({"kind": "sticker"}, "sticker"),
        ({"kind": "media"}, "document"),
        ({"kind": "media", "mimetype": "image/jpeg"}, "image"),
        ({"kind": "media", "mimetype": "image/gif"}, "document"),
        ({"kind": "media", "mimetype": "video/mp4"}, "video"),
        ({"kind": "media", "mimetype": "audio/ogg"}, "audio"),
        ({"kind": "media", "mimetype": "text/html"}, "document"),
    ],
)
async def test_files(
    client: httpx.AsyncClient, control: Control, asked: dict[str, str], kind: str
) -> None:
    """A file is uploaded first and named by its hash; its type may decide what it is sent as."""
    uploaded = await client.post("/media", content=b"a photo")
    assert uploaded.status_code == 201
    sha256 = uploaded.json()["sha256"]
    row = (
        await send(client, {"to": ANA, "file": sha256.upper(), "caption": "praia", **asked})
    ).json()
    assert row["kind"] == "media"
    assert (row["body"]["file"], row["body"]["kind"]) == (sha256, kind)


async def test_what_became_of_it(client: httpx.AsyncClient, control: Control) -> None:
    """Lists by state and connection, page by page; a failure has its reason."""
    ids = [(await send(client, TEXT, f"k{number}")).json()["id"] for number in range(3)]
    await client.post("/connections/support/messages", json=TEXT)
    await control.storage.take(step(ids[0], "failed", reason="not on WhatsApp"))
    assert [row["id"] for row in (await client.get(f"{SALES}/outbox")).json()] == ids[::-1]
    assert len((await client.get("/outbox?limit=200")).json()) == 4
    [failed] = (await client.get("/outbox?state=failed")).json()
    assert (failed["id"], failed["reason"]) == (ids[0], "not on WhatsApp")
    page = (await client.get(f"{SALES}/outbox?before={ids[2]}&limit=1&state=queued")).json()
    assert [row["id"] for row in page] == [ids[1]]
    for query in ("state=odd", "before=-1", "before=x", "limit=0"):
        problem(await client.get(f"/outbox?{query}"))


async def test_an_operator_may_send_again(client: httpx.AsyncClient, control: Control) -> None:
    """Only what is unknown; the sender is told."""
    number = (await send(client, TEXT)).json()["id"]
    control.actions.asked.clear()
    refused = problem(await client.post(f"/outbox/{number}/retry"))
    assert (refused["status"], "is queued, not unknown" in refused["detail"]) == (409, True)
    await control.storage.take(step(number, "sending"), step(number, "unknown"))
    again = await client.post(f"/outbox/{number}/retry")
    assert (again.status_code, again.json()["state"]) == (202, "queued")
    assert control.actions.asked == [("outbox", "sales")]
    for path in ("/outbox/999", "/outbox/0", f"/outbox/{2**80}"):
        assert problem(await client.get(path))["type"] == "urn:zapvisor:unknown-outbox-message"
        assert problem(await client.post(f"{path}/retry"))["status"] == 404


async def test_typing(client: httpx.AsyncClient, control: Control) -> None:
    """It shows at once, or not at all."""
    for state in ("composing", "recording", "paused"):
        answer = await client.post(f"{SALES}/typing", json={"to": ANA, "state": state})
        assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.post(f"{SALES}/typing", json={"to": GROUP})).status_code == 204
    asked = [(*item[2:],) for item in control.actions.asked]
    assert asked == [(ANA, "composing"), (ANA, "recording"), (ANA, "paused"), (GROUP, "composing")]
    problem(await client.post(f"{SALES}/typing", json={"to": ANA, "state": "dancing"}))
    assert problem(await client.post(f"{SALES}/typing", json={"to": "x"}))["status"] == 422
    control.actions.online = False
    offline = problem(await client.post(f"{SALES}/typing", json={"to": ANA}))
    assert (offline["status"], offline["type"]) == (409, "urn:zapvisor:not-online")


async def test_reading_a_conversation(client: httpx.AsyncClient, control: Control) -> None:
    """Receipts for what others wrote, once; in groups for each author."""
    other = "5511999990002@s.whatsapp.net"
    group = {"chat": GROUP, "chat_kind": ChatKind.GROUP}
    await control.storage.take(external_id="GRP2", sender=other, **group)
    await control.storage.take(external_id="GRP3", **group)
    numbers = control.storage.numbers
    [direct] = (await client.post(f"/conversations/{numbers['ana']}/read")).json()
    assert (direct["kind"], direct["chat"]) == ("read", ANA)
    assert direct["body"] == {"ids": ["ANA1", "ANA2"]}
    rows = (await client.post(f"/conversations/{numbers['group']}/read")).json()
    assert [row["body"] for row in rows] == [
        {"ids": ["GRP1", "GRP3"], "author": ANA},
        {"ids": ["GRP2"], "author": other},
    ]
    assert (await client.post(f"/conversations/{numbers['ana']}/read")).json() == [direct]
    assert len((await client.get("/outbox")).json()) == 3
    assert problem(await client.post("/conversations/999/read"))["status"] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/connections/nobody/messages"),
        ("POST", "/connections/nobody/typing"),
        ("GET", "/connections/nobody/outbox"),
        ("POST", "/connections/nobody/logout"),
        ("GET", "/connections/nobody/history"),
        ("POST", "/connections/nobody/history"),
        ("POST", "/connections/nobody/history/retry"),
        ("GET", f"/connections/nobody/groups/{GROUP}"),
        ("GET", "/contacts?connection=nobody"),
        ("GET", "/contacts/merges?connection=nobody"),
        ("GET", "/groups?connection=nobody"),
        ("POST", "/reprocess?connection=nobody"),
    ],
)
async def test_an_unknown_connection(client: httpx.AsyncClient, method: str, path: str) -> None:
    """404, whatever is asked of it."""
    body = {"to": ANA, "text": "olá"} if "messages" in path else {"to": ANA}
    body = {"chat": ANA} if path.endswith("/history") else body
    answer = await client.request(method, path, json=body if method == "POST" else None)
    assert problem(answer)["type"] == "urn:zapvisor:unknown-connection"


async def test_a_daemon_that_only_receives(short_path: t.Any) -> None:
    """503 that says what is not there; reading works."""
    async with open_control(short_path / "control.sock", complete=False) as control:
        conversation = f"/conversations/{control.storage.numbers['ana']}/messages"
        transport = httpx.AsyncHTTPTransport(uds=str(control.path))
        async with httpx.AsyncClient(transport=transport, base_url="http://zapvisor") as client:
            for path, body in (
                (f"{SALES}/messages", TEXT),
                (f"{SALES}/typing", {"to": ANA}),
                (f"{SALES}/history", {"chat": ANA}),
                (conversation.replace("messages", "read"), None),
                ("/reprocess", None),
                ("/media", None),
            ):
                found = problem(await client.post(path, json=body))
                assert (found["status"], found["type"]) == (503, "urn:zapvisor:unavailable")
            assert (await client.get("/outbox")).json() == []
            assert (await client.get(conversation)).status_code == 200


async def test_without_a_database(client: httpx.AsyncClient, control: Control) -> None:
    """503 that says so: nothing is accepted that is not durable."""
    control.storage.away = True
    found = problem(await send(client, TEXT))
    assert (found["status"], found["type"]) == (503, "urn:zapvisor:database-away")
    assert control.actions.asked == []
