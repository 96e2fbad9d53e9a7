"""``zapvisor pair``: shows codes as WhatsApp gives them out, until one has been scanned."""

import collections.abc as cabc
import typing as t

from daemon.client import ControlClient
from daemon.errors import RefusedError
from daemon.screen import console, draw_qr, print_json

Show: t.TypeAlias = cabc.Callable[[dict[str, t.Any]], None]


def pair(
    client: ControlClient, name: str, *, force: bool, phone: str | None, as_json: bool
) -> None:
    """Begin pairing and follow it to its end; with ``phone`` by a code to type there.

    Raises:
        RefusedError: the pairing failed; the text says why.
    """
    path = f"/connections/{name}"
    before = client.get(f"{path}/pairing", after=0, wait=0.05)
    version = 0 if before is None else before["version"]
    client.post(f"{path}/pair", force=force, phone=phone)
    show = print_json if as_json else _Screen()
    while True:
        news = client.get(f"{path}/pairing", after=version)
        if news is None:
            continue  # nothing new within the long poll; the daemon ends a pairing, not we
        version = news["version"]
        show(news)
        if news["state"] == "paired":
            return
        if news["state"] == "failed":
            raise RefusedError(f"{name} was not paired: {news['sentence']}")


class _Screen:
    """Draws the newest code in the place of the one before."""

    def __init__(self) -> None:
        self._console = console()

    def __call__(self, news: dict[str, t.Any]) -> None:
        screen = self._console
        if news["state"] != "code":
            if news["state"] != "failed":
                screen.print(news["sentence"], markup=False)
            return
        if news["code"] is not None:
            self._show_typed(news)
            return
        terminal = screen.is_terminal
        drawing = draw_qr(news["qr"], colours=terminal)
        if terminal:
            screen.clear()
        screen.file.write(drawing + "\n")
        width = len(drawing.splitlines()[0])
        if terminal and screen.width < width - len("\x1b[97;40m\x1b[0m"):
            screen.print("The window is too narrow for the code: widen it, and wait for the next.")
        screen.print("On the phone: WhatsApp, Settings, Linked devices, Link a device.")
        if news["expires_in"] is not None:
            screen.print(f"This code is good for {news['expires_in']:.0f} s; a new one follows.")
        screen.file.flush()

    def _show_typed(self, news: dict[str, t.Any]) -> None:
        code = news["code"]
        parts = [code] if "-" in code else [code[:4], code[4:]]
        screen = self._console
        screen.print("-".join(part for part in parts if part), style="bold", markup=False)
        screen.print(
            "On the phone: WhatsApp, Settings, Linked devices, Link a device,"
            " Link with phone number instead; then type the code."
        )
        if news["expires_in"] is not None:
            screen.print(f"This code is good for {news['expires_in']:.0f} s.")
        screen.file.flush()
