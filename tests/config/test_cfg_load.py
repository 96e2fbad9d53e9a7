"""Loading: everything that is wrong, at once, with its place and its cure."""

import collections.abc as cabc
import typing as t
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.environment import variables
from config.errors import ConfigError, Problem
from config.load import find_config, load_config
from config.model import Config, LogFormat, LogLevel, ReopenFrom

Load = cabc.Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a text; problems then name ``supervisor.toml``."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, **environ: str) -> Config:
        Path("supervisor.toml").write_text(text)
        return load_config(Path("supervisor.toml"), environ)

    return load


def problems(load: Load, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    return [str(problem) for problem in caught.value.problems]


def test_every_kind_of_value(load: Load) -> None:
    """From text to what the program uses."""
    config = load(
        """
        [daemon]
        shutdown_timeout = "1m30s"
        log_format = "json"
        log_level = "debug"
        [storage]
        dsn = "postgres://db/zapvisor"
        pool_size = 9
        [whatsapp]
        url = "ws://127.0.0.1:8080/ws/chat"
        root_key = "00ff"
        [supervision]
        park_interval = "0s"
        retry_limit = 0
        [writer]
        batch_bytes = "512KiB"
        [conversations]
        reopen_from = "last_message"
        groups = false
        [control]
        mode = "0600"
        [[connections]]
        name = "sales"
        [[connections]]
        name = "after-sales_2"
        autostart = false
        reopen_window = "48h"
        reopen_from = "closed_at"
    """.replace("00ff", "00ff" * 16)
    )
    assert config.daemon.shutdown_timeout == 90
    assert (config.daemon.log_format, config.daemon.log_level) == (LogFormat.JSON, LogLevel.DEBUG)
    assert config.storage.dsn == "postgres://db/zapvisor"
    assert config.storage.pool_size == 9
    assert config.whatsapp.root_key_bytes == bytes.fromhex("00ff" * 16)
    assert (config.supervision.park_interval, config.supervision.retry_limit) == (0, 0)
    assert config.writer.batch_bytes == 512 * 1024
    assert config.conversations.reopen_from is ReopenFrom.LAST_MESSAGE
    assert config.control.mode == 0o600
    sales, after = config.connections
    assert (sales.name, sales.autostart, sales.reopen_window) == ("sales", True, None)
    assert (after.autostart, after.reopen_window) == (False, 172800)
    assert after.reopen_from is ReopenFrom.CLOSED_AT


def test_everything_wrong_is_reported_at_once(load: Load) -> None:
    """Unknown names, types, values, ranges, missing names: in file order, then variables."""
    found = problems(
        load,
        """
data_dir = "x"
[deamon]
[daemon]
log_level = "inof"
dsn = "x"
[supervision]
heartbeat_intervall = "3s"
heartbeat_interval = 3
connect_timeout = "5"
retry_limit = "30"
stop_timeout = "11m"
[conversations]
groups = "true"
[[connections]]
name = "Sales Team"
groups = 3
[[connections]]
autostart = false
""",
        ZAPVISOR_DAEMON_LOG_FORMAT="jsn",
        ZAPVISOR_STORAGE_DNS="x",
    )
    duration = 'a duration such as "15s" or "1m30s", 1ms to'
    assert found == [
        "supervisor.toml:2: data_dir: unknown name; did you mean data_dir in [daemon]?",
        "supervisor.toml:3: deamon: unknown name; did you mean daemon?",
        'supervisor.toml:5: daemon.log_level: "inof" is unknown; expected "debug" or "info" or '
        '"warning" or "error"; did you mean "info"?',
        "supervisor.toml:6: daemon.dsn: unknown name; did you mean dsn in [storage]?",
        "supervisor.toml:8: supervision.heartbeat_intervall: unknown name; "
        "did you mean heartbeat_interval?",
        "supervisor.toml:9: supervision.heartbeat_interval: 3 has no unit; "
        f'expected {duration} 10m; did you mean "3s"?',
        'supervisor.toml:10: supervision.connect_timeout: "5" is not a duration; '
        f"expected {duration} 1h",
        'supervisor.toml:11: supervision.retry_limit: "30" is not a whole number; '
        "expected a whole number, 0 to 10000",
        'supervisor.toml:12: supervision.stop_timeout: "11m" is out of range; '
        f"expected {duration} 10m",
        'supervisor.toml:14: conversations.groups: "true" is not a truth value; '
        "expected true or false; did you mean true?",
        'supervisor.toml:16: connections[1].name: "Sales Team" cannot name a connection; '
        "expected 1 to 63 of a-z, 0-9, _ and -, the first a letter or digit; "
        'did you mean "sales-team"?',
        "supervisor.toml:17: connections[1].groups: 3 is not a truth value; expected true or false",
        "supervisor.toml:18: connections[2]: the connection has no name; "
        'expected a key such as name = "sales"',
        'ZAPVISOR_DAEMON_LOG_FORMAT: daemon.log_format: "jsn" is unknown; '
        'expected "auto" or "json" or "text" or "journald"; did you mean "json"?',
        "ZAPVISOR_STORAGE_DNS: unknown variable; did you mean ZAPVISOR_STORAGE_DSN?",
    ]


BAD_VALUES: t.Final = [
    ("daemon", "data_dir", '""', "empty"),
    ("daemon", "data_dir", '"a\\u0000b"', "control characters"),
    ("daemon", "data_dir", "7", "not text"),
    ("daemon", "data_dir", '"~nobody-of-that-name/x"', "no home directory"),
    ("daemon", "shutdown_timeout", '"0s"', "out of range"),
    ("daemon", "shutdown_timeout", "nan", "no unit"),
    ("daemon", "shutdown_timeout", "true", "not text"),
    ("daemon", "log_format", "1", "not text"),
    ("storage", "dsn", "5", "not text"),
    ("storage", "dsn", '"embeded"', 'did you mean "embedded"'),
    ("storage", "dsn", '"mysql://db"', "neither"),
    ("storage", "pool_size", "0", "out of range"),
    ("storage", "pool_size", "true", "true is not a whole number"),
    ("storage", "pool_size", "1.5", "not a whole number"),
    ("whatsapp", "url", '"https://web.whatsapp.com"', "begins with wss:// or ws://"),
    ("whatsapp", "url", '"wss://"', "not such a URL"),
    ("whatsapp", "url", '"wss://host:99999/"', "not such a URL"),
    ("whatsapp", "url", '"wss://[::1/"', "not such a URL"),
    ("whatsapp", "root_key", '"abc"', "64 hexadecimal digits"),
    ("whatsapp", "version", '"2.3000"', "three numbers"),
    ("whatsapp", "device_name", f'"{"x" * 65}"', "too long"),
    ("writer", "batch_bytes", '"4MB5"', "not a size"),
    ("writer", "batch_bytes", '"1B"', "out of range"),
    ("writer", "batch_bytes", "4194304", "not text"),
    ("media", "kinds", '["image", "poem"]', '"poem" is not one of these'),
    ("media", "kinds", '"image"', "not an array"),
    ("media", "kinds", "[1]", "not an array"),
    ("media", "hosts", "[]", "the array is empty"),
    ("media", "hosts", '["https://x"]', "host names"),
    ("media", "max_size", '"5GiB"', "out of range"),
    ("media", "concurrency", "0", "out of range"),
    ("media", "retention", '"-1s"', "not a duration"),
    ("media", "s3_bucket", '"a/b"', "the name of a bucket"),
    ("media", "s3_prefix", '"/a"', "without / at its ends"),
    ("media", "s3_endpoint", '"s3.example"', "begins with https:// or http://"),
    ("media", "s3_secret_key", '"hun ter2"', "its value is not of that form"),
    ("whatsapp", "proxy", '"socks4://user:hunter2@host:1080"', "its value is no such URL"),
    ("whatsapp", "proxy", '"http://user:hunter2@:8080"', "its value is no such URL"),
    ("whatsapp", "proxy", '"http://user:hunter2@host:port"', "its value is no such URL"),
    ("media", "s3_access_key", "5", "its value is not text"),
    ("control", "mode", "660", "not text"),
    ("control", "mode", '"0888"', "octal"),
    ("control", "socket", f'"{"x" * 5000}"', "too long"),
    ("control", "group", '"a b"', "the name of a group"),
    ("http", "listen", '"127.0.0.1"', "an address and a port"),
    ("http", "listen", '":8720"', "an address and a port"),
    ("http", "listen", '"127.0.0.1:99999"', "an address and a port"),
    ("http", "listen", '"127.0.0.300:80"', "an address and a port"),
    ("http", "listen", '"[::x]:80"', "an address and a port"),
    ("http", "listen", "8720", "not text"),
    ("http", "hosts", '["a/b"]', "host names"),
    ("http", "cors_origins", '["*"]', "origins such as"),
    ("http", "cors_origins", '["https://app.example/"]', "origins such as"),
    ("http", "rate_limit", "0", "out of range"),
    ("conversations", "reopen_from", '"closed-at"', 'did you mean "closed_at"'),
    ("conversations", "groups", "1", "not a truth value"),
    ("conversations", "groups", "[true]", "not a truth value"),
]


@pytest.mark.parametrize(("section", "key", "value", "said"), BAD_VALUES)
def test_bad_values(load: Load, section: str, key: str, value: str, said: str) -> None:
    """One problem, at the right place, that says what is wrong or what is right."""
    (found,) = problems(load, f"[{section}]\n\n{key} = {value}\n")
    assert found.startswith(f"supervisor.toml:3: {section}.{key}: ")
    assert said in found
    assert len(found) < 300


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ('[supervision]\nbackoff_initial = "2m"', 2, "longer than supervision.backoff_max"),
        ('[supervision]\nbackoff_max = "500ms"', 2, 'backoff_initial ("1s") is longer'),
        ('[supervision]\nheartbeat_timeout = "14s"', 2, 'heartbeat_interval ("15s")'),
        ('[daemon]\nshutdown_timeout = "4s"', 2, "longer than daemon.shutdown_timeout"),
        ("[writer]\nin_flight = 9999", 2, "more than the mailbox (4096)"),
        (f'[whatsapp]\nroot_key = "{"00" * 32}"', 2, "for the simulator"),
        (f'[daemon]\ndata_dir = "/{"x" * 120}"', 2, "the system allows 107"),
        ('[media]\ns3_bucket = "abc"\ns3_secret_key = "x"', 3, "go together"),
        ('[media]\ns3_endpoint = "https://s3.example"', 2, "names a bucket"),
        ('[http]\nlisten = "0.0.0.0:8720"', 2, "a proxy that speaks TLS"),
        ('[http]\nlisten = "[::]:8720"', 2, "allow_remote = true"),
        ('[http]\nlisten = "zapvisor.example:80"', 2, "outside this machine"),
    ],
)
def test_rules_between_keys(load: Load, text: str, place: int, said: str) -> None:
    """Each key is good, together they are not; the written one is blamed."""
    (found,) = problems(load, text)
    assert found.startswith(f"supervisor.toml:{place}: ")
    assert said in found


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ("127.0.0.1", 8720)),
        ('listen = ""', None),
        ('listen = "[::1]:0"', ("::1", 0)),
        ('listen = "localhost:80"', ("localhost", 80)),
        ('listen = "127.1.2.3:80"', ("127.1.2.3", 80)),
        ('listen = "0.0.0.0:80"\nallow_remote = true', ("0.0.0.0", 80)),
    ],
)
def test_where_to_listen(load: Load, text: str, address: tuple[str, int] | None) -> None:
    """On the loopback, unless it is said that more is meant."""
    assert load(f"[http]\n{text}\n").http.address == address


def test_rules_wait_for_good_values(load: Load) -> None:
    """A bad value is reported once, not again by the rules it takes part in."""
    assert len(problems(load, '[supervision]\nbackoff_initial = "2m"\nbackoff_max = "x"')) == 1


def test_connection_names_are_unique(load: Load) -> None:
    """The second one is blamed, and the first one named."""
    (found,) = problems(load, '[[connections]]\nname = "a"\n[[connections]]\nname = "a"\n')
    assert found == (
        'supervisor.toml:4: connections[2].name: the name "a" is taken by supervisor.toml:2'
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-a", "é", "A", "a" * 64, "a\nb", "con fig"])
def test_connection_names_are_safe_as_file_names(load: Load, name: str) -> None:
    """Nothing that a file system or a shell could take for something else."""
    text = f"[[connections]]\nname = {name.encode('unicode_escape').decode()!r}\n"
    (found,) = problems(load, text)
    assert "cannot name a connection" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("daemon = 3", "daemon: not a table"),
        ("connections = 3", "connections: not an array of tables"),
        ("[connections]\nname = 'a'", "connections: not an array of tables"),
        ("connections = ['a']", "connections[1]: not a table"),
        ('storage = "postgresql://u:hunter2@h/d"', "storage: not a table"),
    ],
)
def test_tables_of_the_wrong_kind(load: Load, text: str, said: str) -> None:
    """Said plainly, and without the value."""
    (found,) = problems(load, text)
    assert found.startswith(f"supervisor.toml:1: {said}")
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[daemon]\nlog_level = info\n", 2),
        ("[daemon\n", 1),
        ('[daemon]\ndata_dir = "x"\ndata_dir = "y"\n', 3),
        ("[daemon]\n[daemon]\n", 2),
        ("x = [\n1,\n", 3),
        ("x = " + "[" * 3000, 1),
    ],
)
def test_broken_toml(load: Load, text: str, place: int) -> None:
    """File, line and a message; nothing else can be known yet."""
    (found,) = problems(load, text)
    assert found.startswith(f"supervisor.toml:{place}: not valid TOML: ") or "nested" in found
    assert "(at" not in found


def test_unreadable_files(tmp_path: Path) -> None:
    """Missing, a directory, not UTF-8."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"[daemon]\nx = '\xff'\n")
    said = {
        tmp_path / "none.toml": "none.toml: there is no such file",
        tmp_path: "cannot be read: Is a directory",
        binary: "binary.toml:2: the text is not UTF-8",
    }
    for path, text in said.items():
        with pytest.raises(ConfigError, match="configuration has a problem") as caught:
            load_config(path, {})
        assert text in str(caught.value)


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    """Some editors write one."""
    path = tmp_path / "supervisor.toml"
    path.write_bytes(b"\xef\xbb\xbf[daemon]\r\nlog_level = 'error'\r\n")
    assert load_config(path, {}).daemon.log_level is LogLevel.ERROR


# -- the environment


def test_variables_override_the_file(load: Load) -> None:
    """Text, whatever the kind of the key."""
    config = load(
        '[storage]\ndsn = "embedded"\n',
        ZAPVISOR_STORAGE_DSN="postgresql://u:p@h/d",
        ZAPVISOR_STORAGE_POOL_SIZE="7",
        ZAPVISOR_CONVERSATIONS_GROUPS="no",
        ZAPVISOR_CONVERSATIONS_NEWSLETTERS="TRUE",
        ZAPVISOR_CONVERSATIONS_REOPEN_FROM="last_message",
        ZAPVISOR_SUPERVISION_PARK_INTERVAL="0s",
        ZAPVISOR_WRITER_BATCH_BYTES="1MiB",
        ZAPVISOR_CONTROL_MODE="0600",
        ZAPVISOR_MEDIA_KINDS="audio, image,audio",
        ZAPVISOR_MEDIA_HOSTS="a.example:8443",
        ZAPVISOR_MEDIA_S3_BUCKET="inbox",
        ZAPVISOR_MEDIA_S3_ACCESS_KEY="key",
        ZAPVISOR_MEDIA_S3_SECRET_KEY="hunter2",
        ZAPVISOR_SECRET_KEY="whatever",
        HOME="/root",
    )
    assert config.storage.dsn == "postgresql://u:p@h/d"
    assert config.storage.pool_size == 7
    assert not config.conversations.groups
    assert config.conversations.newsletters
    assert config.conversations.reopen_from is ReopenFrom.LAST_MESSAGE
    assert config.supervision.park_interval == 0
    assert config.writer.batch_bytes == 1 << 20
    assert config.control.mode == 0o600
    assert config.media.kinds == ("audio", "image")
    assert config.media.hosts == ("a.example:8443",)
    assert config.media.s3_secret_key == "hunter2"
    assert "hunter2" not in repr(config)
    assert type(config.storage.dsn) is type(config.media.s3_secret_key) is str


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ZAPVISOR_STORAGE_POOL_SIZE", "many", "storage.pool_size: "),
        ("ZAPVISOR_STORAGE_POOL_SIZE", "", "storage.pool_size: "),
        ("ZAPVISOR_CONVERSATIONS_GROUPS", "maybe", "true or false"),
        ("ZAPVISOR_STORAGE_DSN", "mysql://u:hunter2@h", "embedded"),
        ("ZAPVISOR_SUPERVISION_BACKOFF_MAX", "100ms", "backoff_initial"),
        ("ZAPVISOR_CONNECTIONS", "a,B", "cannot name a connection"),
        ("ZAPVISOR_CONNECTIONS", "a, a", 'the name "a" is taken by ZAPVISOR_CONNECTIONS'),
        ("ZAPVISOR_CONFGI", "x", "did you mean ZAPVISOR_CONFIG?"),
        ("ZAPVISOR_WRITER_MAILBOX_SIZE", "x", "did you mean ZAPVISOR_WRITER_MAILBOX?"),
    ],
)
def test_bad_variables(load: Load, name: str, value: str, said: str) -> None:
    """The variable is named as the place, and secrets are not repeated."""
    (found,) = problems(load, "", **{name: value})
    assert found.startswith(f"{name}: ")
    assert said in found
    assert "hunter2" not in found


def test_a_variable_hides_a_bad_value_of_the_file(load: Load) -> None:
    """What is overridden is not looked at."""
    config = load("[storage]\npool_size = -1", ZAPVISOR_STORAGE_POOL_SIZE="3")
    assert config.storage.pool_size == 3


def test_the_list_of_connections_from_a_variable(load: Load) -> None:
    """It replaces the list; tables of the file that it names keep their settings."""
    text = '[[connections]]\nname = "sales"\nautostart = false\n[[connections]]\nname = "old"\n'
    config = load(text, ZAPVISOR_CONNECTIONS=" support, sales ,")
    assert [(each.name, each.autostart) for each in config.connections] == [
        ("support", True),
        ("sales", False),
    ]
    assert load(text, ZAPVISOR_CONNECTIONS="").connections == ()


def test_problems_of_a_kept_table_keep_their_place(load: Load) -> None:
    """A wrong key in a table that the variable names is reported where it is written."""
    text = '[[connections]]\nname = "sales"\nautostrat = false\n[[connections]]\nname = "old"\n'
    (found,) = problems(load, text, ZAPVISOR_CONNECTIONS="support,sales")
    assert found == (
        "supervisor.toml:3: connections[1].autostrat: unknown name; did you mean autostart?"
    )


def test_the_variable_copes_with_nonsense_in_the_file(load: Load) -> None:
    """Tables without a usable name are not chosen."""
    text = "[[connections]]\nname = ['sales']\n"
    assert load(text, ZAPVISOR_CONNECTIONS="sales").connections[0].name == "sales"


# -- where the file is


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, then the working directory; without a file the defaults."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("config.load.SEARCHED", (Path("supervisor.toml"),))
    assert find_config({}) is None
    assert load_config(None, {}) == Config(base_dir=tmp_path)
    Path("supervisor.toml").write_text("[storage]\npool_size = 1\n")
    Path("other.toml").write_text("[storage]\npool_size = 2\n")
    assert load_config(None, {}).storage.pool_size == 1
    assert load_config(None, {"ZAPVISOR_CONFIG": "other.toml"}).storage.pool_size == 2
    with pytest.raises(ConfigError, match=r"gone.toml: there is no such file"):
        load_config(None, {"ZAPVISOR_CONFIG": "gone.toml"})


# -- whatever is written

toml_values = st.recursive(
    st.one_of(
        st.booleans().map(lambda flag: str(flag).lower()),
        st.integers(-(10**6), 10**6).map(str),
        st.sampled_from(['"15s"', '""', "'x'", "1.5", "nan", "1979-05-27", '"\\u0000"']),
    ),
    lambda inner: st.lists(inner, max_size=2).map(lambda each: f"[{', '.join(each)}]"),
    max_leaves=3,
)
sections = [*dict.fromkeys(section for section, _ in variables().values()), "connections", "x"]
names = [*dict.fromkeys(key for _, key in variables().values()), "name", "autostart", "y"]
tables = st.dictionaries(
    st.sampled_from(sections), st.dictionaries(st.sampled_from(names), toml_values), max_size=4
)


@settings(deadline=None, max_examples=100)
@given(
    tables,
    st.dictionaries(
        st.sampled_from([*variables(), "ZAPVISOR_CONNECTIONS", "ZAPVISOR_X"]), st.text(max_size=8)
    ),
)
def test_loads_or_says_why(
    tmp_path_factory: pytest.TempPathFactory,
    document: dict[str, dict[str, str]],
    environ: dict[str, str],
) -> None:
    """Any TOML and any environment give a configuration or a ConfigError, nothing else."""
    text = ""
    for section, table in document.items():
        text += f"[[{section}]]\n" if section == "connections" else f"[{section}]\n"
        text += "".join(f"{key} = {value}\n" for key, value in table.items())
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text)
    found: tuple[Problem, ...] | None = None
    try:
        load_config(path, environ)
    except ConfigError as error:
        found = error.problems
    assert found is None or len(set(map(str, found))) == len(found) > 0
