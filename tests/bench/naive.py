"""The proxy that a user would write: it passes everything on, and does nothing else. `python naive.py PORT UPSTREAM`.

It is the unit of most ratios, so it does what is known to make aiohttp fast: uvloop, one session, no limit of connections, no
decompression, no access log.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

PORT, UPSTREAM = int(sys.argv[1]), sys.argv[2]
NOT_PASSED_ON = {"host", "content-length", "connection", "transfer-encoding"}


async def main() -> None:
    """Serve until the process is ended."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    session = aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout)

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in NOT_PASSED_ON}
        async with session.request(request.method, UPSTREAM + request.path_qs, data=body, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in NOT_PASSED_ON:
                    response.headers[name] = value
            response.content_length = answer.content_length
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT, backlog=8192).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
