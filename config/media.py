"""``[media]``: which files are fetched, and where they are kept."""

import typing as t

import attrs

from config import s3
from config.kinds import Count, Duration, FilePath, Names, Secret, Size

_MEDIA_KINDS: t.Final = ("image", "video", "audio", "document", "sticker", "sticker_pack")


@attrs.frozen(kw_only=True)
class MediaConfig:
    """``[media]``"""

    download: bool = True
    kinds: t.Annotated[
        tuple[str, ...],
        Names(f"some of {', '.join(_MEDIA_KINDS)}", "|".join(_MEDIA_KINDS), allow_empty=True),
    ] = _MEDIA_KINDS
    max_size: t.Annotated[int, Size(at_most=4 << 30)] = 256 * 1024 * 1024
    concurrency: t.Annotated[int, Count(1, 64)] = 4
    retention: t.Annotated[float, Duration(at_least=0, at_most=3650 * 86400)] = 0.0
    """Seconds; 0 keeps files for ever."""
    ask_phone: bool = True
    directory: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; ``Config.media_directory`` is absolute."""
    s3_bucket: s3.Bucket = ""
    s3_prefix: s3.Prefix = ""
    s3_endpoint: s3.Endpoint = ""
    s3_region: s3.Region = ""
    s3_access_key: t.Annotated[str, Secret()] = attrs.field(default="", repr=False)
    s3_secret_key: t.Annotated[str, Secret()] = attrs.field(default="", repr=False)
    hosts: t.Annotated[
        tuple[str, ...], Names("host names, perhaps with a port", r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")
    ] = ("mmg.whatsapp.net",)
    ca_file: t.Annotated[str, FilePath(allow_empty=True)] = ""
    """As written; ``Config.media_ca_file`` is absolute."""
