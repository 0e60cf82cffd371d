"""Usage: fastmcp_client.py JOURNAL URL | fastmcp_client.py JOURNAL -- COMMAND ARGS…"""

import sys

import anyio
from checks import run_checks
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport

TARGET, COMMAND = sys.argv[2], sys.argv[3:]


async def answer(_message, _kind, _params, _context):
    return {"name": "Ada"}


class FastMcp:
    def __init__(self, client):
        self.client = client
        self.version = client.session.protocol_version

    async def tools(self):
        return await self.client.list_tools()

    async def call(self, name, arguments, progress=None):
        options = {"progress_handler": progress, "raise_on_error": False}
        return await self.client.call_tool(name, arguments, **options)

    async def cancel(self, scope):
        scope.cancel()


async def main():
    if TARGET == "--":
        transport = StdioTransport(COMMAND[0], COMMAND[1:])
    else:
        transport = StreamableHttpTransport(TARGET)
    async with Client(transport, elicitation_handler=answer) as client:
        await run_checks(FastMcp(client))


anyio.run(main)
