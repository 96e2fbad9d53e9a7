"""The report over the API and on the command line."""

import datetime as dt
import stat
from pathlib import Path

import httpx
import pytest
from daemon_fakes import Control, Run, open_control, problem

from actors.reporter import Reporter
from config.channels import ChannelConfig, ReportConfig
from config.model import Config
from daemon.report_wiring import make_reporter
from storage.api import ConversationRules
from storage.memory import MemoryStorage

TODAY = "2026-03-01"


async def test_figures_of_a_day(client: httpx.AsyncClient) -> None:
    """Today is not complete; what is there is counted."""
    answer = await client.get("/report", params={"day": TODAY})
    assert answer.status_code == 200
    report = answer.json()
    assert (report["day"], report["zone"], report["complete"]) == (TODAY, "UTC", False)
    assert (report["total"]["received"], report["total"]["sent"]) == (3, 1)
    assert [each["name"] for each in report["connections"]] == ["sales"]
    assert report["connections"][0]["track"] == [{"way": "unknown", "quarters": 96}]
    assert report["idle"] == ["support"]
    assert len(report["hours"]) == 24
    assert (report["waiting"], report["alerts"]) == (2, None)


async def test_days_that_cannot_be_reported(client: httpx.AsyncClient) -> None:
    """Of the future, of before there was anything, and what is no day at all."""
    early = await client.get("/report")
    assert early.status_code == 404
    assert problem(early)["type"] == "urn:zapvisor:no-report"
    assert "there is nothing from 2026-02-28" in problem(early)["detail"]
    future = await client.get("/report/mail", params={"day": "2026-03-02"})
    assert "2026-03-02 is not there yet: in UTC it is 2026-03-01" in problem(future)["detail"]
    assert (await client.get("/report", params={"day": "yesterday"})).status_code == 400
    assert (await client.get("/report/mail", params={"language": "xx"})).status_code == 400


async def test_extreme_days(client: httpx.AsyncClient) -> None:
    """Days at the ends of the calendar are answered like others."""
    for day in ("0001-01-01", "0001-01-07", "9999-12-31"):
        assert (await client.get("/report", params={"day": day})).status_code == 404


async def test_the_mail(client: httpx.AsyncClient) -> None:
    """In the language that was asked for."""
    params = {"day": TODAY, "language": "pt-BR"}
    mail = (await client.get("/report/mail", params=params)).json()
    assert mail["subject"].startswith("zapvisor, dom., 1 de mar.: Nenhuma conexão")
    assert "Relatório diário, domingo, 1 de março de 2026" in mail["text"]
    assert '<html lang="pt-BR">' in mail["html"]


async def test_sending_it(client: httpx.AsyncClient, control: Control) -> None:
    """It is queued each time; without a channel that is said."""
    for _ in range(2):
        answer = await client.post("/report/mail", params={"day": TODAY})
        assert (answer.status_code, answer.json()) == (202, {"day": TODAY, "channels": ["mail"]})
    control.reporter.channels = ()
    refused = await client.post("/report/mail", params={"day": TODAY})
    assert (refused.status_code, problem(refused)["type"]) == (409, "urn:zapvisor:no-channel")


async def test_what_the_operator_reads(zapvisor: Run, control: Control) -> None:
    """The text, the figures, or that it is sent; one at a time."""
    shown = await zapvisor("report", "--day", TODAY)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("Daily report, Sunday, March 1, 2026\n")
    assert "This day is not over" in shown.out
    assert shown.out == (await zapvisor("report", "--day", TODAY, "--text")).out
    figures = await zapvisor("report", "--day", TODAY, "--json")
    assert figures.json["total"]["received"] == 3
    sent = await zapvisor("report", "--day", TODAY, "--send")
    assert sent.out == "The report of 2026-03-01 is on its way: mail\n"
    assert (await zapvisor("report", "--json", "--send")).code == 2


async def test_html_into_a_file(zapvisor: Run, control: Control, short_path: Path) -> None:
    """For its owner alone."""
    result = await zapvisor("report", "--day", TODAY, "--html", "out.html")
    assert result.code == 0
    assert result.out.endswith("written to out.html\n")
    file = short_path / "out.html"
    assert "<table" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    nowhere = await zapvisor("report", "--day", TODAY, "--html", "no/such/place.html")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert "cannot be written" in nowhere.err


async def test_wrong_days_on_the_command_line(zapvisor: Run, control: Control) -> None:
    """Said before, or by, the daemon."""
    wrong = await zapvisor("report", "--day", "21.11.2026")
    assert wrong.code == 2
    assert "write it like 2026-11-21" in wrong.err
    early = await zapvisor("report", "--day", "2020-01-01")
    assert early.code == 1
    assert "there is nothing from 2020-01-01" in early.err


async def test_a_daemon_without_it(short_path: Path) -> None:
    """It says so."""
    async with open_control(short_path / "control.sock", complete=False) as control:
        transport = httpx.AsyncHTTPTransport(uds=str(control.path))
        async with httpx.AsyncClient(transport=transport, base_url="http://zapvisor") as client:
            answer = await client.get("/report")
            assert problem(answer)["detail"] == "this daemon runs without reports"


async def test_the_configuration_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time zone that it names, else the system's; channels that take reports."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    storage = MemoryStorage(lambda: 0.0)
    await storage.ensure_connection("sales", ConversationRules())

    def reporter(zone: str) -> Reporter:
        config = Config(
            report=ReportConfig(timezone=zone),
            channels=(
                ChannelConfig(name="mail", url="json://localhost"),
                ChannelConfig(name="alarm", url="json://localhost", kinds=("alert",)),
            ),
        )
        return make_reporter(config, storage, lambda: 20 * 3600.0)

    assert reporter("").channels == ("mail",)
    assert (await reporter("").make(dt.date(1970, 1, 2))).zone == "Asia/Tokyo"
    assert (await reporter("UTC").make(dt.date(1970, 1, 1))).zone == "UTC"
