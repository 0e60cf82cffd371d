//! Stdio MCP servers on many machines, reached over [NATS](https://nats.io).
