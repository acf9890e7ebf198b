"""Answers every request with the same bytes: ``python -m bench.canned PORT FILE``.

``/missing`` has status 404, so that an ``HttpSensor`` goes on.
``/count`` says how many requests there were before.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


async def main(port: int, body: bytes) -> None:
    """Serve until killed."""
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1]
                said = str(served).encode() if path == b"/count" else body
                served += path != b"/count"
                status = b"404 Not Found" if path == b"/missing" else b"200 OK"
                writer.write(
                    b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (status, len(said), said)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
