"""Pairing a real client by a code typed on the phone."""

import typing as t

from simulator import Simulator

if t.TYPE_CHECKING:
    from conftest import Driver


async def test_client_is_paired_by_code(simulator: Simulator, baileys: "Driver") -> None:
    """The client shows a code, the phone's owner types it, and messages go both ways."""
    carol = simulator.create_account("carol", "15550001111")
    desk = baileys.peer("desk")
    code = await desk.show_code(carol.pn.user)
    device = await carol.phone.enter_code(f"{code[:4]}-{code[4:]}")
    await desk.wait_until_open()
    assert desk.jid == str(device.pn)
    rui = simulator.create_account("Rui")
    await rui.phone.send_text(carol.pn, "paired by code")
    await desk.wait_for_text("paired by code")
    await desk.send(str(rui.pn), "and back")
    await desk.wait_for_delivery(await desk.send(str(rui.pn), "again"))
    assert [received.text for received in rui.phone.inbox] == ["and back", "again"]
