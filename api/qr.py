"""A pairing code as a picture: of characters, of pixels, of lines."""

import io
import typing as t

BORDER: t.Final = 4  # modules of light around it, as the standard asks for
SCALE: t.Final = 8  # pixels per module


def qr_text(text: str, border: int = 2) -> str:
    """Out of half blocks, light on dark: for a terminal, or a page with a fixed-width font."""
    drawing = io.StringIO()
    _code(text).terminal(drawing, border=border, compact=True)
    return drawing.getvalue()


def qr_svg(text: str) -> bytes:
    """Dark on light whatever is behind it, for any size."""
    drawing = io.BytesIO()
    _code(text).save(
        drawing,
        kind="svg",
        scale=SCALE,
        border=BORDER,
        dark="#000",
        light="#fff",
        omitsize=True,
        xmldecl=False,
    )
    return drawing.getvalue()


def qr_png(text: str) -> bytes:
    """Dark on light, some 400 pixels wide."""
    drawing = io.BytesIO()
    _code(text).save(drawing, kind="png", scale=SCALE, border=BORDER)
    return drawing.getvalue()


def _code(text: str) -> t.Any:
    import segno  # only who pairs loads it

    return segno.make(text, error="l", micro=False, boost_error=False)
