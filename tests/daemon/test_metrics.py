"""Metrics: the exposition, its bounds, and that whoever uses a name uses one that there is."""

import ast
import json
import re
import types
import typing as t
from pathlib import Path

import attrs
import httpx
import pytest
import trio
import yaml
from daemon_fakes import NOON, Control, connection, open_control
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from actors.channels import ChannelSettings
from actors.histogram import Histogram
from actors.nats_link import NatsSettings
from actors.webhook_post import WebhookSettings
from api.metrics import Samples, bounded
from api.metrics_families import FAMILIES, OTHER, REASONS, STATES
from api.ports_daemon import ReloadFacts
from api.routes_metrics import accepts_openmetrics
from api.views import DeafSuspicionView, IncidentView
from storage.events import DeliveryFailure
from storage.notifications import ChannelRule
from whatsapp.lifecycle import EndReason

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROCESS = re.compile(r"process_\w+")

HOOK = WebhookSettings(
    name="crm", url="http://127.0.0.1:9/", secret=b"x" * 32, patterns=("*",), types=None
)
MAIL = ChannelSettings(rule=ChannelRule(name="mail", kinds=frozenset()), url="")
NATS = NatsSettings(url="nats://user:secret@127.0.0.1:9")


@pytest.fixture
async def control(short_path: Path) -> t.AsyncIterator[Control]:
    """With a webhook and with NATS; nobody runs them."""
    with trio.fail_after(30):
        async with open_control(
            short_path / "control.sock",
            webhooks=(HOOK,),
            nats=NATS,
            channels=((MAIL, t.cast("t.Any", types.SimpleNamespace(service="mail"))),),
        ) as control:
            yield control
            await control.events.aclose()


Exposed: t.TypeAlias = dict[str, list[tuple[dict[str, str], float]]]


async def scrape(client: httpx.AsyncClient) -> Exposed:
    """Every sample by name, with its labels."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    found: Exposed = {}
    for family in parser.text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def scrape_all(client: httpx.AsyncClient, control: Control) -> Exposed:
    """The same once the database has been read."""
    await control.figures.reading()
    return await scrape(client)


def value(exposed: Exposed, name: str, **labels: str) -> float:
    """The one sample with these labels."""
    [found] = [number for having, number in exposed[name] if having == labels]
    return found


async def test_every_metric_is_exposed(client: httpx.AsyncClient, control: Control) -> None:
    """Each family with its type, its help and its labels, and nothing else but the process's."""
    await trouble(control)
    await scrape_all(client, control)
    text = (await client.get("/metrics")).text
    families = {each.name: each for each in parser.text_string_to_metric_families(text)}
    for family in FAMILIES:
        exposed = families.pop(family.name.removesuffix("_total"))
        assert (exposed.type, exposed.documentation) == (family.kind, family.help), family.name
        assert exposed.samples, family.name
        for sample in exposed.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), sample
    assert all(PROCESS.fullmatch(name) for name in families), set(families)
    assert "process_resident_memory_bytes" in families


async def trouble(control: Control) -> None:
    """A fleet for which every metric has a sample."""
    control.fleet.connections["sales"] = connection(
        "sales",
        last_heartbeat_at=NOON,
        ends={"silent": 2, "mystery": 1, "riddle": 3},
        deaf_suspicion=DeafSuspicionView(since=NOON, why="quiet"),
        processed=7,
        skipped=2,
        errors=1,
        logins=4,
    )
    control.fleet.now.append(
        IncidentView(code="outage", since=NOON, sentence="no network", connections=2)
    )
    control.commits.observe(0.002)
    control.exporter._view.finished_at = NOON.timestamp()
    await events_in_trouble(control)
    await control.storage.inbox.count_sent("mail")
    await control.storage.inbox.count_sent("mail", "no route")
    control.reloader.last = (NOON.timestamp(), ReloadFacts())


async def events_in_trouble(control: Control) -> None:
    """Of three events one was delivered, one is retried and one was given up; NATS has one."""
    inbox = control.storage.inbox
    first = (await inbox.follow("webhook:crm")).position
    ids = [await inbox.append_event("gap.opened", "sales", {}) for _ in range(3)]
    await inbox.take_deliveries("webhook:crm", types=None, connections=None, limit=10)
    for event_id, retry_at in ((ids[0], None), (ids[1], 2e9)):
        failure = DeliveryFailure(
            event_id=event_id, status=500, error="it answered 500", retry_at=retry_at
        )
        await inbox.settle_deliveries("webhook:crm", [], failure)
    await inbox.settle_deliveries("webhook:crm", [ids[2]], None)
    assert control.events._nats is not None
    control.events._nats._set(state="failing", position=first + 1, error="no route", published=7)


async def test_what_the_numbers_are(client: httpx.AsyncClient, control: Control) -> None:
    """States are 0 or 1, counters are counts, times are unix seconds."""
    await trouble(control)
    exposed = await scrape_all(client, control)
    states = {
        labels["state"]: number
        for labels, number in exposed["zapvisor_connection_state"]
        if labels["connection"] == "sales"
    }
    assert states == dict.fromkeys(STATES, 0.0) | {"online": 1.0}
    assert value(exposed, "zapvisor_messages_total", connection="sales", outcome="processed") == 7
    assert value(exposed, "zapvisor_connection_ends_total", connection="sales", reason=OTHER) == 4
    assert (
        value(exposed, "zapvisor_connection_ends_total", connection="sales", reason="silent") == 2
    )
    since = value(exposed, "zapvisor_connection_state_since_timestamp_seconds", connection="sales")
    assert since == NOON.timestamp()
    assert value(exposed, "zapvisor_incident", code="outage") == 1
    assert value(exposed, "zapvisor_incident", code="outdated") == 0
    assert value(exposed, "zapvisor_build_info", **version_labels(exposed)) == 1
    assert value(exposed, "zapvisor_conversations", status="waiting") == 1
    assert value(exposed, "zapvisor_health", verdict="degraded") == 1
    assert value(exposed, "zapvisor_database_up") == 1
    assert value(exposed, "zapvisor_ready") == 1
    assert value(exposed, "zapvisor_search_waiting_messages") == 0


async def test_the_numbers_of_webhooks_and_nats(
    client: httpx.AsyncClient, control: Control
) -> None:
    """What waits, what was given up, and how far behind the newest event they are."""
    await events_in_trouble(control)
    exposed = await scrape_all(client, control)
    crm = {"webhook": "crm"}
    states = {
        state: value(exposed, "zapvisor_webhook_state", state=state, **crm)
        for state in ("active", "failing", "paused")
    }
    assert states == {"active": 0, "failing": 1, "paused": 0}
    assert value(exposed, "zapvisor_webhook_deliveries_pending", **crm) == 1
    assert value(exposed, "zapvisor_webhook_deliveries_retrying", **crm) == 1
    assert value(exposed, "zapvisor_webhook_deliveries_dead", **crm) == 1
    assert value(exposed, "zapvisor_webhook_delivered_total", **crm) == 1
    assert value(exposed, "zapvisor_webhook_behind_events", **crm) == 0
    assert value(exposed, "zapvisor_nats_state", state="failing") == 1
    assert value(exposed, "zapvisor_nats_published_total") == 7
    assert value(exposed, "zapvisor_nats_behind_events") == 2
    assert value(exposed, "zapvisor_events_readable") == 1
    assert value(exposed, "zapvisor_health", verdict="degraded") == 1
    text = (await client.get("/metrics")).text
    assert "secret" not in text


def version_labels(exposed: Exposed) -> dict[str, str]:
    """Those of the build."""
    [(labels, _value)] = exposed["zapvisor_build_info"]
    assert labels["version"] == "1.2.3"
    return labels


async def test_a_scrape_never_waits_for_the_database(
    client: httpx.AsyncClient, control: Control
) -> None:
    """The first one comes without what is stored; while the database is away the last figures
    stay, with their age, and the database is shown as down."""
    control.storage.silent = True
    control.figures._limit = 0.1
    with trio.fail_after(2):
        exposed = await scrape(client)
    assert "zapvisor_conversations" not in exposed
    assert "zapvisor_connection_state" in exposed
    control.storage.silent = False
    await control.figures.reading()  # which had begun before
    await scrape_all(client, control)
    control.storage.away = True
    exposed = await scrape_all(client, control)
    assert value(exposed, "zapvisor_database_up") == 0
    assert value(exposed, "zapvisor_ready") == 0
    assert value(exposed, "zapvisor_conversations", status="waiting") == 1
    assert value(exposed, "zapvisor_stored_figures_age_seconds") > 0


async def test_openmetrics_is_spoken_to_who_asks_for_it(
    client: httpx.AsyncClient, control: Control
) -> None:
    """What a real Prometheus sends; the strict parser takes the answer."""
    await trouble(control)
    await control.figures.reading()
    accept = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    )
    answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = list(openmetrics.text_string_to_metric_families(answer.text))
    assert "zapvisor_messages" in {each.name for each in families}
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain", "application/openmetrics-text;q=0", ";;,,", "application/json"],
)
async def test_everybody_else_gets_text(client: httpx.AsyncClient, accept: str) -> None:
    """Whatever else is accepted, or nonsense."""
    assert not accepts_openmetrics(accept)
    answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("text/plain")


async def test_nonsense_for_a_version_of_openmetrics(client: httpx.AsyncClient) -> None:
    """There is one version, whichever is asked for."""
    accept = "application/openmetrics-text;version=x"
    assert (await client.get("/metrics", headers={"accept": accept})).status_code == 200


async def test_requests_are_timed_by_route(client: httpx.AsyncClient) -> None:
    """By the pattern of the route, never by what was filled in; what does not exist is one."""
    for path in ("/status", "/gaps", "/nothing", "/nothing/else", "/connections/a/gaps"):
        await client.get(path)
    exposed = await scrape(client)
    counted = {
        (labels["method"], labels["route"], labels["status"]): number
        for labels, number in exposed["zapvisor_http_request_duration_seconds_count"]
    }
    assert counted["GET", "/status", "200"] == 1
    assert counted["GET", "(none)", "404"] == 2
    [named] = [route for _method, route, _status in counted if "connections" in route]
    assert named == "/connections/{name}/gaps"


def test_reasons_have_names() -> None:
    """Every way in which WhatsApp ends a connection is told apart; others are counted together."""
    assert {reason.value for reason in EndReason} <= REASONS
    written = set()
    for path in (ROOT / "actors").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            if re.fullmatch(r"Connection(Ended|Held|Stopped|Restart|Paused)Error", name):
                first = t.cast("ast.Call", node).args[:1]
                written |= {each.value for each in first if isinstance(each, ast.Constant)}
    assert len(written) > 10
    assert written <= REASONS
    assert bounded({"silent": 1, "a": 2, "b": 3}) == {"silent": 1, OTHER: 5}


def test_a_histogram() -> None:
    """A value counts in the first bound that it does not exceed."""
    histogram = Histogram((1.0, 2.0))
    for seen in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(seen)
    assert (histogram.counts, histogram.total) == ([2, 1, 1], 12.0)


def test_a_sample_with_other_labels_is_refused() -> None:
    """So a slip shows in the first test that scrapes."""
    with pytest.raises(ValueError, match="has the labels"):
        Samples().add("connection_paired", 1)
    with pytest.raises(KeyError):
        Samples().add("no_such_thing", 1)


def test_the_documentation_is_complete() -> None:
    """Each metric in a row of its own, with its type, labels and meaning."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"\| `(zapvisor_\w+)` \| (\w+) \| (.*?) \| (.*) \|", line):
            rows[match[1]] = (match[2], tuple(re.findall(r"`(\w+)`", match[3])), match[4])
    assert rows == {each.name: (each.kind, each.labels, each.help) for each in FAMILIES}


# ---- what uses the metrics


@attrs.frozen
class Used:
    """Names of metrics in an expression, with the labels that are asked of each."""

    names: frozenset[str]
    labels: frozenset[tuple[str, str]]


WORDS: t.Final = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")|(?P<duration>\[[^\]]*\])|(?P<word>[A-Za-z_:][\w:]*)'
    r"|(?P<number>[0-9.]+[a-z]*)|(?P<sign>[^\s\w])"
)
BY: t.Final = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
OPERATORS: t.Final = frozenset({"and", "or", "unless", "bool", "offset"})


def used(expression: str) -> Used:
    """Read PromQL as far as names go: a word that is followed by no ``(`` and is no operator is a
    metric; what is in its braces, or in the list of a grouping, is a label."""
    tokens = [
        (match.lastgroup or "", match[0])
        for match in WORDS.finditer(re.sub(r"\$__\w+", "5m", expression))
    ]
    names: set[str] = set()
    labels: set[tuple[str, str]] = set()
    grouped: set[str] = set()
    position = 0
    while position < len(tokens):
        kind, word = tokens[position]
        following = tokens[position + 1][1] if position + 1 < len(tokens) else ""
        position += 1
        if kind != "word" or word in OPERATORS:
            continue
        if word in BY:
            while tokens[position][1] != ")":
                if tokens[position][0] == "word":
                    grouped.add(tokens[position][1])
                position += 1
        elif following not in ("(", "by", "without"):
            names.add(word)
            if following == "{":
                while tokens[position][1] != "}":
                    before = tokens[position]
                    position += 1
                    if before[0] == "word" and tokens[position][1] in ("=", "!"):
                        labels.add((word, before[1]))
    labels |= {("", label) for label in grouped}
    return Used(frozenset(names), frozenset(labels))


def test_expressions_are_read() -> None:
    """Functions, groupings, matchers, durations and numbers are told apart."""
    found = used(
        'sum by (connection) (rate(a_total{state=~"x|y",le!="1"}[5m])) / on (job) b > 1e3'
        " unless c offset 5m"
    )
    assert found.names == {"a_total", "b", "c"}
    assert found.labels == {
        ("a_total", "state"),
        ("a_total", "le"),
        ("", "connection"),
        ("", "job"),
    }


def dashboard_expressions() -> list[str]:
    """Those of panels and variables."""
    dashboard = json.loads((DEPLOY / "grafana" / "zapvisor.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in panels(dashboard) for target in panel.get("targets", ())]
    variables = [
        variable["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    values = re.compile(r"label_values\((.*), *(\w+)\)")
    return found + [values.sub(r"sum by (\2) (\1)", query) for query in variables]


def panels(dashboard: dict[str, t.Any]) -> t.Iterator[dict[str, t.Any]]:
    """All of them, those of rows as well."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def alert_rules() -> list[dict[str, t.Any]]:
    """All rules."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in rules["groups"] for rule in group["rules"]]


GIVEN_BY_PROMETHEUS: t.Final = {"up": frozenset({"job", "instance"})}


async def test_dashboard_and_alerts_use_what_there_is(
    client: httpx.AsyncClient, control: Control
) -> None:
    """Every name in an expression is exposed, and has the labels that are asked of it."""
    await trouble(control)
    await client.get("/status")
    exposed = await scrape_all(client, control)
    having = {
        name: frozenset().union(*(labels for labels, _value in samples)) | {"job", "instance"}
        for name, samples in exposed.items()
    } | GIVEN_BY_PROMETHEUS
    expressions = dashboard_expressions() + [rule["expr"] for rule in alert_rules()]
    assert len(expressions) > 30
    for expression in expressions:
        found = used(expression)
        assert found.names, expression
        for name in found.names:
            assert name in having, f"{name} in {expression}"
        for name, label in found.labels:
            known = having[name] if name else frozenset().union(*(having[n] for n in found.names))
            assert label in known, f"{label} of {name or 'a grouping'} in {expression}"


def test_alerts_say_what_to_do() -> None:
    """Each has a name of its own, a severity, a summary and a runbook; durations are valid."""
    rules = alert_rules()
    names = [rule["alert"] for rule in rules]
    assert len(names) == len(set(names)) > 8
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in ("critical", "warning"), rule
        assert set(rule["annotations"]) == {"summary", "description"}, rule
        assert "zapvisor" in rule["annotations"]["description"], rule
        assert re.fullmatch(r"\d+[smh]", rule["for"]), rule


def test_the_example_of_a_scrape() -> None:
    """It scrapes with a token out of a file, and loads the alerts beside it."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    assert config["rule_files"] == ["alerts.yml"]
    [job] = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["authorization"]["type"] == "Bearer"
    assert "credentials_file" in job["authorization"]


def test_the_dashboard_can_be_imported() -> None:
    """Ids and places are its own; every panel takes the data source that is chosen."""
    dashboard = json.loads((DEPLOY / "grafana" / "zapvisor.json").read_text(encoding="utf-8"))
    shown = list(panels(dashboard))
    ids = [panel["id"] for panel in shown]
    assert len(ids) == len(set(ids))
    assert dashboard["id"] is None
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
            assert panel["description"], panel["title"]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "connection"}
