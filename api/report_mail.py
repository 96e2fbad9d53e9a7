"""A report as a mail: HTML that every mail client shows, and the same as text."""

import functools
import typing as t

import jinja2

from actors.report_values import Report, Way
from api.report_verdict import Level
from api.report_view import View, view_of
from api.report_words import TEMPLATES, words
from storage.notifications import Content

BAR_HEIGHT: t.Final = 64  # pixels of the greatest hour
TEXT_BAR: t.Final = 40  # characters of the greatest hour

COLOURS: t.Final = {
    "ink": "#1c2430",
    "muted": "#5b6675",
    "line": "#dfe4ea",
    "page": "#eef1f4",
    "paper": "#ffffff",
    "received": "#1f5f99",
    "sent": "#8fbbe0",
}
LEVELS: t.Final[dict[Level, str]] = {"good": "#1e7f4f", "fair": "#b26a00", "bad": "#b3261e"}
WAYS: t.Final = {
    Way.ONLINE: "#3f9d6d",
    Way.DOWN: "#c4352b",
    Way.OFF: "#b9c2cc",
    Way.UNKNOWN: "#e6eaee",
}


def mail_of(report: Report, language: str) -> Content:
    """Subject, text and HTML in a language; KeyError: there is no such language."""
    view = view_of(report, words(language))
    html, text = _templates()
    return Content(subject=view.subject, text=_render(text, view), html=_render(html, view))


def _render(template: jinja2.Template, view: View) -> str:
    """Names come from people: the HTML template escapes whatever it is given."""
    return template.render(
        view=view,
        words=words(view.language),
        colour=COLOURS,
        levels=LEVELS,
        ways=WAYS,
        bar_height=BAR_HEIGHT,
        text_bar=TEXT_BAR,
    )


@functools.cache
def _templates() -> tuple[jinja2.Template, jinja2.Template]:
    """That of the HTML, and that of the text; read once."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=jinja2.select_autoescape(("html.j2",), default_for_string=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2"), environment.get_template("report.txt.j2")
