"""Sealed values open only where they were sealed; the key comes from one of three places."""

import base64
import os
import pathlib
import stat

import pytest

from storage.errors import SealError
from storage.seal import Sealer, key_source, load_or_create_key

KEY = bytes(range(32))


def test_what_is_sealed_opens() -> None:
    """Under the same key and place; a nonce is never used twice."""
    sealer = Sealer(KEY)
    one, two = (sealer.seal("sales", "session", "1.0", b"secret") for _ in range(2))
    assert one != two
    assert b"secret" not in one
    assert sealer.open("sales", "session", "1.0", one) == b"secret"
    assert sealer.open("sales", "session", "1.0", two) == b"secret"


def test_the_format_is_fixed() -> None:
    """Version, nonce, ciphertext, tag: computed with the cipher directly."""
    sealer = Sealer(KEY, random=lambda count: b"\x07" * count)
    sealed = sealer.seal("sales", "session", "1.0", b"secret")
    assert sealed[:13] == b"\x01" + b"\x07" * 12
    assert len(sealed) == 13 + len(b"secret") + 16


@pytest.mark.parametrize(
    "place", [("other", "session", "1.0"), ("sales", "prekey", "1.0"), ("sales", "session", "2.0")]
)
def test_a_moved_value_does_not_open(place: tuple[str, str, str]) -> None:
    """Connection, kind and key are part of the seal."""
    sealer = Sealer(KEY)
    with pytest.raises(SealError, match="another secret key, or altered"):
        sealer.open(*place, sealer.seal("sales", "session", "1.0", b"secret"))


def test_an_altered_value_does_not_open() -> None:
    """No byte may change, be added, or be missing."""
    sealer = Sealer(KEY)
    sealed = sealer.seal("sales", "session", "1.0", b"secret")
    damaged = [sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :] for i in range(len(sealed))]
    for bad in (*damaged, sealed[:-1], sealed + b"x", b"", b"\x01", sealed[:20]):
        with pytest.raises(SealError):
            sealer.open("sales", "session", "1.0", bad)


def test_another_key_does_not_open() -> None:
    """The message tells which record it was, and nothing secret."""
    sealed = Sealer(KEY).seal("sales", "session", "1.0", b"secret")
    with pytest.raises(SealError, match="session record of 'sales'"):
        Sealer(bytes(32)).open("sales", "session", "1.0", sealed)
    assert "key" not in repr(Sealer(KEY))


def test_keys_of_another_length_are_refused() -> None:
    """32 bytes."""
    with pytest.raises(SealError, match="16 bytes"):
        Sealer(bytes(16))


def test_key_file_is_made_once(tmp_path: pathlib.Path) -> None:
    """The first run makes it, readable by nobody else; later runs read it."""
    path = tmp_path / "made" / "secret.key"
    key = load_or_create_key(path, {})
    assert len(key) == 32
    assert load_or_create_key(path, {}) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["secret.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_readable_key_file_is_refused(tmp_path: pathlib.Path, mode: int) -> None:
    """The message gives the cure."""
    path = tmp_path / "secret.key"
    load_or_create_key(path, {})
    path.chmod(mode)
    with pytest.raises(SealError, match="chmod 600"):
        load_or_create_key(path, {})


def test_key_of_the_environment(tmp_path: pathlib.Path) -> None:
    """In hex or base64; it wins over the file, which is not made."""
    path = tmp_path / "secret.key"
    for text in (KEY.hex(), base64.b64encode(KEY).decode(), f" {KEY.hex().upper()}\n"):
        assert load_or_create_key(path, {"ZAPVISOR_SECRET_KEY": text}) == KEY
    for text in ("zz", "00" * 31, base64.b64encode(bytes(33)).decode()):
        with pytest.raises(SealError, match="ZAPVISOR_SECRET_KEY") as caught:
            load_or_create_key(path, {"ZAPVISOR_SECRET_KEY": text})
        assert text not in str(caught.value)
    assert not path.exists()


def test_key_of_systemd(tmp_path: pathlib.Path) -> None:
    """A credential, raw or in text, comes before the file."""
    path = tmp_path / "secret.key"
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for data in (KEY, KEY.hex().encode() + b"\n"):
        (tmp_path / "zapvisor-key").write_bytes(data)
        assert load_or_create_key(path, environ) == KEY
    (tmp_path / "zapvisor-key").unlink()
    assert load_or_create_key(path, environ) == load_or_create_key(path, {})


def test_a_key_file_that_cannot_be_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which file, and what to do; no other key takes its place."""
    path = tmp_path / "secret.key"
    path.mkdir()
    with pytest.raises(SealError, match=rf"{path} cannot be read: Is a directory"):
        load_or_create_key(path, {})
    path.rmdir()
    key = load_or_create_key(path, {})

    def deny(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", deny)
        with pytest.raises(SealError, match=r"Permission denied; give the file to this user"):
            load_or_create_key(path, {})
    assert load_or_create_key(path, {}) == key


def test_a_key_file_that_cannot_be_made(tmp_path: pathlib.Path) -> None:
    """No directory of that name can be made: it says so."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "secret.key"
    with pytest.raises(SealError, match=rf"{path} cannot be read|cannot be written"):
        load_or_create_key(path, {})


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"00" * 31, b"\xff" * 64])
def test_a_key_file_of_the_wrong_length(tmp_path: pathlib.Path, content: bytes) -> None:
    """It is named, its content is not, and it stays as it is."""
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SealError, match=f"{path} does not hold a secret key of 32 bytes"):
        load_or_create_key(path, {})
    assert path.read_bytes() == content


def test_the_source_of_the_key_is_named(tmp_path: pathlib.Path) -> None:
    """In the order in which they are looked at."""
    path = tmp_path / "secret.key"
    assert key_source(path, {}) == str(path)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert key_source(path, environ) == str(path)
    (tmp_path / "zapvisor-key").write_bytes(KEY)
    assert key_source(path, environ) == str(tmp_path / "zapvisor-key")
    assert key_source(path, environ | {"ZAPVISOR_SECRET_KEY": "x"}) == "ZAPVISOR_SECRET_KEY"
