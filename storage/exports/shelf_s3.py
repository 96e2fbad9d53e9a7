"""Exports in an S3 bucket: one object for each file, below the name of the export.

An export is there when its manifest is: that is put last, and deleted first.
"""

import pathlib
import re
import typing as t

import obstore
from obstore.exceptions import BaseError

from storage.blobs import S3Settings
from storage.blobs_s3 import PART, PARTS_AT_ONCE, describe, open_store
from storage.errors import StorageUnavailableError
from storage.exports.model import MANIFEST

_AT_ONCE: t.Final = 500  # objects deleted
_PLACE: t.Final = re.compile(r"(https?://[^/\s]+)/\S*")


class S3Shelf:
    """The files of one export. Its methods block, each for as long as its requests may take."""

    def __init__(self, settings: S3Settings, name: str) -> None:
        self.name = name
        self._settings = settings
        self._store = open_store(settings)

    @property
    def place(self) -> str:
        """``s3://bucket/prefix/name``."""
        prefix = f"{self._settings.prefix}/" if self._settings.prefix else ""
        return f"s3://{self._settings.bucket}/{prefix}{self.name}"

    def put(self, name: str, path: pathlib.Path) -> None:
        """Upload a file, in parts if it is large.

        Raises:
            StorageUnavailableError: it could not be.
        """
        try:
            obstore.put(
                self._store, self._key(name), path, chunk_size=PART, max_concurrency=PARTS_AT_ONCE
            )
        except BaseError as error:
            raise self._away(error, name) from error

    def size(self, name: str) -> int | None:
        """Bytes of a file there; None: there is none.

        Raises:
            StorageUnavailableError: it does not answer.
        """
        try:
            found: int = obstore.head(self._store, self._key(name))["size"]
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise self._away(error, name) from error
        return found

    def read(self, name: str, target: t.IO[bytes]) -> bool:
        """Download a file; False: there is none.

        Raises:
            StorageUnavailableError: it does not answer.
        """
        try:
            for piece in obstore.get(self._store, self._key(name)):
                target.write(bytes(piece))
        except FileNotFoundError:
            return False
        except BaseError as error:
            raise self._away(error, name) from error
        return True

    def remove(self) -> None:
        """Delete the whole export, the manifest first.

        Raises:
            StorageUnavailableError: it does not answer; what is left is no export any more.
        """
        try:
            if self.size(MANIFEST) is not None:
                obstore.delete(self._store, self._key(MANIFEST))
            for page in obstore.list(self._store, f"{self.name}/", chunk_size=_AT_ONCE):
                if paths := [each["path"] for each in page]:
                    obstore.delete(self._store, paths)
        except BaseError as error:
            raise self._away(error) from error

    def _key(self, name: str) -> str:
        return f"{self.name}/{name}"

    def _away(self, error: Exception, name: str | None = None) -> StorageUnavailableError:
        """Without the names of files, which may be those of people."""
        said = _PLACE.sub(r"\1/…", str(error))
        if name is not None:
            said = said.replace(name, "…")
        return StorageUnavailableError(describe(self._settings.bucket, said))
