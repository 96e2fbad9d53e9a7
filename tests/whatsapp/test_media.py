"""Files as Baileys makes them, in pieces of any size, whole, cut and corrupted.

The vectors are made by vectors/make_media_vectors.mjs, which says how.
"""

import hashlib
import json
import pathlib
import typing as t
import urllib.parse

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatsapp import media
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.media_source import MediaSource

VECTORS = json.loads((pathlib.Path(__file__).parent / "vectors" / "media_vectors.json").read_text())
KEY = bytes(range(32))


def pattern(length: int) -> bytes:
    return bytes(at % 251 for at in range(length))


def source_of(vector: dict[str, t.Any]) -> MediaSource:
    return MediaSource(
        kind=vector["kind"],
        media_key=bytes.fromhex(vector["media_key"]),
        sha256=bytes.fromhex(vector["sha256"]),
        enc_sha256=bytes.fromhex(vector["enc_sha256"]),
        length=vector["length"],
    )


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """``data`` cut at the given sizes in turn, over and over."""
    cut, at, turn = [], 0, 0
    while at < len(data):
        cut.append(data[at : at + sizes[turn % len(sizes)]])
        at += len(cut[-1])
        turn += 1
    return cut


def encrypted(plaintext: bytes, kind: str = "document") -> tuple[bytes, MediaSource]:
    file, encryptor = media.encrypt(kind, KEY, plaintext)
    return file, encryptor.source(direct_path="/v/x")


# ---- against Baileys


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=lambda vector: vector["kind"])
def test_keys_agree(vector: dict[str, str]) -> None:
    """Every kind derives the keys Baileys derives."""
    keys = media.expand_key(bytes.fromhex(vector["media_key"]), vector["kind"])
    assert (keys.iv.hex(), keys.cipher.hex(), keys.mac.hex()) == (
        vector["iv"],
        vector["cipher"],
        vector["mac"],
    )


@pytest.mark.parametrize("vector", VECTORS["files"], ids=lambda v: f"{v['kind']}-{v['length']}")
def test_files_agree(vector: dict[str, t.Any]) -> None:
    """A file made by Baileys opens, and ours is the same to the byte."""
    plaintext, file = pattern(vector["length"]), bytes.fromhex(vector["file"])
    source = source_of(vector)
    assert media.decrypt(source, file) == plaintext
    made, encryptor = media.encrypt(source.kind, source.media_key, plaintext)
    assert made == file
    assert encryptor.source(direct_path="") == source
    url = media.upload_url("host:1", source.kind, source.enc_sha256, "a&b")
    path, _, query = url.partition("?")
    assert path.rstrip("=").rpartition("/")[2] == vector["token"]
    assert urllib.parse.parse_qs(query)["auth"] == ["a&b"]


def test_every_kind_has_a_form() -> None:
    """Kinds are known by name; others are an error of ours."""
    for kind, form in media.FORMS.items():
        file, encryptor = media.encrypt(kind, KEY, b"x")
        assert media.decrypt(encryptor.source(direct_path=""), file) == b"x"
        assert form.upload_path.startswith("/mms/")
    with pytest.raises(LocalProtocolError):
        media.encrypt("poem", KEY, b"")
    with pytest.raises(LocalProtocolError):
        media.MediaDecryptor(MediaSource(kind="poem", media_key=KEY))
    with pytest.raises(LocalProtocolError):
        media.MediaEncryptor("image", b"short")


# ---- in pieces


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.sampled_from([KEY, b""]),
)
def test_pieces_change_nothing(plaintext: bytes, sizes: list[int], key: bytes) -> None:
    """However file and plaintext are cut, the same comes out, and ``finish`` verifies it."""
    encryptor = media.MediaEncryptor("image", key)
    file = b"".join(map(encryptor.feed, pieces(plaintext, sizes))) + encryptor.finish()
    assert file == media.encrypt("image", key, plaintext)[0]
    decryptor = media.MediaDecryptor(encryptor.source(direct_path=""))
    out = b"".join(map(decryptor.feed, pieces(file, sizes))) + decryptor.finish()
    assert out == plaintext
    assert decryptor.sha256 == encryptor.sha256 == hashlib.sha256(plaintext).digest()
    assert decryptor.length == encryptor.length == len(plaintext)


def test_memory_is_constant() -> None:
    """Nothing is kept back but a MAC and a block."""
    file, source = encrypted(pattern(100_000))
    decryptor, out = media.MediaDecryptor(source), 0
    for piece in pieces(file, [1000]):
        out += len(decryptor.feed(piece))
        assert decryptor._received - out <= 1000 + media.MAC_LENGTH + 2 * media.BLOCK
    assert out + len(decryptor.finish()) == 100_000


# ---- corrupted


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100), st.data())
def test_a_changed_bit_is_found(plaintext: bytes, data: st.DataObject) -> None:
    """Anywhere, with and without hashes to compare."""
    file, source = encrypted(plaintext)
    bit = data.draw(st.integers(0, len(file) * 8 - 1))
    changed = bytearray(file)
    changed[bit // 8] ^= 1 << bit % 8
    for claims in (source, attrs.evolve(source, sha256=b"", enc_sha256=b"", length=None)):
        with pytest.raises(media.MediaCorruptError):
            media.decrypt(claims, bytes(changed))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100), st.data())
def test_a_cut_file_is_found(plaintext: bytes, data: st.DataObject) -> None:
    """However short, with and without hashes to compare."""
    file, source = encrypted(plaintext)
    cut = file[: data.draw(st.integers(0, len(file) - 1))]
    for claims in (source, attrs.evolve(source, sha256=b"", enc_sha256=b"", length=None)):
        with pytest.raises(media.MediaCorruptError):
            media.decrypt(claims, cut)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enc_sha256": b"\1" * 32}, "hash of the file"),
        ({"sha256": b"\1" * 32}, "hash of the content"),
        ({"length": 99}, "100 bytes, not 99"),
        ({"length": 101}, "100 bytes, not 101"),
        ({"length": 10}, "more than"),
        ({"media_key": bytes(32)}, "MAC"),
        ({"media_key": b"12"}, "a media key of 2 bytes"),
        ({"kind": "image"}, "MAC"),
        ({"media_key": b""}, "hash of the file|more than"),
    ],
)
def test_false_claims(change: dict[str, t.Any], message: str) -> None:
    """Each claim of the source is checked, and told apart in the error."""
    file, source = encrypted(pattern(100))
    if "media_key" in change or "kind" in change:
        source = attrs.evolve(source, enc_sha256=b"")
    with pytest.raises(media.MediaCorruptError, match=message):
        media.decrypt(attrs.evolve(source, **change), file)


def test_a_file_too_long_is_cut_short() -> None:
    """More than announced is refused as it comes, not at the end."""
    file, source = encrypted(pattern(1000))
    decryptor = media.MediaDecryptor(source)
    decryptor.feed(file)
    with pytest.raises(media.MediaCorruptError, match="more than"):
        decryptor.feed(b"!")


def test_a_valid_mac_over_bad_padding() -> None:
    """Made by who knows the key, and still no file."""
    from whatsapp.e2ee.primitives import hmac_sha256

    keys = media.expand_key(KEY, "image")
    file = bytes(32)
    file += hmac_sha256(keys.mac, keys.iv + file)[: media.MAC_LENGTH]
    with pytest.raises(media.MediaCorruptError, match="padding"):
        media.decrypt(MediaSource(kind="image", media_key=KEY), file)


def test_not_encrypted() -> None:
    """A channel's file is only hashed."""
    source = MediaSource(kind="image", sha256=hashlib.sha256(b"abc").digest(), length=3)
    assert media.decrypt(source, b"abc") == b"abc"
    with pytest.raises(media.MediaCorruptError):
        media.decrypt(source, b"abd")


# ---- addresses


def urls(hosts: tuple[str, ...] = ("a.example", "b.example:8443"), **fields: str) -> list[str]:
    source = MediaSource(kind="sticker", enc_sha256=b"\xff" * 32, **fields)
    return list(media.download_urls(source, hosts))


def test_download_urls() -> None:
    """Each host once, path and query as they came, then what selects the file."""
    first, second = urls(direct_path="/v/f.enc?ccb=11-4&oh=x")
    assert first.startswith("https://a.example/v/f.enc?ccb=11-4&oh=x&hash=____")
    assert first.endswith("8=&mms-type=image&__wa-mms=")
    assert second.startswith("https://b.example:8443/v/f.enc?")
    (bare,) = urls(("a.example",), direct_path="/v/f.enc")
    assert bare.startswith("https://a.example/v/f.enc?hash=")


def test_what_the_path_says_is_not_said_twice() -> None:
    """A path that brings these parameters along keeps its own."""
    (url,) = urls(("a",), direct_path="/v/f?hash=1&mms-type=2&__wa-mms=")
    assert url == "https://a/v/f?hash=1&mms-type=2&__wa-mms="


def test_the_url_of_a_message() -> None:
    """Its path serves where there is no other; its host only if it is WhatsApp's."""
    own = "https://media-gru.cdn.whatsapp.net/v/g?x=1"
    (first, last) = urls(("a",), direct_path="/v/f?y=1", url=own)
    assert first.startswith("https://a/v/f?y=1&")
    assert last.startswith("https://media-gru.cdn.whatsapp.net/v/f?y=1&")
    assert urls(("a",), url="https://evil.example/v/g?x=1")[0].startswith("https://a/v/g?x=1&")
    for foreign in (
        "http://mmg.whatsapp.net/v/g",
        "https://evilwhatsapp.net/v/g",
        "https://me@mmg.whatsapp.net/v/g",
        "https://mmg.whatsapp.net:22/v/g",
    ):
        assert len(urls(("a",), url=foreign)) == 1
    assert len(urls(("mmg.whatsapp.net",), url="https://mmg.whatsapp.net/v/g")) == 1


@pytest.mark.parametrize(
    "path",
    ["", "v/f", "@evil.example/v", ".evil.example/", ":80/", "//evil", "/a b", "/a#b", "/a\\b",
     "/\x00", "/a\r\nHost: x", "/ü", "/" + "x" * 5000],
)  # fmt: skip
def test_no_path_leads_elsewhere(path: str) -> None:
    """What would change the host, or is no path, is refused."""
    with pytest.raises(RemoteProtocolError):
        urls(direct_path=path)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_hosts_are_ours_whatever_the_message_says(path: str, url: str) -> None:
    """Every address is https, at a host of ours or WhatsApp's, or there is none."""
    try:
        made = urls(("a.example",), direct_path=path, url=url)
    except RemoteProtocolError:
        return
    for each in made:
        parts = urllib.parse.urlsplit(each)
        assert parts.scheme == "https"
        assert parts.netloc == "a.example" or parts.netloc.endswith(".whatsapp.net")
