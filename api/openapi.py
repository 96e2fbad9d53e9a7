"""The description of the API (OpenAPI 3.1): what the framework knows of each route, and what it
does not: who may, what goes wrong, and what the fields mean."""

import ast
import collections.abc as cabc
import copy
import inspect
import sys
import textwrap
import typing as t

import attrs
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute

from api.auth import CONTROL, NONE, needed_scope_of
from api.openapi_examples import BODIES, MODELS
from api.problems import AnyRequest

Json: t.TypeAlias = dict[str, t.Any]

PROBLEM_TYPE: t.Final = "application/problem+json"
TAGS: t.Final[cabc.Mapping[str, str]] = {
    "connections": "WhatsApp accounts: their state, starting and stopping, pairing, logging out.",
    "conversations": "What customers and the team write to each other, from opening to closing.",
    "messages": "Single messages: as they read now, and as they read before.",
    "contacts": "People and groups.",
    "media": "Files: up, to be sent; and down, as messages carry them.",
    "outbox": "Sending: what is queued, and what became of it.",
    "events": "What happens, as a stream that can be resumed from any point.",
    "webhooks": "Events, delivered to other programs.",
    "alerts": "What is wrong, who takes care of it, and who is not told.",
    "channels": "What tells people of trouble and sends the daily report.",
    "exports": "Messages as files: on order and on a schedule.",
    "health": "Whether all is well, and what is not.",
    "statistics": "How much came, and what became of it.",
    "quarantine": "What could not be stored, and the ways out of there.",
    "gaps": "Outages of connections, and whether what was sent meanwhile has come.",
    "daemon": "The daemon itself.",
    "session": "Tokens, and browsers that log in with them.",
    "dashboard": "The page for browsers.",
}
_TAG_OF: t.Final[cabc.Mapping[str, str]] = {
    "status": "connections",
    "groups": "contacts",
    "tokens": "session",
    "schema": "daemon",
    "version": "daemon",
    "reload": "daemon",
    "reprocess": "daemon",
    "logs": "daemon",
    "metrics": "health",
    "incidents": "health",
    "export": "conversations",
}
"""The tag of a route that names none, by the beginning of its path; else that word itself."""

_LATER: t.Final = {
    "outbox": "outbox",
    "history": "messages",
    "messages": "outbox",
    "typing": "outbox",
    "gaps": "gaps",
}
"""The same for what lies below a connection."""

DESCRIPTION: t.Final = """\
Everything that the command line does goes through this API, too: it asks the control socket, a unix
socket on which whoever may open it may do everything. Over HTTP each request needs a token
(`Authorization: Bearer zv_…`), which `zapvisor token create` makes; a browser logs in with one at
`POST /session` and has a cookie from then on.

A token has scopes. `read` is for looking, `operate` for changing something (it includes `read`),
and `send` for sending messages (it includes nothing else). `history`, which nothing includes, is
for what messages said before they were deleted or edited; exports, which hold that, need `operate`
and `history`. Each operation says which one it needs.

Errors are problem details (RFC 9457). `type` is stable, and meant for programs; `detail` is for
people; `instance` holds the id of the request, as the answer's `X-Request-ID` does, and the log.

Lists are arrays. When there is more, the header `Link` has the address of the next page, and
`X-Next-Cursor` its cursor.
"""

_PROBLEMS: t.Final[cabc.Mapping[int, str]] = {
    400: "A parameter or the body does not fit",
    401: "No token, or none that is valid",
    403: "The token does not have the scope, or a cookie came from a page of another origin",
    404: "There is no such thing",
    409: "Its state does not allow that",
    410: "It was there, and is gone",
    413: "The body is too large",
    415: "The body is of a type that is not taken",
    421: "The request is for another host",
    422: "The request can be read, but not carried out",
    429: "Too many requests; `Retry-After` tells when to come again",
    500: "A fault of the daemon; its log tells more",
    502: "WhatsApp refused",
    503: "The daemon is starting, is busy, or its database is away",
    504: "It took too long and was given up",
}
_ALWAYS: t.Final = (421, 429, 500, 503, 504)


class CompleteDescription(JsonRenderPlugin):
    """Renders the description with all that the framework leaves out."""

    _rendered: bytes | None = None

    def render(self, request: AnyRequest, openapi_schema: Json) -> bytes:
        """The JSON of it, which is the same for as long as the app is."""
        if self._rendered is None:
            self._rendered = self.render_json(request, complete(request.app, openapi_schema))
        return self._rendered


def openapi_config(version: str) -> OpenAPIConfig:
    """How the framework is to describe the app."""
    return OpenAPIConfig(
        title="zapvisor",
        version=version,
        description=DESCRIPTION,
        path="/schema",
        render_plugins=[CompleteDescription(path="/openapi.json")],
    )


def document(app: Litestar) -> Json:
    """The whole description of an app."""
    return complete(app, app.openapi_schema.to_schema())


def complete(app: Litestar, framework: Json) -> Json:
    """What the framework says, with what it leaves out."""
    found = copy.deepcopy(framework)
    found["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    parts = found.setdefault("components", {})
    parts["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of `zapvisor token create`.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "zapvisor_session_8720",
            "description": "The cookie of `POST /session`; the number is the port.",
        },
    }
    schemas = parts.setdefault("schemas", {})
    schemas["Problem"] = _problem_schema()
    for name, schema in schemas.items():
        _explain(name, schema)
    for path, method, handler in operations(app):
        if (operation := found["paths"].get(path, {}).get(method)) is not None:
            _complete(operation, path, handler)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if (examples := BODIES.get((method, path))) is not None:
                    content["examples"] = copy.deepcopy(examples)
    return found


def operations(app: Litestar) -> cabc.Iterator[tuple[str, str, HTTPRouteHandler]]:
    """Path, method in lower case and handler of everything that HTTP offers."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            for method in sorted(handler.http_methods):
                yield route.path_format, method.lower(), handler


def _complete(operation: Json, path: str, handler: HTTPRouteHandler) -> None:
    method = next(iter(handler.http_methods))
    scope = needed_scope_of(handler, method)
    if not operation.get("tags"):
        operation["tags"] = [tag_of(path)]
    needs = {
        NONE: "Needs no token.",
        CONTROL: "On the control socket only.",
    }.get(scope, f"Needs the scope `{scope}`.")
    operation["description"] = "\n\n".join(filter(None, (operation.get("description"), needs)))
    token = [] if scope in (NONE, CONTROL) else [scope]
    operation["security"] = [] if scope == NONE else [{"token": token}, {"session": token}]
    responses = operation["responses"]
    for status, answer in responses.items():
        if int(status) < 400:
            answer.setdefault("headers", {})["X-Request-ID"] = {
                "schema": {"type": "string"},
                "description": "The id of the request: its own, or one that it was given.",
            }
    if "204" in responses:
        responses["204"].pop("content", None)
    usual: Json = next((each for status, each in responses.items() if int(status) < 300), {})
    for status in sorted(_statuses(operation, path, method, scope, handler)):
        responses[str(status)] = _problem_answer(status)
    for status, text in handler.opt.get("answers", {}).items():
        answer = copy.deepcopy(usual) | {"description": text}
        if status == 204:
            answer.pop("content", None)
        if status >= 400:
            answer.setdefault("content", {}).update(_problem_answer(status)["content"])
        responses[str(status)] = answer


def _statuses(
    operation: Json, path: str, method: str, scope: str, handler: HTTPRouteHandler
) -> set[int]:
    """What may go wrong: the same for all routes of a kind, and ``opt["problems"]`` of one. (What
    a route may answer besides the usual is in its ``opt["answers"]``: statuses and their meaning.)
    """
    found = {int(status) for status in operation["responses"] if int(status) >= 400}
    own = {status for status in found if str(status) in _declared(handler)}
    statuses = {*found, *_ALWAYS, *handler.opt.get("problems", ())} - own
    if scope != NONE:
        statuses |= {401, 403}
    if operation.get("parameters") or "requestBody" in operation:
        statuses |= {400, 422}
    if "{" in path or any(each["name"] == "connection" for each in operation.get("parameters", ())):
        statuses.add(404)
    if method != "GET":
        statuses |= {409, 422, 502}
    if method in ("POST", "PUT", "PATCH"):
        statuses |= {400, 413, 415}
    if path.endswith("/media"):
        statuses |= {409, 410}
    return statuses


def _declared(handler: HTTPRouteHandler) -> set[str]:
    return {str(status) for status in handler.responses or ()}


def tag_of(path: str) -> str:
    """The tag of a path whose route names none."""
    words = [word for word in path.split("/") if word and not word.startswith("{")] or ["dashboard"]
    if words[0] == "connections" and len(words) > 1:
        return _LATER.get(words[1], "connections")
    return _TAG_OF.get(words[0], words[0])


def _problem_answer(status: int) -> Json:
    answer: Json = {
        "description": _PROBLEMS[status],
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status == 429:
        answer["headers"] = {
            "Retry-After": {"schema": {"type": "string"}, "description": "Seconds."}
        }
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return answer


def _problem_schema() -> Json:
    return {
        "type": "object",
        "title": "Problem",
        "properties": {
            "type": {"type": "string", "examples": ["urn:zapvisor:unknown-connection"]},
            "title": {"type": "string", "examples": ["Not Found"]},
            "status": {"type": "integer", "examples": [404]},
            "detail": {
                "type": "string",
                "examples": ["there is no connection saels; there are: sales, support"],
            },
            "instance": {
                "type": ["string", "null"],
                "examples": ["urn:zapvisor:request:5f2b8a8e0d5c4a11"],
            },
        },
        "required": ["type", "title", "status", "detail"],
    }


def _explain(name: str, schema: Json) -> None:
    """Add the words of the class, its docstring and the comments of its fields; and examples."""
    if (example := MODELS.get(name)) is not None:
        schema["examples"] = [copy.deepcopy(example)]
    cls = _class_of(name)
    if cls is None:
        return
    if text := inspect.getdoc(cls):
        schema.setdefault("description", text)
    for field, comment in field_comments(cls).items():
        part = schema.get("properties", {}).get(field)
        if part is not None and "$ref" not in part:
            part.setdefault("description", comment)


def _class_of(name: str) -> type | None:
    """The class of ours that has this name; of several the one nearest to the API. What else
    happens to be loaded makes no difference."""
    for package in ("api", "storage", "actors"):
        found = {
            cls
            for module in list(sys.modules.values())
            if getattr(module, "__name__", "").startswith(("api.", "storage.", "actors."))
            and isinstance(cls := getattr(module, name, None), type)
            and cls.__module__.partition(".")[0] == package
        }
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def field_comments(cls: type) -> dict[str, str]:
    """What is written beside or below each field of a class, and of those it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if attrs.has(each) and each.__module__.partition(".")[0] in ("api", "storage", "actors"):
            found |= _own_comments(each)
    return found


def _own_comments(cls: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    body = t.cast("ast.ClassDef", ast.parse(source).body[0]).body
    found: dict[str, str] = {}
    for number, node in enumerate(body):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        beside = lines[(node.end_lineno or 1) - 1][node.end_col_offset or 0 :].strip()
        below = body[number + 1] if number + 1 < len(body) else None
        if beside.startswith("# ") and not beside.startswith(("# noqa", "# type:")):
            found[node.target.id] = beside[2:]
        elif (
            isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[node.target.id] = inspect.cleandoc(below.value.value)
    return found
