"""What there is to see on the stage. Numbers are fictitious."""

import base64
import datetime as dt
import math
import typing as t

PICTURE: t.Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAPUlEQVR42u3NMQEAAAgDoC251Y3g4QcJyN6"
    "hQqFQKBQKhUKhUCgUCoVCoVAoFAqFQqFQKBQKhUKhUCgUCv8Wt1wCAV3kgX0AAAAASUVORK5CYII="
)
ANA: t.Final = "5511999990001@s.whatsapp.net"
XSS: t.Final = "<img src=x onerror=\"document.title='owned'\"> <script>alert(1)</script>"


def ago(seconds: float) -> str:
    """A point in time, as the API writes it."""
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)
    return moment.isoformat().replace("+00:00", "Z")


def connection(name: str, state: str = "online", **changes: t.Any) -> dict[str, t.Any]:
    """One that is well, unless something else is said."""
    return {
        "name": name,
        "state": state,
        "since": ago(92_000),
        "reason": "online",
        "sentence": "receiving messages as they come",
        "retries": 0,
        "paired": True,
        "jid": "***0001",
        "last_message_at": ago(42),
        "last_heartbeat_at": ago(7),
        "messages": 18_204,
        "duplicates": 12,
        "undecryptable": 1,
        "quarantined": 0,
        "in_flight": 0,
        "next_attempt_in": None,
        "deaf": 0,
        "deaf_suspicion": None,
        "until": None,
        "history": None,
        "lag_seconds": 0.0,
        "logins": 1,
        "ends": {},
        "processed": 18_000,
        "skipped": 12,
        "errors": 1,
    } | changes


def health() -> dict[str, t.Any]:
    """A fleet on a bad day."""
    connections = [
        connection("vendas"),
        connection("suporte", messages=902, last_message_at=ago(3600)),
        connection("cobranca", deaf_suspicion={"since": ago(5400), "why": "no message for 90 min,"
            " where 40 are usual; pings are answered"}),
        connection("loja-centro", "syncing", since=ago(9), reason="syncing", sentence="the offline"
            " queue comes in: 132 of 210 stanzas",
            history={"percent": 64, "messages": 5120, "waiting": 3, "failed": 0}),
        connection("loja-norte", "connecting", since=ago(3), reason="connecting",
            sentence="dialling"),
        connection("matriz", "backoff", since=ago(70), reason="network", retries=4,
            sentence="the network failed: no route to host", next_attempt_in=23.0),
        connection("filial-sul", "parked", since=ago(8000), reason="network", retries=30,
            sentence="failed 30 times in a row, now parked; the last time: no route to host; it is"
            " tried every 15 min; to try at once, run: zapvisor start filial-sul",
            next_attempt_in=512.0),
        connection("rh", "conflict", since=ago(610), reason="conflict", sentence="another program"
            " uses this device's keys (replaced); find the other one and stop it, then run:"
            " zapvisor start rh"),
        connection("promo", "logged_out", since=ago(86_000), reason="logged_out", paired=True,
            sentence="the phone or WhatsApp unlinked this device (401); its keys are kept; look at"
            " Linked devices on the phone, then pair again"),
        connection("eventos", "banned", since=ago(4000), reason="temporarily_banned",
            until=ago(-80_000), sentence="WhatsApp has banned this number for a time (402)"),
        connection("novo-numero", "stopped", since=ago(300), reason="not_paired", paired=False,
            jid=None, sentence="not paired yet", last_message_at=None, last_heartbeat_at=None,
            messages=0),
    ]  # fmt: skip
    states: dict[str, int] = {}
    for each in connections:
        states[each["state"]] = states.get(each["state"], 0) + 1
    return {
        "verdict": "degraded",
        "reasons": ["matriz is backoff: the network failed: no route to host", "1 gap is open"],
        "version": "0.5.0",
        "started_at": ago(400_000),
        "now": ago(0),
        "connections": connections,
        "states": states,
        "messages": {"stored": 90_210, "duplicates": 41, "undecryptable": 2, "quarantined": 2},
        "sync": {
            "hour": {"total": 1310, "processed": 1290, "skipped": 17, "errors": 3},
            "day": {"total": 20_310, "processed": 20_190, "skipped": 110, "errors": 10},
        },
        "conversations": {"waiting": 14, "open": 23, "closed": 1804},
        "reopened": 220,
        "gaps": {"open": 1, "missing": 3, "waiting": 1, "in_quarantine": 0, "ongoing": 2,
            "device_replaced": 0},
        "quarantine": 2,
        "outbox": {"queued": 2, "sending": 0, "unknown": 1, "failed": 0},
        "writer": {
            "depth": 3, "capacity": 4096, "batches": 50_221, "envelopes": 90_400,
            "last_commit_seconds": 0.0043, "retrying_seconds": None, "last_error": None,
            "stalled_seconds": 0.0,
        },
        "loop": {"lag_seconds": 0.001, "lag_p99_seconds": 0.006, "lag_max_seconds": 0.02,
            "stalls": 0},
        "database": {"ping_seconds": 0.0009, "error": None, "size_bytes": 734_003_200},
        "disk": {"path": "/var/lib/zapvisor", "free_bytes": 61 * 10**9,
            "total_bytes": 100 * 10**9},
        "media_disk": {"path": "/var/lib/zapvisor/media", "free_bytes": 61 * 10**9,
            "total_bytes": 100 * 10**9},
        "incidents": [{"code": "outage", "since": ago(75), "connections": 3, "sentence":
            "3 connections failed alike within 20 s; the network of this machine may be away"}],
        "reload": None,
    }  # fmt: skip


def calm() -> dict[str, t.Any]:
    """The same on a good day."""
    well = health()
    connections = [each for each in well["connections"] if each["state"] == "online"][:2]
    return well | {
        "verdict": "ok",
        "reasons": [],
        "connections": connections,
        "states": {"online": 2},
        "incidents": [],
        "gaps": dict.fromkeys(well["gaps"], 0),
        "quarantine": 0,
        "outbox": {"queued": 0, "sending": 0, "unknown": 0, "failed": 0},
    }


def without_database() -> dict[str, t.Any]:
    """What is left to say while PostgreSQL is away."""
    stored = ("messages", "sync", "conversations", "reopened", "gaps", "quarantine", "outbox")
    said = calm()
    return (
        said
        | dict.fromkeys(stored)
        | {
            "verdict": "failing",
            "reasons": ["the database does not answer: connection refused"],
            "database": {
                "ping_seconds": None,
                "error": "connection refused",
                "size_bytes": None,
            },
            "writer": said["writer"] | {"retrying_seconds": 41.0, "last_error": "refused"},
        }
    )


def statistics(step: str) -> list[dict[str, t.Any]]:
    """A working day's waves."""
    seconds, many = {"minute": (60, 60), "hour": (3600, 48), "day": (86_400, 30)}[step]
    points = []
    for index in range(many):
        wave = 12 + 9 * math.sin(index / 4) + 4 * math.sin(index * 1.7)
        processed, skipped = max(0, int(wave * seconds / 60)), index % 7 == 3
        errors = 2 if index in (20, 21) else 0
        points.append(
            {
                "at": ago((many - 1 - index) * seconds),
                "connection": None,
                "total": processed + skipped + errors,
                "processed": processed,
                "skipped": int(skipped),
                "errors": errors,
            }
        )
    return points


def timeline(name: str, days: int) -> dict[str, t.Any]:
    """Two weeks with one bad day."""
    found = []
    for index in range(days):
        down = {9: 21_600.0, 4: 900.0}.get(index, 0.0)
        unknown = 86_400.0 if index < 2 else 0.0
        online = 86_400.0 - down if not unknown else 0.0
        percent = None if unknown else 100.0 * online / 86_400
        found.append({
            "begins_at": ago((days - index) * 86_400), "ends_at": ago((days - index - 1) * 86_400),
            "percent": percent, "online": online, "down": down, "stopped": 0.0, "unknown": unknown,
        })  # fmt: skip
    moves = [
        (500_000, "stopped", "connecting", "start", "an operator started it", 0),
        (499_990, "connecting", "syncing", "login", "logged in", 0),
        (499_980, "syncing", "online", "online", "receiving messages as they come", 0),
        (400_200, "online", "backoff", "heartbeat_missed", "no answer to a ping in 20 s", 1),
        (400_100, "backoff", "connecting", "connecting", "dialling", 1),
        (400_090, "connecting", "online", "online", "receiving messages as they come", 0),
    ]
    return {
        "connection": name,
        "percent": 97.8,
        "days": found,
        "transitions": [
            {"id": number, "at": ago(before), "previous": previous, "state": state,
             "reason": reason, "sentence": sentence, "retry": retry}
            for number, (before, previous, state, reason, sentence, retry) in enumerate(moves, 1)
        ],
        "next": None,
    }  # fmt: skip


def gap(number: int, **changes: t.Any) -> dict[str, t.Any]:
    """An outage of which everything has come."""
    return {
        "id": number, "connection": "vendas", "kind": "ended", "reason": "network",
        "state": "closed", "from_at": ago(90_000 + number), "login_at": ago(89_000),
        "to_at": ago(88_900), "interrupted": False, "device_replaced": False, "announced": 12,
        "announced_messages": 9, "stored": 9, "duplicate": 0, "undecryptable": 0, "quarantined": 0,
        "other": 3, "covered": 0, "missing": 0, "waiting": 0, "given_up": 0, "in_quarantine": 0,
        "covered_by": None, "resolution": "complete", "closed_at": ago(88_900),
        "accepted_by": None,
    } | changes  # fmt: skip


def gaps() -> list[dict[str, t.Any]]:
    """One that is open, one that goes on, one that is closed."""
    still = {"resolution": None, "closed_at": None}
    return [
        gap(3, connection="matriz", state="out", to_at=None, login_at=None, announced=None,
            stored=0, other=0, announced_messages=None, **still),
        gap(2, state="open", announced=16, undecryptable=1, waiting=1, missing=3, **still),
        gap(1),
    ]  # fmt: skip


def quarantine() -> list[dict[str, t.Any]]:
    """One that may be stored after all, one that may not."""
    row = {
        "id": 2, "connection": "vendas", "chat": ANA, "sender": ANA, "external_id": "3EB0AA11",
        "error": 'invalid byte sequence for encoding "UTF8": 0x00', "attempts": 2,
        "received_at": ago(7200), "last_attempt_at": ago(3600), "stanza_bytes": 812,
        "way_out": "message", "kind": None, "sent_at": None, "resolved_at": None,
        "resolution": None, "message_id": None,
    }  # fmt: skip
    nobody = {"chat": None, "sender": None, "external_id": None}
    other = {"error": "not a node: the list ends too early", "way_out": "none", "attempts": 1}
    return [row, row | nobody | other | {"id": 1, "connection": "matriz", "stanza_bytes": 64}]


def pairing() -> dict[str, t.Any]:
    """Nobody pairs."""
    return {"name": "novo-numero", "version": 0, "state": "waiting", "qr": None, "code": None,
            "expires_in": None, "sentence": "waiting for WhatsApp"}  # fmt: skip


def conversations() -> list[dict[str, t.Any]]:
    """Fourteen, of which the first can be read."""
    people = (
        "Ana Souza", "Bruno Lima", XSS, "Carla Mendes", "Grupo Obras · Bloco B", "Daniel",
        "Elaine Castro", "Fábio", "Gisele Prado", None, "Heitor", "Íris", "João Pedro", "Karina",
    )  # fmt: skip
    statuses = ("waiting", "open", "closed")
    return [
        {
            "id": number, "connection": ("vendas", "suporte")[number % 2],
            "chat": f"55119999900{number:02}@s.whatsapp.net", "title": title,
            "shown": title or f"+55119999900{number:02}",
            "status": statuses[number % 3 - 1], "messages": 3 * number + 7,
            "opened_at": ago(7000 * number), "last_message_at": ago(1900 * number * number / 3),
            "closed_at": None, "reopened": number % 3, "possible_hole": number in (1, 4),
        }
        for number, title in enumerate(people, 1)
    ]  # fmt: skip


def person(name: str | None, *, own: bool = False) -> dict[str, t.Any]:
    """Somebody."""
    return {"contact": 1, "name": name, "addresses": [ANA], "shown": "+5511999990001",
            "is_self": own}  # fmt: skip


def message(number: int, text: str | None, **changes: t.Any) -> dict[str, t.Any]:
    """One of Ana's."""
    return {
        "id": number, "connection": "suporte", "conversation": 1, "chat": ANA, "direct": True,
        "sender": person("Ana Souza"), "from_me": False, "external_id": f"3EB0{number:04}",
        "kind": "text", "state": "stored", "lane": "live", "text": text, "original_text": text,
        "versions": [], "deleted": None, "reactions": [], "votes": [], "quoted": None,
        "mentions": [], "flags": [], "detail": {}, "media": None, "receipts": [], "status": None,
        "target_id": None, "reason": None, "verdict": None, "retries": 0, "removed": None,
        "sent_at": ago(90_000 - number * 400), "received_at": ago(90_000 - number * 400),
    } | changes  # fmt: skip


def withheld(found: dict[str, t.Any]) -> dict[str, t.Any]:
    """A message as the API shows it: without its former content."""
    if found["deleted"]:
        left = {"text": None, "original_text": None, "media": None, "versions": []}
        return found | left | {"withheld": True}
    if found["versions"]:
        *former, present = found["versions"]
        silent = [version | {"text": None} for version in former]
        return found | {"original_text": None, "versions": [*silent, present], "withheld": True}
    return found | {"withheld": False}


def messages() -> list[dict[str, t.Any]]:
    """A long talk with everything in it, some of it not nice."""
    team = {"from_me": True, "sender": person(None, own=True)}
    photo = {"kind": "image", "state": "stored", "mimetype": "image/png", "size": 212_000,
             "name": "praia.png", "blob_sha256": "00", "error": None}  # fmt: skip
    paper = photo | {"kind": "document", "mimetype": "application/pdf", "size": 1_204_000,
                     "name": "../../<b>orçamento</b>.pdf"}  # fmt: skip
    talk = [message(number, f"Mensagem antiga número {number}") for number in range(1, 131)]
    talk += [
        message(131, "Bom dia! Vocês ainda têm o apartamento do anúncio?"),
        message(132, "Bom dia, Ana! Temos sim. Quer marcar uma visita?", status="read", **team),
        message(133, "Pode ser amanhã às 15h?", reactions=[
            {"sender": person(None, own=True), "emoji": "👍", "at": ago(60)}]),
        message(134, None, kind="image", media=photo),
        message(135, "orçamento", kind="document", media=paper, flags=["forwarded"]),
        message(136, None, kind="voice", media=photo | {"kind": "audio", "state": "pending",
            "mimetype": "audio/ogg", "name": None, "size": 34_000}),
        message(137, "O valor final é R$ 1.850", status="delivered", versions=[
            {"text": "O valor final é R$ 1.580", "at": ago(4000), "external_id": "A"},
            {"text": "O valor final é R$ 1.850", "at": ago(3900), "external_id": "B"}], **team),
        message(138, "meu CPF é fictício", deleted={"by": person("Ana Souza"), "at": ago(3000)}),
        message(139, None, state="undecryptable", kind="unknown", reason="no session", retries=2),
        message(140, XSS + " javascript:alert(1) https://example.test/a?b=<c> e"
            " http://user:pass@evil.test/ (veja https://example.test/casa)."),
        message(141, "Respondendo", quoted={"external_id": "A", "id": 137, "author": person(None,
            own=True), "text": "O valor final é R$ 1.850", "kind": "text"}),
        message(142, "Qual horário?", kind="poll", votes=[
            {"voter": person("Ana Souza"), "options": ["15h"], "at": ago(10)}], status="sent",
            **team),
    ]  # fmt: skip
    return talk


def alert(number: int, **changes: t.Any) -> dict[str, t.Any]:
    """An alert as the API gives it."""
    return {
        "id": number,
        "rule": "down",
        "state": "firing",
        "severity": "warning",
        "title": "No connection to WhatsApp: vendas",
        "cause": "The network of this machine.",
        "cure": "Look at the network.",
        "detail": "the network failed: <b>reset</b>",
        "connection": "vendas",
        "subjects": ["vendas"],
        "others": 0,
        "facts": {},
        "since": ago(600),
        "fired_at": ago(300),
        "last_seen": ago(5),
        "resolved_at": None,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "notified_at": ago(300),
        "times": 1,
        "silenced_by": None,
    } | changes
