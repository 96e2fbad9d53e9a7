"""Who the tests of sending write to, and the device that they write from."""

import random
import typing as t

import attrs

from actors.devices import Person
from whatsapp.device import Device
from whatsapp.jid import Jid

OWN: t.Final = Person(Jid.parse("15550009999@s.whatsapp.net"), Jid.parse("900009999@lid"))
ANNA: t.Final = Person(Jid.parse("15550001111@s.whatsapp.net"), Jid.parse("900001111@lid"))
BEN: t.Final = Person(Jid.parse("15550002222@s.whatsapp.net"), Jid.parse("900002222@lid"))
GROUP: t.Final = Jid.parse("120363000000000001@g.us")


def device() -> Device:
    assert OWN.number is not None
    assert OWN.lid is not None
    made = Device.generate(random.Random(3).randbytes)
    return attrs.evolve(made, jid=OWN.number.with_device(2), lid=OWN.lid.with_device(2))
