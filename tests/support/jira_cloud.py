"""A stand-in for Jira Cloud, made from what Atlassian documents of its REST API 2. It is not Jira.

It does what the documentation says of the requests that we send and refuses everything else: unknown paths,
unknown keys of a body, fields that are not on the create screen, JQL that it cannot read. Its search lags
behind by a clock that a test moves, unless ``reconcileIssues`` names an issue; a page of it is continued by
``nextPageToken`` only; ``/rest/api/2/search`` is gone (410). What a real Jira does beyond its documentation
is not known here.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.jira_cloud_issues import ISSUE_TYPES, PRIORITIES, STATUSES, Issue, RefusalError
from tests.support.jira_cloud_site import JiraCloud, shown_status

EMAIL, TOKEN = "bot@example.com", "api-token"


def _paged(name: str, items: list[Any], query: dict[str, str]) -> dict[str, Any]:
    start, size = int(query.get("startAt", 0)), int(query.get("maxResults", 50))
    page = items[start : start + size]
    return {name: page, "startAt": start, "maxResults": size, "total": len(items)}


def _answer(
    jira: JiraCloud, method: str, path: str, query: dict[str, str], handler: Any, content: bytes
) -> Any:
    """Return status and body of one request, both as the documentation has them."""
    body = json.loads(content) if content and "json" in str(handler.headers.get("Content-Type")) else {}
    if path in ("search",):
        raise RefusalError(410, "The requested API has been removed. Please migrate to the /search/jql API.")
    match [method, *path.split("/")]:
        case ["GET", "myself"]:
            return 200, {"accountId": "5b10ac8d82e05b22cc7d4ef5", "displayName": "Rollback Bot"}
        case ["POST", "search", "jql"]:
            return 200, jira.search(body)
        case ["POST", "issue"]:
            return 201, jira.create(body)
        case ["GET", "mypermissions"]:
            return 200, jira.permissions(query)
        case ["GET", "priority", "search"]:
            return 200, {**_paged("values", [{"name": name} for name in PRIORITIES], query), "isLast": True}
        case ["GET", "issueLinkType"]:
            return 200, {"issueLinkTypes": [{"name": "Blocks"}, {"name": "Duplicate"}]}
        case ["GET", "attachment", "meta"]:
            return 200, {"enabled": True, "uploadLimit": 10_485_760}
        case ["POST", "issueLink"]:
            jira.link(body)
            return 201, None
        case [_, "project", key, *_] if key not in jira.projects or "BROWSE_PROJECTS" not in jira.granted:
            raise RefusalError(404, f"No project could be found with key '{key}'.")
        case ["GET", "project", key]:
            return 200, {"key": key, "name": f"Project {key}"}
        case ["GET", "project", _, "statuses"]:
            known = [shown_status(name) for name in STATUSES if jira.closable or STATUSES[name][0] != "done"]
            return 200, [{"name": name, "statuses": known} for name in ISSUE_TYPES]
        case ["GET", "issue", "createmeta", _, "issuetypes"]:
            types = [{"id": type_id, "name": name} for name, type_id in ISSUE_TYPES.items()]
            return 200, _paged("issueTypes", types, query)
        case ["GET", "issue", "createmeta", _, "issuetypes", type_id] if type_id in ISSUE_TYPES.values():
            return 200, _paged("fields", jira.screen_fields(), query)
        case [_, "issue", name, *rest]:
            return _answer_about(jira, jira.issue_named(name), method, rest, query, body, handler, content)
    raise RefusalError(404, f"null for uri: {method} {path}")


def _answer_about(
    jira: JiraCloud, issue: Issue, method: str, rest: list[str], query: dict[str, str], body: Any,
    handler: Any, content: bytes,
) -> Any:  # fmt: skip
    match [method, *rest]:
        case ["GET"]:
            return 200, jira.shown(issue, query.get("fields", "*all").split(","))
        case ["PUT"]:
            jira.edit(issue, body)
            return 204, None
        case ["GET", "properties"]:
            return 200, {"keys": [{"key": key} for key in issue.properties]}
        case ["GET", "properties", key] if key in issue.properties:
            return 200, {"key": key, "value": issue.properties[key]}
        case ["POST", "comment"]:
            return 201, jira.comment(issue, body)
        case ["GET", "comment"]:
            return 200, _paged("comments", issue.comments, query)
        case ["POST", "attachments"]:
            return 200, jira.attach(issue, handler.headers, content)
        case ["POST", "remotelink"]:
            return jira.remote_link(issue, body)
        case ["GET", "transitions"]:
            ways = jira.transitions(issue)
            if query.get("expand") != "transitions.fields":
                ways = [{key: value for key, value in way.items() if key != "fields"} for way in ways]
            return 200, {"transitions": ways}
        case ["POST", "transitions"]:
            jira.transition(issue, body)
            return 204, None
    raise RefusalError(404, f"null for uri: {method} issue/{'/'.join(rest)}")


@contextmanager
def running_jira_cloud() -> Iterator[JiraCloud]:
    """Run a stand-in on 127.0.0.1 until the end of the block."""
    jira = JiraCloud()
    basic = "Basic " + base64.b64encode(f"{EMAIL}:{TOKEN}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with jira.lock:
                status, body, headers = self.find_answer(content)
            payload = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json;charset=UTF-8")
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def find_answer(self, content: bytes) -> tuple[int, Any, dict[str, str]]:
            url = urlsplit(self.path)
            jira.requests.append((self.command, unquote(url.path)))
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            found = re.fullmatch(r"/rest/api/[23]/(.+)", url.path)
            if found and found[1] == "serverInfo":
                return 200, {"deploymentType": "Cloud", "version": "1001.0.0-SNAPSHOT"}, {}
            if self.headers.get("Authorization") != basic:
                # Personal access tokens are Data Center's; Cloud knows none.
                return 401, {"errorMessages": ["Client must be authenticated to access this resource."]}, {}
            if jira.limits:
                reset = {"Retry-After": jira.limits.pop(0), "RateLimit-Reason": "jira-burst-based"}
                return 429, {"errorMessages": ["Rate limit exceeded."]}, reset
            try:
                if found is None:
                    raise RefusalError(404, "null for uri")
                path = "/".join(unquote(part) for part in found[1].split("/"))
                status, body = _answer(jira, self.command, path, query, self, content)
            except RefusalError as refusal:
                return refusal.status, refusal.body, {}
            return status, body, {}

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing; tests look at ``requests``."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    jira.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield jira
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
