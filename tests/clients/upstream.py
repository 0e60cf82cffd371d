"""The server behind the gateway in the tests with real clients, on the Python SDK 1.x or 2.x.

Usage: upstream.py JOURNAL

It writes to the journal, one line each, what a client cannot see: its process, and that a
call was cancelled.
"""

import os
import sys
from typing import Annotated

import anyio
from pydantic import BaseModel

try:
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.server.mcpserver.resolve import Elicit, Resolve

    server = MCPServer("upstream")
    IS_2 = True
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP

    server = FastMCP("upstream")
    IS_2 = False


def note(line):
    with open(sys.argv[1], "a", encoding="utf-8") as journal:
        journal.write(f"{line}\n")


class Answer(BaseModel):
    name: str


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def pid() -> int:
    """The process of this server."""
    return os.getpid()


@server.tool()
async def steps(count: int, ctx: Context) -> str:
    """Reports progress after each of some steps."""
    for step in range(count):
        await ctx.report_progress(step + 1, count, f"step {step + 1}")
        await anyio.sleep(0.05)
    return f"{count} steps"


@server.tool()
async def wait(label: str) -> str:
    """Waits until it is cancelled."""
    note(f"waits {label}")
    try:
        await anyio.sleep(3600)
    except anyio.get_cancelled_exc_class():
        note(f"cancelled {label}")
        raise
    return "nobody cancelled it"


if IS_2:

    def question() -> Elicit[Answer]:
        return Elicit("What is your name?", Answer)

    @server.tool()
    async def greet(answer: Annotated[Answer, Resolve(question)]) -> str:
        """Asks for a name and greets."""
        return f"Hello, {answer.name}"

else:

    @server.tool()
    async def greet(ctx: Context) -> str:
        """Asks for a name and greets."""
        result = await ctx.elicit("What is your name?", Answer)
        return f"Hello, {result.data.name}" if result.action == "accept" else result.action


server.run("stdio")
