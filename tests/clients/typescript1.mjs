// Usage: typescript1.mjs JOURNAL URL | typescript1.mjs JOURNAL -- COMMAND ARGS…

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

import { PATIENCE, runChecks } from "./checks.mjs";

const [, , , target, command, ...args] = process.argv;

await runChecks({
  async connect(answer) {
    const client = new Client(
      { name: "typescript-sdk-1", version: "1" },
      { capabilities: { elicitation: { form: {} } } },
    );
    client.setRequestHandler(ElicitRequestSchema, answer);
    const transport =
      target === "--"
        ? new StdioClientTransport({ command, args, stderr: "inherit" })
        : new StreamableHTTPClientTransport(new URL(target));
    await client.connect(transport);
    return client;
  },
  version: (client) => client.transport.protocolVersion ?? null,
  call: (client, name, args, options) =>
    client.callTool({ name, arguments: args }, undefined, { timeout: PATIENCE, ...options }),
});
