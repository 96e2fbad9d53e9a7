"""Who may what over HTTP: tokens, scopes, the cookie of a browser, and the names of the host."""

import re

import pytest

from api.auth import Denied, HttpDoorway, caller
from api.auth_sessions import IDLE, MOST, Sessions
from api.openapi import operations
from config.listeners import HttpConfig
from tests.api.conftest import Served
from tests.daemon.daemon_fakes import problem


async def test_nothing_without_a_token(served: Served) -> None:
    """The answer says what is missing, and how to get one."""
    answer = await served.http.get("/status")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "zapvisor token create" in problem(answer)["detail"]


async def test_the_control_socket_needs_none(served: Served) -> None:
    """Who can open it may everything."""
    assert (await served.operator.get("/status")).status_code == 200
    assert (await served.operator.post("/connections/sales/stop")).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (("read",), {"read"}),
        (("operate",), {"read", "operate"}),
        (("send",), {"send"}),
        (("send", "read"), {"send", "read"}),
    ],
)
async def test_scopes(served: Served, scopes: tuple[str, ...], may: set[str]) -> None:
    """operate includes read; send stands alone; what is missing is named."""
    headers = await served.headers(*scopes)
    asked = {
        "read": await served.http.get("/status", headers=headers),
        "operate": await served.http.post("/connections/sales/start", headers=headers),
        "send": await served.http.post(
            "/connections/sales/messages",
            headers=headers,
            json={"to": "+55 11 99999-0001", "text": "oi"},
        ),
    }
    for scope, answer in asked.items():
        if scope in may:
            assert answer.status_code < 300, answer.text
        else:
            assert answer.status_code == 403
            assert f"needs the scope {scope}" in problem(answer)["detail"]


async def test_no_token_makes_a_token(served: Served) -> None:
    """Tokens are made, listed and revoked on the control socket alone."""
    headers = await served.headers("read", "operate", "send")
    body = {"name": "more", "scopes": ["read"]}
    for answer in (
        await served.http.post("/tokens", headers=headers, json=body),
        await served.http.get("/tokens", headers=headers),
        await served.http.delete("/tokens/test", headers=headers),
    ):
        assert answer.status_code == 403
        assert "control socket only" in problem(answer)["detail"]


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer zv_000000000000_" + "A" * 43, "Bearer \xff"],
)
async def test_what_is_no_token(served: Served, authorization: str) -> None:
    """Anything else than a token is nobody."""
    headers = [(b"authorization", authorization.encode("latin-1"))]
    assert (await served.http.get("/status", headers=headers)).status_code == 401


async def test_a_changed_secret_is_refused(served: Served) -> None:
    """Every character of it counts."""
    token = await served.token("read")
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    answer = await served.http.get("/status", headers={"authorization": f"Bearer {changed}"})
    assert answer.status_code == 401


async def test_a_revoked_token_is_refused_at_once(served: Served) -> None:
    """By its name or its id; the answer says so to whoever has it."""
    headers = await served.headers("read")
    assert (await served.http.get("/status", headers=headers)).status_code == 200
    assert (await served.operator.delete("/tokens/test")).status_code == 200
    answer = await served.http.get("/status", headers=headers)
    assert "was revoked" in problem(answer)["detail"]
    headers = await served.headers("read")
    [row] = (await served.operator.get("/tokens")).json()
    assert (await served.operator.delete(f"/tokens/{row['id']}")).status_code == 200
    assert (await served.http.get("/status", headers=headers)).status_code == 401
    assert (await served.operator.delete("/tokens/test")).status_code == 404
    assert len((await served.operator.get("/tokens?revoked=true")).json()) == 2


async def test_tokens_are_checked_without_the_database(served: Served) -> None:
    """And one is revoked there and then; the operator is told that it is not written down."""
    headers = await served.headers("read")
    other = await served.headers("read", name="other")
    served.control.storage.away = True
    assert (await served.http.get("/version", headers=headers)).status_code == 200
    answer = await served.operator.delete("/tokens/test")
    assert answer.status_code == 503
    assert "refused from now on" in problem(answer)["detail"]
    assert (await served.http.get("/version", headers=headers)).status_code == 401
    served.control.storage.away = False
    await served.control.tokens.save()
    await served.control.tokens.load()
    assert (await served.http.get("/version", headers=headers)).status_code == 401
    assert (await served.http.get("/version", headers=other)).status_code == 200
    rows = {row.name: row for row in await served.control.storage.inbox.tokens()}
    assert rows["test"].revoked_at is not None


async def test_until_the_tokens_are_known(served: Served) -> None:
    """A daemon that starts says so, and does not call a good token bad."""
    headers = await served.headers("read")
    served.control.tokens._loaded = False
    answer = await served.http.get("/status", headers=headers)
    assert answer.status_code == 503
    assert problem(answer)["type"] == "urn:zapvisor:starting"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "Grafana", "scopes": ["read"]}, "name: 1 to 63"),
        ({"name": "", "scopes": ["read"]}, "name: 1 to 63"),
        ({"name": "x", "scopes": []}, "scopes: at least one"),
        ({"name": "x", "scopes": ["control"]}, "scopes: at least one"),
        ({"name": "x", "scopes": ["read"], "expires_in": 0}, "expires_in"),
        ({"name": "x", "scopes": ["read"], "expires_in": 1e12}, "expires_in"),
    ],
)
async def test_tokens_that_cannot_be(served: Served, body: dict[str, object], said: str) -> None:
    """Nothing is made, and the field is named."""
    answer = await served.operator.post("/tokens", json=body)
    assert answer.status_code == 422
    assert said in problem(answer)["detail"]
    assert (await served.operator.get("/tokens")).json() == []


async def test_names_are_taken_until_they_are_revoked(served: Served) -> None:
    """Two tokens of one name could not be told apart."""
    await served.token("read")
    body = {"name": "test", "scopes": ["read"]}
    answer = await served.operator.post("/tokens", json=body)
    assert answer.status_code == 409
    await served.operator.delete("/tokens/test")
    assert (await served.operator.post("/tokens", json=body)).status_code == 201


async def test_the_secret_is_kept_nowhere(served: Served) -> None:
    """Only its hash; and no answer but the first shows it."""
    token = await served.token("read")
    secret = token.split("_", 2)[2]
    rows = await served.control.storage.inbox.tokens()
    assert secret not in repr(rows)
    assert secret.encode() not in rows[0].hash
    assert secret not in (await served.operator.get("/tokens")).text


async def test_a_browser_logs_in(served: Served) -> None:
    """The cookie stands for the token; scripts of a page cannot read it."""
    token = await served.token("read", name="wall")
    assert (await served.http.get("/session")).status_code == 401
    answer = await served.http.post("/session", json={"token": token})
    assert answer.json() == {"name": "wall", "scopes": ["read"]}
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in cookie
    assert (await served.http.get("/session")).json()["name"] == "wall"
    assert (await served.http.get("/status")).status_code == 200
    assert (await served.http.delete("/session", headers=_origin(served))).status_code == 204
    assert (await served.http.get("/status")).status_code == 401


async def test_a_cookie_that_came_by_tls_goes_by_tls_alone(served: Served) -> None:
    """A proxy takes the TLS off; the origin of the page tells that there was some."""
    token = await served.token("read")
    plain = _origin(served)["origin"]
    for origin, secure in ((plain, False), (plain.replace("http://", "HTTPS://"), True)):
        answer = await served.http.post(
            "/session", json={"token": token}, headers={"origin": origin}
        )
        assert answer.status_code == 200
        parts = answer.headers["set-cookie"].lower().split("; ")
        assert ("secure" in parts) is secure, origin
        assert "httponly" in parts


async def test_a_session_ends_with_its_token(served: Served) -> None:
    """Revoking is enough."""
    token = await served.token("read")
    await served.http.post("/session", json={"token": token})
    await served.operator.delete("/tokens/test")
    assert (await served.http.get("/status")).status_code == 401


async def test_a_wrong_token_does_not_log_in(served: Served) -> None:
    """No cookie is set."""
    answer = await served.http.post("/session", json={"token": "zv_wrong"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


async def test_a_cookie_changes_things_only_from_our_own_pages(served: Served) -> None:
    """A request that changes something must tell that it comes from a page of this host."""
    token = await served.token("operate")
    await served.http.post("/session", json={"token": token})
    path = "/connections/sales/stop"
    for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}):
        answer = await served.http.post(path, headers=headers)
        assert answer.status_code == 403
        assert problem(answer)["type"] == "urn:zapvisor:cross-origin"
    assert served.control.fleet.orders == []
    assert (await served.http.post(path, headers=_origin(served))).status_code == 200
    bearer = {"authorization": f"Bearer {token}", "origin": "http://evil.example"}
    assert (await served.http.post(path, headers=bearer)).status_code == 200


async def test_nobody_is_logged_in_by_another_page(served: Served) -> None:
    """Not even with a good token."""
    token = await served.token("read")
    answer = await served.http.post(
        "/session", json={"token": token}, headers={"origin": "http://evil.example"}
    )
    assert answer.status_code == 403


def _origin(served: Served) -> dict[str, str]:
    return {"origin": f"http://127.0.0.1:{served.port}"}


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST.:8720", True),
        ("127.0.0.1:1", True),
        ("[::1]:8720", True),
        ("192.0.2.7", True),
        ("zapvisor.example", True),
        ("evil.example", False),
        ("zapvisor.example.evil.example", False),
        ("localhost@evil.example", False),
        ("[::1", False),
        ("", False),
        ("x:99999", False),
    ],
)
async def test_names_of_the_host(host: str, ours: bool) -> None:
    """A page that has its own name lead here (DNS rebinding) sends that name, and gets nothing;
    plain addresses cannot be made to lead anywhere."""
    sent: list[object] = []

    async def app(scope: object, _receive: object, _send: object) -> None:
        assert isinstance(caller(scope), Denied)  # type: ignore[arg-type]
        sent.append("app")

    async def send(message: dict[str, object]) -> None:
        sent.append(message.get("status"))

    doorway = HttpDoorway(
        app, None, Sessions(lambda: 0.0), HttpConfig(hosts=("zapvisor.example",)).hosts
    )  # type: ignore[arg-type]
    scope = {"type": "http", "method": "GET", "headers": [(b"host", host.encode())]}
    await doorway(scope, None, send)  # type: ignore[arg-type]
    assert sent[0] == ("app" if ours else 421)


async def test_every_route_is_behind_the_door(served: Served) -> None:
    """Without a token nothing but what is meant for everybody answers."""
    schema = (await served.operator.get("/schema/openapi.json")).json()
    public = set()
    for path, item in schema["paths"].items():
        for method in item:
            answer = await served.http.request(method, re.sub(r"{.*?}", "1", path))
            assert answer.status_code in (200, 204, 400, 401), (path, answer.text)
            if answer.status_code != 401:
                public.add((method, path))
    assert public <= {
        ("post", "/session"),
        ("delete", "/session"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
    }


def test_sessions_end_when_nobody_uses_them() -> None:
    """After half a day; and a thousand of them are enough."""
    now = 0.0
    sessions = Sessions(lambda: now)
    first = sessions.open("token")
    now = IDLE
    assert sessions.find(first) == "token"
    now = 2 * IDLE
    assert sessions.find(first) == "token"
    now = 3 * IDLE + 1
    assert sessions.find(first) is None
    kept = sessions.open("kept")
    many = [sessions.open("token") for _ in range(MOST)]
    assert sessions.find(kept) is None
    assert sessions.find(many[-1]) == "token"


async def test_no_page_of_another_origin_unless_it_is_named(served: Served) -> None:
    """CORS is off by default."""
    answer = await served.http.options(
        "/status", headers={"origin": "https://app.example", "access-control-request-method": "GET"}
    )
    assert "access-control-allow-origin" not in answer.headers


class TestCors:
    """With an origin in the configuration."""

    @pytest.fixture
    def config(self) -> HttpConfig:
        return HttpConfig(cors_origins=("https://app.example",))

    async def test_only_that_origin(self, served: Served) -> None:
        """Pages of it may use a token, and never a cookie."""
        asked = {"access-control-request-method": "GET"}
        good = await served.http.options(
            "/status", headers={"origin": "https://app.example"} | asked
        )
        assert good.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in good.headers
        bad = await served.http.options(
            "/status", headers={"origin": "https://evil.example"} | asked
        )
        assert "access-control-allow-origin" not in bad.headers

    async def test_all_that_the_api_offers(self, served: Served) -> None:
        """Every method that there is; parts of files, and streams that are resumed."""
        methods = {method for _path, method, _handler in operations(served.apps.app)}
        assert {"get", "post", "patch", "delete"} <= methods
        for method in methods - {"head", "options"}:  # browsers ask nobody for these
            for header in ("authorization", "range", "last-event-id", "idempotency-key"):
                answer = await served.http.options(
                    "/status",
                    headers={
                        "origin": "https://app.example",
                        "access-control-request-method": method.upper(),
                        "access-control-request-headers": header,
                    },
                )
                assert answer.status_code == 204, answer.text
                assert method.upper() in answer.headers["access-control-allow-methods"]
                assert header in answer.headers["access-control-allow-headers"].lower()

    async def test_what_a_page_may_read(self, served: Served) -> None:
        """Where the next page begins, which part of a file it is, when a code ends."""
        headers = await served.headers("read") | {"origin": "https://app.example"}
        answer = await served.http.get("/version", headers=headers)
        shown = answer.headers["access-control-expose-headers"].lower()
        for name in ("link", "x-next-cursor", "content-range", "x-expires-in", "retry-after"):
            assert name in shown.replace(" ", "").split(",")
