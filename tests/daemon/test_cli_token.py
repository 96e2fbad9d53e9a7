"""``zapvisor token``."""

from daemon_fakes import Control, Run


async def test_the_life_of_a_token(control: Control, zapvisor: Run) -> None:
    """Made, shown once, listed, revoked."""
    made = await zapvisor("token", "create", "grafana", "--scope", "read", "--expires", "90d")
    assert made.code == 0
    token = made.out.strip()
    assert token.startswith("zv_")
    assert "\n" not in token
    assert "not shown again" in made.err
    assert control.tokens.check(token).name == "grafana"
    listed = await zapvisor("token", "list")
    assert "grafana" in listed.out
    assert token not in listed.out
    [row] = (await zapvisor("token", "list", "--json")).json
    assert (row["scopes"], row["token"]) == (["read"], None)
    assert row["expires_at"].startswith("2026-05-30")
    revoked = await zapvisor("token", "revoke", "grafana")
    assert revoked.out == "The token grafana is revoked.\n"
    assert (await zapvisor("token", "list")).out == "There is no token.\n"
    assert "revoked" in (await zapvisor("token", "list", "--revoked")).out


async def test_several_scopes(control: Control, zapvisor: Run) -> None:
    """Each with an option of its own."""
    made = await zapvisor(
        "token", "create", "crm", "--scope", "send", "--scope", "operate", "--json"
    )
    assert made.json["scopes"] == ["operate", "send"]
    assert made.err == ""


async def test_what_cannot_be(control: Control, zapvisor: Run) -> None:
    """The exit code tells a wrong command from a refusal; nothing is made."""
    for tokens, code, said in (
        (("create", "x"), 2, "scope"),
        (("create", "x", "--scope", "all"), 2, "scope"),
        (("create", "x", "--scope", "read", "--expires", "soon"), 2, "--expires"),
        (("create", "X", "--scope", "read"), 1, "name: 1 to 63"),
        (("revoke", "nobody"), 1, "zapvisor token list"),
    ):
        result = await zapvisor("token", *tokens)
        assert result.code == code, tokens
        assert said in result.out + result.err
    assert await control.tokens.rows() == []
