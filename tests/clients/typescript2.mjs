// Usage: typescript2.mjs JOURNAL URL | typescript2.mjs JOURNAL -- COMMAND ARGS…
//
// MODE in the environment is `legacy` or `auto`.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

import { PATIENCE, runChecks } from "./checks.mjs";

const [, , , target, command, ...args] = process.argv;

await runChecks({
  async connect(answer) {
    const client = new Client(
      { name: "typescript-sdk-2", version: "2" },
      {
        capabilities: { elicitation: { form: {} } },
        versionNegotiation: { mode: process.env.MODE },
      },
    );
    client.setRequestHandler("elicitation/create", answer);
    const transport =
      target === "--"
        ? new StdioClientTransport({ command, args, stderr: "inherit" })
        : new StreamableHTTPClientTransport(new URL(target));
    await client.connect(transport);
    return client;
  },
  version: (client) => client.getNegotiatedProtocolVersion(),
  call: (client, name, args, options) =>
    client.callTool({ name, arguments: args }, { timeout: PATIENCE, ...options }),
});
