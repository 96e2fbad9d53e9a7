"""Time zones by name."""

import datetime as dt
import zoneinfo

from actors.drafts import BadRequestError


def zone_of(name: str | None, parameter: str = "tz") -> dt.tzinfo | None:
    """A time zone; None: none was named.

    Raises:
        BadRequestError: this system knows none of that name.
    """
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise BadRequestError(
            f"{parameter}: this system knows no time zone {name!r}; write it like Europe/Madrid"
        ) from error
