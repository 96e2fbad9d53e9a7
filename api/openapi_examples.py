"""Examples for the description of the API. The numbers are fictitious."""

import collections.abc as cabc
import typing as t

MODELS: t.Final[cabc.Mapping[str, t.Any]] = {
    "ConnectionView": {
        "name": "sales",
        "state": "online",
        "since": "2026-03-01T12:00:00Z",
        "reason": "logged_in",
        "sentence": "logged in",
        "retries": 0,
        "paired": True,
        "jid": "***0001",
        "last_message_at": "2026-03-01T12:05:00Z",
        "messages": 12,
        "duplicates": 1,
        "undecryptable": 0,
        "quarantined": 0,
        "in_flight": 0,
        "next_attempt_in": None,
    },
    "ErasureRequest": {"contact": "+55 11 99999-0001", "connection": None, "by": "dpo"},
    "Login": {"token": "zv_0123456789ab_" + "x" * 43},
    "OlderRequest": {"chat": "+55 11 99999-0001", "count": 50},
    "TokenRequest": {"name": "grafana", "scopes": ["read"], "expires_in": 7776000},
    "TypingRequest": {"to": "+55 11 99999-0001", "state": "composing"},
}
"""By the name of the model."""

BODIES: t.Final[cabc.Mapping[tuple[str, str], t.Any]] = {
    ("post", "/connections/{name}/messages"): {
        "text": {"value": {"to": "+55 11 99999-0001", "text": "Bom dia!"}},
        "answer": {"value": {"text": "Sim, temos.", "quoted": 4711}},
        "photo": {
            "value": {
                "to": "+55 11 99999-0001",
                "kind": "image",
                "mimetype": "image/jpeg",
                "file": "0" * 64,
                "caption": "O comprovante",
            }
        },
    },
}
"""By method and path, where the body has no model of its own."""
