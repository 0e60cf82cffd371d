"""Usage: python_sdk.py JOURNAL URL | python_sdk.py JOURNAL -- COMMAND ARGS…

The Python SDK, on either line of it (1.x and 2.x). With 2.x MODE in the environment is `legacy`
or `auto`.
"""

import os
import sys

import anyio
from checks import run_checks
from mcp import types

try:
    from mcp.client.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    IS_2 = True
except ImportError:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    IS_2 = False

TARGET, COMMAND = sys.argv[2], sys.argv[3:]


async def answer(_context, _params):
    return types.ElicitResult(action="accept", content={"name": "Ada"})


def server():
    return StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])


class Sdk2:
    def __init__(self, client):
        self.client = client
        self.version = client.protocol_version

    async def tools(self):
        return (await self.client.list_tools()).tools

    async def call(self, name, arguments, progress=None):
        return await self.client.call_tool(name, arguments, progress_callback=progress)

    async def cancel(self, scope):
        scope.cancel()


class Sdk1:
    def __init__(self, session, version):
        self.session = session
        self.version = version

    async def tools(self):
        return (await self.session.list_tools()).tools

    async def call(self, name, arguments, progress=None):
        return await self.session.call_tool(name, arguments, progress_callback=progress)

    async def cancel(self, scope):
        # This SDK does not tell the server by itself.
        last = self.session._request_id - 1
        params = types.CancelledNotificationParams(requestId=last)
        notification = types.CancelledNotification(params=params)
        await self.session.send_notification(types.ClientNotification(notification))
        scope.cancel()


async def main():
    if IS_2:
        target = stdio_client(server()) if TARGET == "--" else TARGET
        mode = os.environ["MODE"]
        async with Client(target, mode=mode, elicitation_callback=answer) as client:
            await run_checks(Sdk2(client))
        return
    opened = stdio_client(server()) if TARGET == "--" else streamable_http_client(TARGET)
    async with opened as (read, write, *_):
        async with ClientSession(read, write, elicitation_callback=answer) as session:
            initialized = await session.initialize()
            await run_checks(Sdk1(session, initialized.protocolVersion))


anyio.run(main)
