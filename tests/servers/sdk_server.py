"""A small server on the Python SDK, on either line of it (1.x and 2.x).

Usage: sdk_server.py stdio | sse PORT | streamable-http PORT
"""

import sys

try:
    from mcp.server.mcpserver import MCPServer

    IS_2 = True
except ImportError:
    from mcp.server.fastmcp import FastMCP

    IS_2 = False


def make_server(**options):
    server = MCPServer("sdk") if IS_2 else FastMCP("sdk", **options)

    @server.tool()
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    def fail(message: str) -> str:
        """Fails."""
        raise ValueError(message)

    @server.resource("sdk://greeting")
    def greeting() -> str:
        """A greeting."""
        return "Hello from the SDK"

    return server


def main():
    transport = sys.argv[1]
    if transport == "stdio":
        make_server().run("stdio")
        return
    options = {"host": "127.0.0.1", "port": int(sys.argv[2])}
    if IS_2:
        make_server().run(transport, **options)
    else:
        make_server(**options).run(transport)


main()
