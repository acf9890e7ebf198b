"""A stand-in for the Kubernetes API, faithful in what a target relies on, and nothing else.

Objects with a ``resourceVersion``; JSON merge patches (RFC 7386) and only those; 409 for a stale version in a
patch; ``?dryRun=All`` answers and changes nothing; 401 without the token, 403 for one that may only read. An
Argo rollout whose status says ``abort`` gets all traffic back to the stable version, as by its controller. An
``InferenceService`` in serverless mode says in its status what Knative routes, in raw mode nothing of
traffic.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

WRITER, READER = "writer-token", "reader-token"


@dataclass
class Cluster:
    """The objects by path, and every patch that was accepted (dry runs are not)."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    patches: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def put(self, path: str, document: dict[str, Any]) -> None:
        """Create or replace an object."""
        metadata = {**document.get("metadata", {}), "resourceVersion": self._version()}
        self.objects[path] = reconciled({**document, "metadata": metadata})

    def patch(self, path: str, patch: dict[str, Any], *, dry_run: bool) -> tuple[int, Any]:
        """Apply a merge patch; return status and body."""
        wanted = patch.get("metadata", {}).get("resourceVersion")
        now = self.objects[path]
        if wanted is not None and wanted != now["metadata"]["resourceVersion"]:
            return 409, {"reason": "Conflict", "message": "the object has been modified"}
        changed = merge(deepcopy(now), patch)
        changed = reconciled(changed)
        changed["metadata"]["resourceVersion"] = self._version()
        if not dry_run:
            self.objects[path] = changed
            self.patches.append(patch)
        return 200, changed

    def _version(self) -> str:
        return str(1000 + len(self.patches) + len(self.objects))


def reconciled(document: dict[str, Any]) -> dict[str, Any]:
    """Return an object as its controller makes it, at once."""
    document = deepcopy(document)
    if document.get("status", {}).get("abort"):
        document["status"]["canary"] = {"weights": {"canary": {"weight": 0}, "stable": {"weight": 100}}}
    if "predictor" in document.get("spec", {}):
        mode = document["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode")
        predictor: dict[str, Any] = {"url": "http://assistant-predictor.models.svc.cluster.local"}
        if mode != "RawDeployment":
            percent = document["spec"]["predictor"].get("canaryTrafficPercent", 100)
            predictor["traffic"] = [
                {"latestRevision": True, "percent": percent, "revisionName": "assistant-predictor-00007"},
                {
                    "latestRevision": False,
                    "percent": 100 - percent,
                    "revisionName": "assistant-predictor-00006",
                },
            ]
        document["status"] = {"components": {"predictor": predictor}}
    return document


def merge(target: Any, patch: Any) -> Any:
    """Return ``target`` with a JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Serve a cluster on a free port."""
    cluster, lock = Cluster(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*self._allowed({WRITER, READER}) or self._get())

        def do_PATCH(self) -> None:
            self._answer(*self._allowed({WRITER}) or self._patch())

        def _allowed(self, tokens: set[str]) -> tuple[int, Any] | None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token not in {WRITER, READER}:
                return 401, {"reason": "Unauthorized"}
            return None if token in tokens else (403, {"reason": "Forbidden"})

        def _path(self) -> str:
            return urlsplit(self.path).path.removesuffix("/status")

        def _get(self) -> tuple[int, Any]:
            found = cluster.objects.get(self._path())
            return (404, {"reason": "NotFound"}) if found is None else (200, found)

        def _patch(self) -> tuple[int, Any]:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Type"] != "application/merge-patch+json":
                return 415, {"reason": "UnsupportedMediaType"}
            if self._path() not in cluster.objects:
                return 404, {"reason": "NotFound"}
            dry_run = parse_qs(urlsplit(self.path).query).get("dryRun") == ["All"]
            with lock:
                return cluster.patch(self._path(), json.loads(body), dry_run=dry_run)

        def _answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
