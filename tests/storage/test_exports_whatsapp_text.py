"""The text of export chat, of phones in several languages, is read as what was said."""

import datetime as dt
import typing as t
import zoneinfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from storage.exports.rows import Conversation, Message, Stretch
from storage.exports.text_form import TextForm
from storage.exports.whatsapp_text import (
    AmbiguousDatesError,
    DateOrder,
    Line,
    Survey,
    TextError,
    in_zone,
    looks_like_head,
    read_lines,
)


def read(text: str, asked: DateOrder | None = None) -> list[Line]:
    """All messages of a file."""
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    survey = Survey()
    for line in lines:
        survey.see(line)
    return list(read_lines(lines, survey.order(asked)))


def naive(year: int, month: int, day: int, *time: int) -> dt.datetime:
    return dt.datetime(year, month, day, *time)  # noqa: DTZ001 - a phone's local time


LOCALES = {
    "pt-BR Android": (
        "21/11/2026 09:30 - As mensagens e ligações são protegidas com a criptografia de ponta a"
        " ponta.\n21/11/2026 09:30 - Ana Lima: bom dia\ntudo bem?\n"
        "21/11/2026 21:31 - Ana Lima: <Mídia oculta>\n"
        "22/11/2026 00:05 - Loja: IMG-20261122-WA0001.jpg (arquivo anexado)\na legenda\n"
        "22/11/2026 00:06 - Loja: Você apagou esta mensagem\n"
    ),
    "en-US Android": (
        "11/21/26, 9:30\u202fAM - Messages and calls are end-to-end encrypted.\n"
        "11/21/26, 9:30\u202fAM - Ana Lima: bom dia\ntudo bem?\n"
        "11/21/26, 9:31\u202fPM - Ana Lima: <Media omitted>\n"
        "11/22/26, 12:05\u202fAM - Loja: IMG-20261122-WA0001.jpg (file attached)\na legenda\n"
        "11/22/26, 12:06\u202fAM - Loja: You deleted this message\n"
    ),
    "en-GB Android": (
        "21/11/2026, 09:30 - Messages and calls are end-to-end encrypted.\n"
        "21/11/2026, 09:30 - Ana Lima: bom dia\ntudo bem?\n"
        "21/11/2026, 21:31 - Ana Lima: <Media omitted>\n"
        "22/11/2026, 00:05 - Loja: IMG-20261122-WA0001.jpg (file attached)\na legenda\n"
        "22/11/2026, 00:06 - Loja: This message was deleted\n"
    ),
    "de Android": (
        "21.11.26, 09:30 - Nachrichten und Anrufe sind Ende-zu-Ende-verschlüsselt.\n"
        "21.11.26, 09:30 - Ana Lima: bom dia\ntudo bem?\n"
        "21.11.26, 21:31 - Ana Lima: <Medien ausgeschlossen>\n"
        "22.11.26, 00:05 - Loja: IMG-20261122-WA0001.jpg (Datei angehängt)\na legenda\n"
        "22.11.26, 00:06 - Loja: Du hast diese Nachricht gelöscht.\n"
    ),
    "es Android": (
        "21/11/26, 9:30 a.\u00a0m. - Los mensajes y las llamadas están cifrados.\n"
        "21/11/26, 9:30 a.\u00a0m. - Ana Lima: bom dia\ntudo bem?\n"
        "21/11/26, 9:31 p.\u00a0m. - Ana Lima: <Multimedia omitido>\n"
        "22/11/26, 12:05 a.\u00a0m. - Loja: IMG-20261122-WA0001.jpg (archivo adjunto)\na legenda\n"
        "22/11/26, 12:06 a.\u00a0m. - Loja: Eliminaste este mensaje.\n"
    ),
    "en-US iOS": (
        "[11/21/26, 9:30:00\u202fAM] Ana Lima: \u200eMessages and calls are encrypted.\r\n"
        "[11/21/26, 9:30:10\u202fAM] Ana Lima: bom dia\r\ntudo bem?\r\n"
        "\u200e[11/21/26, 9:31:12\u202fPM] Ana Lima: \u200eimage omitted\r\n"
        "\u200e[11/22/26, 12:05:00\u202fAM] Loja: \u200e<attached: IMG-20261122-WA0001.jpg>\r\n"
        "a legenda\r\n"
        "[11/22/26, 12:06:59\u202fAM] Loja: \u200eYou deleted this message.\r\n"
    ),
    "pt-BR iOS": (
        "\ufeff[21/11/2026, 09:30:00] Ana Lima: \u200eAs mensagens são protegidas.\r\n"
        "[21/11/2026, 09:30:10] Ana Lima: bom dia\r\ntudo bem?\r\n"
        "\u200e[21/11/2026, 21:31:12] Ana Lima: \u200eimagem ocultada\r\n"
        "\u200e[22/11/2026, 00:05:00] Loja: \u200e<anexado: IMG-20261122-WA0001.jpg>\r\n"
        "a legenda\r\n"
        "[22/11/2026, 00:06:59] Loja: \u200eVocê apagou esta mensagem.\r\n"
    ),
}


@pytest.mark.parametrize("name", LOCALES)
def test_locales(name: str) -> None:
    """The same chat, as each phone writes it."""
    lines = read(LOCALES[name])
    assert [line.at.replace(second=0) for line in lines] == [
        naive(2026, 11, 21, 9, 30),
        naive(2026, 11, 21, 9, 30),
        naive(2026, 11, 21, 21, 31),
        naive(2026, 11, 22, 0, 5),
        naive(2026, 11, 22, 0, 6),
    ]
    system, text, omitted, attached, deleted = lines
    assert system.sender is None
    assert (text.sender, text.text) == ("Ana Lima", "bom dia\ntudo bem?")
    assert (omitted.sender, omitted.omitted) == (
        "Ana Lima",
        "image" if "iOS" in name else "media",
    )
    assert (attached.sender, attached.attachment, attached.text) == (
        "Loja",
        "IMG-20261122-WA0001.jpg",
        "a legenda",
    )
    assert (deleted.sender, deleted.deleted) == ("Loja", True)
    assert text.exact is ("iOS" in name)


@pytest.mark.parametrize(
    ("dates", "order"),
    [
        (["13/01/26", "01/02/26"], DateOrder.DMY),
        (["01/13/26", "02/01/26"], DateOrder.MDY),
        (["2026-02-03", "2026-02-04"], DateOrder.YMD),
        (["02.03.26"], DateOrder.DMY),
        (["01/02/26", "01/03/26", "02/01/26"], DateOrder.MDY),
        (["01/02/26", "02/02/26", "01/03/26"], DateOrder.DMY),
    ],
)
def test_what_dates_tell(dates: list[str], order: DateOrder) -> None:
    """A day after the twelfth, dots, or that time does not go back."""
    survey = Survey()
    for date in dates:
        survey.see(f"{date}, 10:00 - Ana: hi")
    assert survey.order() is order


def test_what_dates_do_not_tell() -> None:
    """Is asked; the answer has to fit."""
    survey = Survey()
    survey.see("01/02/26, 10:00 - Ana: hi")
    survey.see("more")
    with pytest.raises(AmbiguousDatesError, match="--date-order dmy or --date-order mdy"):
        survey.order()
    assert survey.order(DateOrder.MDY) is DateOrder.MDY
    with pytest.raises(TextError, match="cannot be read as ymd"):
        survey.order(DateOrder.YMD)
    mixed = Survey()
    mixed.see("13/01/26, 10:00 - Ana: hi")
    mixed.see("01/13/26, 10:00 - Ana: hi")
    with pytest.raises(TextError, match="no single order"):
        mixed.order()
    with pytest.raises(TextError, match="no line"):
        Survey().order()


def test_what_is_no_export_of_a_chat() -> None:
    """Text before the first message, and a message without end."""
    with pytest.raises(TextError, match="line 1"):
        list(read_lines(["what", "21/11/2026, 10:00 - Ana: hi"], DateOrder.DMY))
    endless = ["21/11/2026, 10:00 - Ana: hi", *["x" * 1000] * 100]
    with pytest.raises(TextError, match="longer than any"):
        list(read_lines(endless, DateOrder.DMY))


def test_who_said_nothing() -> None:
    """Lines that nobody wrote, and names that are unusual."""
    lines = read(
        '21/11/2026, 10:00 - Ana changed the subject to "a: b"\n'
        "21/11/2026, 10:00 - ~\u202fZé: hi\n"
        "21/11/2026, 10:00 - +55 11 99999-0000: hi: there\n"
        "21/11/2026, 10:00 - Ana joined\n"
        "21/11/2026, 10:00 - Ana:\n"
        "21/11/2026, 10:00 - Ana: see 21/11/2026, 10:00 - Bob: no\n"
    )
    assert [(line.sender, line.text) for line in lines] == [
        (None, 'Ana changed the subject to "a: b"'),
        ("Zé", "hi"),
        ("+55 11 99999-0000", "hi: there"),
        (None, "Ana joined"),
        ("Ana", ""),
        ("Ana", "see 21/11/2026, 10:00 - Bob: no"),
    ]


def test_an_hour_that_clocks_show_twice() -> None:
    """The second one, where time would go back otherwise."""
    lines = read(
        "25.10.26, 02:30 - Ana: summer\n"
        "25.10.26, 02:59 - Ana: summer\n"
        "25.10.26, 02:01 - Ana: winter\n"
        "25.10.26, 03:00 - Ana: winter\n"
    )
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    assert [f"{moment:%H:%M}" for moment, _line in in_zone(lines, zone)] == [
        "00:30",
        "00:59",
        "01:01",
        "02:00",
    ]


TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs", "Cc"]),
        st.sampled_from("\n\n: -[]\u2060\u200e/,0123456789<>"),
    ),
    min_size=1,
    max_size=60,
) | st.sampled_from(
    [
        "21/11/2026, 10:00 - Bob: hi",
        "x\n21/11/2026, 10:00 - Bob: hi\n\u2060[21/11/2026, 10:00:00] Bob: hi",
        "a\n\n\nb\n",
        "\n",
        "x\n\u2060",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(st.tuples(TEXTS, st.booleans(), st.integers(0, 10**7)), min_size=1, max_size=8),
    ios=st.booleans(),
    zone=st.sampled_from(["UTC", "America/Sao_Paulo", "Asia/Kolkata"]),
)
def test_what_is_written_is_read(texts: list[tuple[str, bool, int]], ios: bool, zone: str) -> None:
    """Any text, also one that looks like other messages: the same authors, times and texts."""
    assume(not any(text.startswith("\u200e") for text, _mine, _wait in texts))  # a mark of theirs
    begun = dt.datetime(2026, 11, 13, 12, tzinfo=dt.UTC)
    said = []
    for number, (text, mine, wait) in enumerate(texts):
        begun += dt.timedelta(seconds=wait)
        said.append(message(number, text, begun, mine=mine))
    form = TextForm(zone, ios=ios, media=False)
    stretch = Stretch(conversation=CONVERSATION, messages=tuple(said), ends=True)
    [block] = [*form.take(stretch), *form.end()]
    lines = read(block.data.decode(), DateOrder.DMY)[1:]
    assert [(line.sender, line.text) for line in lines] == [
        ("Loja" if mine else "Ana", text) for text, mine, _wait in texts
    ]
    local = zoneinfo.ZoneInfo(zone)
    for line, each in zip(lines, said, strict=True):
        at = each.sent_at.astimezone(local)
        second = at.second if ios else 0
        assert line.at == at.replace(tzinfo=None, microsecond=0, second=second)


@given(st.text(max_size=200))
def test_any_line(line: str) -> None:
    """Is read or not, and raises nothing else."""
    looks_like_head(line)
    survey = Survey()
    survey.see(line)
    for order in DateOrder:
        try:
            list(read_lines([line, line], order))
        except TextError:
            continue


CONVERSATION: t.Final = Conversation(
    id=1,
    connection_id=1,
    connection="sales",
    chat_id=1,
    direct=True,
    name="Ana",
    address="15550001111@s.whatsapp.net",
    status="open",
    opened_at=dt.datetime(2026, 11, 13, tzinfo=dt.UTC),
    last_message_at=dt.datetime(2026, 11, 13, tzinfo=dt.UTC),
    closed_at=None,
    messages=1,
)


def message(number: int, text: str, at: dt.datetime, *, mine: bool) -> Message:
    return Message(
        id=number,
        arrival=number,
        sent_at=at,
        external_id=f"A{number}",
        kind="text",
        from_me=mine,
        sender="1@s.whatsapp.net",
        sender_name="Loja" if mine else "Ana",
        text=text,
    )
