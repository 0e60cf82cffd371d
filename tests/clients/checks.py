"""What every Python client does at the gateway; prints one JSON line for each check."""

import json
import os
import signal
import sys

import anyio

PATIENCE = 20

JOURNAL = sys.argv[1]


def same(seen, wanted):
    assert seen == wanted, f"{seen!r} instead of {wanted!r}"


async def journal_has(line):
    with anyio.fail_after(PATIENCE):
        while True:
            with open(JOURNAL, encoding="utf-8") as journal:
                if line in journal.read().split("\n"):
                    return
            await anyio.sleep(0.02)


def text_of(result):
    return "".join(block.text for block in result.content)


def is_error(result):
    return getattr(result, "is_error", None) or getattr(result, "isError", False)


async def run_checks(client):
    """`client` gives `version`, `tools()`, `call(name, arguments, progress)`, `cancel(scope)`."""

    async def list_():
        # A server that is slow to start shows its tools as soon as it is there.
        while not (tools := await client.tools()):
            await anyio.sleep(0.02)
        names = ["add", "pid", "steps", "wait", "greet"]
        same([tool.name for tool in tools], [f"up__{name}" for name in names])

    async def call():
        result = await client.call("up__add", {"a": 2, "b": 3})
        same(text_of(result), "5")

    async def progress():
        seen = []

        async def on_progress(done, total, message):
            seen.append([done, total, message])

        result = await client.call("up__steps", {"count": 3}, on_progress)
        same(text_of(result), "3 steps")
        same(seen, [[n, 3, f"step {n}"] for n in (1, 2, 3)])

    async def cancel():
        label = f"c{os.getpid()}"

        async def waiting(scope):
            with scope:
                await client.call("up__wait", {"label": label})

        scope = anyio.CancelScope()
        async with anyio.create_task_group() as group:
            group.start_soon(waiting, scope)
            await journal_has(f"waits {label}")
            await client.cancel(scope)
        await journal_has(f"cancelled {label}")

    async def elicitation():
        same(text_of(await client.call("up__greet", {})), "Hello, Ada")

    async def reconnect():
        before = int(text_of(await client.call("up__pid", {})))
        os.kill(before, signal.SIGKILL)
        # A call that the death cut off is not run twice by the gateway, but said to be unknown.
        after = await client.call("up__pid", {})
        if is_error(after):
            same(after.meta["mcpool/delivery"], "unknown")
            after = await client.call("up__pid", {})
        after = int(text_of(after))
        assert before != after, "the same process answers"

    print(json.dumps({"version": client.version}), flush=True)
    checks = [list_, call, progress, cancel, elicitation, reconnect]
    for check in checks:
        failure = None
        try:
            with anyio.fail_after(PATIENCE):
                await check()
        except BaseException as error:  # a cancelled scope of ours is a failure too
            failure = repr(error)
        name = check.__name__.rstrip("_")
        print(json.dumps({"check": name, "failure": failure}), flush=True)
