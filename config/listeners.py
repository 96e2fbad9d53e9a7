"""``[control]`` and ``[http]``: where the daemon answers."""

import typing as t

import attrs

from config.kinds import Count, FileMode, FilePath, ListenAddress, Names, Text, split_address


@attrs.frozen(kw_only=True)
class ControlConfig:
    """``[control]``"""

    socket: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; ``Config.control_socket`` is absolute."""
    mode: t.Annotated[int, FileMode()] = 0o660
    group: t.Annotated[
        str,
        Text("the name of a group, or empty", r"[A-Za-z0-9_.-]{1,64}", allow_empty=True),
    ] = ""
    """Whom the socket belongs to besides its user; empty: that user's own group."""


_ORIGIN: t.Final = r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?"
_HOST: t.Final = r"[A-Za-z0-9.-]+"


@attrs.frozen(kw_only=True)
class HttpConfig:
    """``[http]``"""

    listen: t.Annotated[str, ListenAddress()] = "127.0.0.1:8720"
    """Empty: no HTTP besides the control socket. Port 0: any free one."""
    allow_remote: bool = False
    hosts: t.Annotated[tuple[str, ...], Names("host names", _HOST, allow_empty=True)] = ()
    """More names that the ``Host`` of a request may hold than ``localhost`` and addresses."""
    cors_origins: t.Annotated[
        tuple[str, ...], Names('origins such as "https://app.example"', _ORIGIN, allow_empty=True)
    ] = ()
    rate_limit: t.Annotated[int, Count(1, 100_000)] = 50
    """Requests per second of one token, or of one address without a token."""

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen at; None: do not."""
        return split_address(self.listen) if self.listen else None
