"""Named moments at which the process can be made to die, to prove that none of them matters.

``ZAPVISOR_CRASH_AT=name`` kills the process the first time it comes there, ``name:7`` the seventh
time; it dies as from ``kill -9``: no handler runs and no buffer is flushed. The variable is read
once, here. Without it :func:`crash_point` does nothing, and nothing outside can make it do more.

They live in storage because storage is the lowest package that has some.
"""

import collections.abc as cabc
import os
import signal
import typing as t

import attrs

VARIABLE: t.Final = "ZAPVISOR_CRASH_AT"

POINTS: t.Final[cabc.Mapping[str, str]] = {
    "link.received": "bytes came off the socket",
    "link.decoded": "they are decrypted and decoded to nodes",
    "message.parsed": "a message was taken in its turn",
    "message.decrypted": "its ciphertexts are opened, its sessions stepped in memory",
    "message.posted": "its envelope is in the writer's mailbox",
    "writer.batch_taken": "the writer has taken a batch out of its mailbox",
    "writer.before_apply": "the batch is about to be handed to storage",
    "commit.under_way": "a write was sent to PostgreSQL and is not answered",
    "writer.committed": "a batch is committed, nobody was told",
    "writer.answered": "all answers to a batch are in the connections' channels",
    "message.settled": "a committed message is about to be confirmed to WhatsApp",
    "message.confirmed": "its receipt is written",
    "placeholder.settled": "a message that did not open is committed as a placeholder",
    "placeholder.asked_again": "its sender was asked to encrypt it again, it is not acknowledged",
    "placeholder.acknowledged": "it is acknowledged",
    "placeholder.asked_phone": "the own phone was asked for messages that did not open",
    "placeholder.found": "the phone's answer is about to be committed in a placeholder's place",
    "quarantine.before": "what cannot be read or stored is about to be quarantined",
    "quarantine.committed": "it is quarantined, nobody was told",
    "stanza.settled": "a receipt, notification or call is committed and not acknowledged",
    "stanza.acknowledged": "it is acknowledged",
    "outbox.composed": "a message to send has its plaintext, which is kept",
    "outbox.encrypted": "it is encrypted, and about to be posted with the stepped sessions",
    "outbox.committed": "it is committed as sending, and about to be written",
    "outbox.written": "its stanza is written",
    "outbox.acknowledged": "WhatsApp has acknowledged it, which is not recorded",
    "outbox.settled": "that is recorded",
    "resend.committed": "a message is encrypted again for a device, which is committed",
    "resend.written": "it is written, the request for it is not acknowledged",
    "pairing.accepted": "the phone's signatures are checked, nothing is stored",
    "pairing.stored": "the new device is stored, WhatsApp was not told",
    "pairing.confirmed": "WhatsApp was told",
    "prekeys.made": "fresh one-time prekeys are about to be stored",
    "prekeys.stored": "they are stored and not uploaded",
    "prekeys.uploaded": "WhatsApp has them",
    "history.fetched": "a chunk of history is fetched and read",
    "history.step": "a part of it is committed, its position is not",
    "history.last_step": "all of it is committed, its end is not",
    "app_state.verified": "a step of app state is about to be committed",
    "app_state.committed": "it is committed",
    "media.claimed": "a file is about to be fetched",
    "media.downloaded": "a file is fetched and verified, under a temporary name",
    "media.synced": "it is on the disk, under a temporary name",
    "media.renamed": "it has its name, its folder is not on the disk",
    "media.stored": "it is on the disk for good, its row does not say so",
    "media.recorded": "its row says so",
    "gap.began": "it is committed that a connection receives nothing from now on",
    "gap.announced": "it is committed how much waits for it",
    "gap.drained": "it is committed that all of that has come",
    "epoch.committed": "the database has moved on, the data directory does not know",
    "epoch.synced": "what it remembers is on the disk, under a temporary name",
    "epoch.renamed": "it has its name, which is not on the disk for good",
    "recover.committed": "older keys were accepted, and what could be used twice is gone",
    "pulse.begun": "a run of the daemon is recorded, no connection runs",
    "pulse.marked": "it is committed that the daemon is alive",
    "pulse.ended": "it is committed that the daemon ends in order",
}
"""Every point, and where it is."""


class UnknownPointError(ValueError):
    """The variable names no point."""


@attrs.define
class _Target:
    """Where to die."""

    name: str
    left: int

    def reached(self, name: str) -> None:
        if name == self.name:
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def parse_target(text: str) -> tuple[str, int]:
    """Name and count of ``name`` or ``name:7``.

    Raises:
        UnknownPointError: it is neither.
    """
    name, colon, number = text.partition(":")
    if name not in POINTS or (colon and not (number.isascii() and number.isdigit())):
        raise UnknownPointError(f"{VARIABLE}: {text!r} is not NAME or NAME:COUNT of a crash point")
    return name, int(number or 1)


def _ignore(_name: str) -> None:
    """There is no target."""


armed: bool = VARIABLE in os.environ
"""Whether there is a target."""
crash_point: cabc.Callable[[str], None] = _ignore
"""Call it where something has just happened, or is about to; the name is a key of ``POINTS``."""

if armed:
    crash_point = _Target(*parse_target(os.environ[VARIABLE])).reached
