"""Groups that real clients make and change, as the team sees them."""

from interop_expect import differences
from interop_peer import Driver, Peer

from simulator import Account
from tests.support.daemon_process import DaemonProcess

DAY = 86_400


async def members(daemon: DaemonProcess, group: str) -> dict[str, str]:
    """Who is in a group, by name or number: their roles."""
    rows = await daemon.query(
        "SELECT coalesce(contact_name(m.connection_id, a.contact_id), m.address) AS who, role"
        " FROM group_members m LEFT JOIN contact_addresses a"
        " ON a.connection_id = m.connection_id AND a.address = m.address"
        f" WHERE present AND group_address = '{group}'"
    )
    return {row["who"]: row["role"] for row in rows}


async def test_a_group_and_its_changes(
    daemon: DaemonProcess, team: Account, baileys: Driver
) -> None:
    """Lines of the system, members and their roles, settings; who wrote, voted and deleted."""
    alice, bob, carol = await baileys.connect_all("alice", "bob", "carol")
    group: str = (await alice.call("groupCreate", "deal", [bob.account, str(team.pn)]))["id"]
    texts = {peer: await peer.send(group, f"I am {peer.name}") for peer in (alice, bob)}
    for message_id in texts.values():
        await daemon.until_message(message_id)
    await bob.wait_for_text("I am alice")
    mention = await alice.send_content(
        group, {"text": f"@{bob.account_lid.partition('@')[0]} ?", "mentions": [bob.account_lid]}
    )
    answer = await bob.reply(group, texts[alice], "yes?")
    await bob.react(group, texts[alice], "👍")
    poll = {"name": "Deal?", "values": ["yes", "no"], "selectableCount": 1}
    asked = await alice.send_content(group, {"poll": poll})
    await bob.wait_for(lambda _: any(m["key"]["id"] == asked for m in bob.messages()))
    await bob.vote(group, asked, ["yes"], creator=alice.account_lid, voter=bob.account_lid)
    await alice.call("groupParticipantsUpdate", group, [carol.account], "add")
    await alice.call("groupParticipantsUpdate", group, [bob.account], "promote")
    await alice.call("groupUpdateSubject", group, "the deal")
    await alice.call("groupUpdateDescription", group, "about it")
    await alice.call("groupSettingUpdate", group, "announcement")
    await alice.call("groupToggleEphemeral", group, DAY)
    await carol.call("groupLeave", group)
    await daemon.until_message(asked, lambda row: row["votes"], "has a vote")
    await alice.wait_for(lambda _: any(m["key"]["id"] == answer for m in alice.messages()))
    await alice.delete(group, answer)  # as an administrator
    end = await alice.send(group, "the end")
    await daemon.until_message(end)

    def is_(peer: Peer) -> dict[str, object]:
        return {"name": peer.name, "addresses": {peer.account, peer.account_lid}}

    rows = {row["external_id"]: row for row in await daemon.details(f"chat = '{group}'")}
    expected = {
        texts[alice]: {
            "sender": is_(alice),
            "reactions": [{"sender": is_(bob), "emoji": "👍"}],
        },
        texts[bob]: {"sender": is_(bob)},
        mention: {"sender": is_(alice), "mentions": [is_(bob)]},
        answer: {
            "sender": is_(bob),
            "quoted": {"external_id": texts[alice], "author": is_(alice)},
            "deleted": {"by": is_(alice)},
            "text": "yes?",
        },
        asked: {"votes": [{"voter": is_(bob), "options": ["yes"]}]},
    }
    wrong = [
        line
        for message_id, looks in expected.items()
        for line in differences(rows[message_id], looks, str(rows[message_id]["text"]))
    ]
    assert wrong == []
    assert len({row["conversation"] for row in rows.values()}) == 1
    told = [
        (row["detail"]["action"], row["text"], row["sender"]["addresses"][0])
        for row in rows.values()
        if row["kind"] == "system"
    ]
    by_alice, by_carol = alice.account, carol.account
    assert told == [
        ("create", "deal", by_alice),
        ("add", None, by_alice),
        ("promote", None, by_alice),
        ("subject", "the deal", by_alice),
        ("description", "about it", by_alice),
        ("announce", None, by_alice),
        ("ephemeral", None, by_alice),
        ("leave", None, by_carol),
    ]
    [stored] = await daemon.query("SELECT * FROM groups")
    assert (
        differences(
            stored,
            {
                "address": group,
                "subject": "the deal",
                "description": "about it",
                "announce": True,
                "expiration": DAY,
            },
        )
        == []
    )
    assert await members(daemon, group) == {
        "alice": "superadmin",
        "bob": "admin",
        str(team.lid): "member",
    }
