"""The keys of an S3-compatible store, as ``[media]`` and ``[export]`` have them."""

import typing as t

from config.kinds import Text, Url

Bucket: t.TypeAlias = t.Annotated[
    str, Text("the name of a bucket, or empty", r"[a-zA-Z0-9._-]{3,255}", allow_empty=True)
]
Prefix: t.TypeAlias = t.Annotated[
    str, Text("a path without / at its ends", r"[^/](.*[^/])?", allow_empty=True)
]
Endpoint: t.TypeAlias = t.Annotated[str, Url(("https", "http"), allow_empty=True)]
Region: t.TypeAlias = t.Annotated[
    str, Text("a region such as us-east-1", r"[a-zA-Z0-9-]{1,64}", allow_empty=True)
]
