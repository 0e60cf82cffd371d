// What every TypeScript client does at the gateway; prints one JSON line for each check.
//
// The caller gives what differs between the SDKs: `connect(onQuestion)`, `call(client, name,
// args, options)`, `version(client)`.

import { readFileSync } from "node:fs";

export const PATIENCE = 20_000;

const [, , journal] = process.argv;

async function until(what, holds) {
  const end = Date.now() + PATIENCE;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const journalHas = (line) => readFileSync(journal, "utf8").split("\n").includes(line);

const textOf = (result) => result.content.map((block) => block.text).join("");

function same(seen, wanted) {
  if (JSON.stringify(seen) !== JSON.stringify(wanted)) {
    throw new Error(`${JSON.stringify(seen)} instead of ${JSON.stringify(wanted)}`);
  }
}

export async function runChecks({ connect, call, version }) {
  const client = await connect(() => ({ action: "accept", content: { name: "Ada" } }));
  console.log(JSON.stringify({ version: version(client) }));
  const checks = {
    async list() {
      // A server that is slow to start shows its tools as soon as it is there.
      let tools;
      await until("there are tools", async () => {
        ({ tools } = await client.listTools());
        return tools.length > 0;
      });
      same(
        tools.map((tool) => tool.name),
        ["add", "pid", "steps", "wait", "greet"].map((name) => `up__${name}`),
      );
      same(tools[0].inputSchema.required, ["a", "b"]);
    },
    async call() {
      const result = await call(client, "up__add", { a: 2, b: 3 });
      same([textOf(result), result.structuredContent], ["5", { result: 5 }]);
    },
    async progress() {
      const seen = [];
      const onprogress = ({ progress, total }) => seen.push([progress, total]);
      const result = await call(client, "up__steps", { count: 3 }, { onprogress });
      same([textOf(result), seen], ["3 steps", [[1, 3], [2, 3], [3, 3]]]);
    },
    async cancel() {
      const label = `c${process.pid}`;
      const abort = new AbortController();
      const waiting = call(client, "up__wait", { label }, { signal: abort.signal });
      waiting.catch(() => {});
      await until("the call has begun", () => journalHas(`waits ${label}`));
      abort.abort("no longer wanted");
      await waiting.then(
        () => { throw new Error("it was answered"); },
        () => {},
      );
      await until("the server was cancelled", () => journalHas(`cancelled ${label}`));
    },
    async elicitation() {
      same(textOf(await call(client, "up__greet", {})), "Hello, Ada");
    },
    async reconnect() {
      const before = Number(textOf(await call(client, "up__pid", {})));
      process.kill(before, "SIGKILL");
      // A call that the death cut off is not run twice by the gateway, but said to be unknown.
      let next = await call(client, "up__pid", {});
      if (next.isError) {
        same(next._meta?.["mcpool/delivery"], "unknown");
        next = await call(client, "up__pid", {});
      }
      const after = Number(textOf(next));
      if (before === after) throw new Error("the same process answers");
    },
  };
  for (const [check, body] of Object.entries(checks)) {
    let failure = null;
    try {
      await body();
    } catch (error) {
      failure = String(error?.message ?? error);
    }
    console.log(JSON.stringify({ check, failure }));
  }
  await client.close();
  process.exit(0);
}
