"""What alerts are called, what probably causes them and what to do, in the languages of channels.

The placeholders are those of ``actors.alert_words``: ``who`` are the names, the others figures of
the condition.
"""

import typing as t

from actors.alert_texts_pt import PORTUGUESE
from actors.alert_texts_types import RuleText, Texts

ENGLISH: t.Final = Texts(
    rules={
        "down": RuleText(
            title="No connection to WhatsApp: {who}",
            cause="The network, the proxy or WhatsApp itself. It is tried again all the time;"
            " WhatsApp keeps what is sent meanwhile.",
            cure="Look at the network of this machine and at the proxy. zapvisor timeline {name}"
            " shows the reasons, zapvisor start {name} tries at once.",
        ),
        "parked": RuleText(
            title="Tried rarely after many failures: {who}",
            cause="What the connection fails with does not pass by itself.",
            cure="Remove the cause that is named above, then run: zapvisor start {name}",
        ),
        "logged_out": RuleText(
            title="Logged out of WhatsApp: {who}",
            cause="The device was unlinked on the phone or by WhatsApp, or the account is locked."
            " Its keys are kept.",
            cure="Look at Linked devices on the phone, and do what WhatsApp asks there. Then run:"
            " zapvisor pair {name}",
        ),
        "conflict": RuleText(
            title="Its keys are used by another program: {who}",
            cause="A copy of this daemon's data runs elsewhere, or the device was imported and the"
            " other program still runs.",
            cure="Stop the other program, then run: zapvisor start {name}",
        ),
        "banned": RuleText(
            title="Banned by WhatsApp: {who}",
            cause="WhatsApp found that the number breaks its terms: too many messages, or messages"
            " to people who did not want them.",
            cure="Open WhatsApp on the phone and ask for a review. Send less and more slowly"
            " afterwards. zapvisor timeline {name} tells until when it lasts, if that is known.",
        ),
        "deaf": RuleText(
            title="Answers pings, but seems to hear nothing: {who}",
            cause="Much less comes in than is usual at this hour. WhatsApp may have stopped"
            " delivering to this socket, or nobody writes.",
            cure="Send a message to the number from another phone. If it does not come, run:"
            " zapvisor restart {name}",
        ),
        "sync_errors": RuleText(
            title="Many messages cannot be read: {who}",
            cause="{count} of {total} deliveries of the last hour could not be read or stored."
            " Often the phone of the account was changed, or its clock is wrong.",
            cure="zapvisor logs --connection {name} shows why. Most come again by themselves; open"
            " WhatsApp on the phone, so that it can send them again.",
        ),
        "quarantine": RuleText(
            title="Messages in quarantine: {who}",
            cause="{count} could not be stored. Nothing is lost: their bytes are kept.",
            cure="zapvisor quarantine list shows the errors. Once the cause is gone, run:"
            " zapvisor quarantine retry --all",
        ),
        "undecryptable": RuleText(
            title="Messages wait for their text: {who}",
            cause="{count} could not be decrypted and were not sent again. Their senders, or the"
            " phone of the account, are offline.",
            cure="Open WhatsApp on the phone of the account and leave it open for some minutes.",
        ),
        "gap": RuleText(
            title="Messages of an outage have not come: {who}",
            cause="WhatsApp announced more than it sent: {missing} are missing, in {count} gaps.",
            cure="zapvisor gaps {name} --open shows them. They may still come; if not, run:"
            " zapvisor gaps accept NUMBER",
        ),
        "phone": RuleText(
            title="The phone has not been seen for {days} days: {who}",
            cause="It is off, or without a network. WhatsApp unlinks devices whose phone is away"
            " for 14 days.",
            cure="Switch the phone on, give it a network and open WhatsApp on it.",
        ),
        "outage": RuleText(
            title="Many connections fail alike ({count})",
            cause="The network of this machine, the proxy, or WhatsApp itself.",
            cure="Look at the network and the proxy. A few connections try for all; the others"
            " follow by themselves.",
        ),
        "outdated": RuleText(
            title="WhatsApp refuses this client version",
            cause="WhatsApp has moved on, and no newer version could be looked up.",
            cure="Set a newer whatsapp.version in the configuration, then run: zapvisor reload",
        ),
        "writer": RuleText(
            title="Messages are stored too slowly",
            cause="The database takes less than comes in: {depth} of {capacity} places are taken."
            " A slow disk, a lock, or a large statement of somebody else.",
            cure="zapvisor health tells what the writer waits for. Look at the load and the disk of"
            " PostgreSQL.",
        ),
        "database": RuleText(
            title="The database does not answer",
            cause="PostgreSQL is down, unreachable or out of connections. Nothing is acknowledged"
            " to WhatsApp meanwhile, so nothing is lost.",
            cure="Check that PostgreSQL runs, its disk and its log. The daemon goes on by itself"
            " once it answers.",
        ),
        "disk": RuleText(
            title="The disk is nearly full: {who}",
            cause="{free} are left.",
            cure="Free space, or keep files for a shorter time (media.retention). Messages stop"
            " when PostgreSQL cannot write.",
        ),
        "media": RuleText(
            title="Files of messages wait ({count})",
            cause="They come in faster than they are fetched, or fetching fails.",
            cure="zapvisor logs --level warning shows whether fetching fails. Look at the network"
            " and at media.concurrency.",
        ),
        "webhook": RuleText(
            title="A webhook has given up deliveries: {who}",
            cause="Its endpoint refused {count} of them, or did not answer, many times.",
            cure="zapvisor webhooks dead {name} lists them; once the endpoint takes them, run:"
            " zapvisor webhooks replay {name}",
        ),
        "channel": RuleText(
            title="A channel of notifications fails: {who}",
            cause="Its server does not answer, or refuses the password or the recipient.",
            cure="zapvisor channels shows the error. Correct [[channels]] in the configuration,"
            " then run: zapvisor channels test {name}",
        ),
        "export": RuleText(
            title="The scheduled export is not made: {export}",
            cause="Its directory or S3 store cannot be written, the disk is full, or there is more"
            " to write than time.",
            cure="zapvisor exports shows the error. Correct [export] in the configuration; it is"
            " tried again by itself for a week. zapvisor export --resume --name {export} goes on"
            " at once.",
        ),
    },
    causes={
        "network": "The network of this machine or the proxy: WhatsApp's servers are not reached.",
        "throttled": "WhatsApp finds that this number, or this address, connects too often.",
        "whatsapp": "WhatsApp's servers have a problem of their own; it passes by itself.",
        "storage": "The database is away or slow, so connections close on purpose.",
        "defect": "A defect of zapvisor; its log has the details.",
    },
    words={
        "resolved": "Resolved",
        "again": "Still",
        "since": "Since {at} ({span}).",
        "over": "It began on {at} and lasted {span}.",
        "says": "The daemon says",
        "cause": "Likely cause",
        "cure": "What to do",
        "and": "{first} and {last}",
        "name": "NAME",
        "more": "{count} more",
        "acknowledge": "zapvisor alerts lists it; zapvisor alerts ack NUMBER stops these"
        " reminders.",
        "severity_info": "info",
        "severity_warning": "warning",
        "severity_critical": "critical",
    },
)

LANGUAGES: t.Final[dict[str, Texts]] = {"en": ENGLISH, "pt-BR": PORTUGUESE}

_NETWORK: t.Final = (
    *("network", "dns_failed", "tls_failed", "no_answer", "connect_timeout", "heartbeat_missed"),
    *("silent", "stream_ended", "handshake_refused", "protocol_error"),
)
CAUSES: t.Final[dict[str, str]] = {
    **dict.fromkeys(_NETWORK, "network"),
    **dict.fromkeys(("rate_limited", "too_many_requests"), "throttled"),
    **dict.fromkeys(("unavailable", "server_error"), "whatsapp"),
    **dict.fromkeys(("storage_unavailable", "storage_stalled", "unstorable"), "storage"),
    "crashed": "defect",
}
"""From the reason code of a connection that is down to what probably causes it."""
