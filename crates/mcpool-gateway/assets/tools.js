// The tools of a server, and a form to call each. Calls go over MCP, as those of any client.

const KEY = "mcpool-key";
const PROTOCOL = "2025-11-25";

export class Refused extends Error {}

// The key that the person entered, for as long as the tab lives.
export function onKey(key) {
  if (key !== undefined) sessionStorage.setItem(KEY, key);
  return sessionStorage.getItem(KEY);
}

function headers(more) {
  const key = onKey();
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

// A request to the API: with a body it is an action.
export async function api(path, body, raw) {
  const post = body !== undefined;
  const response = await fetch(`api/v1/${path}`, {
    method: post ? "POST" : "GET",
    headers: headers(post ? { "content-type": "application/json" } : {}),
    body: post ? JSON.stringify(body) : undefined,
    cache: "no-store",
  });
  if (response.status === 401) throw new Refused("unknown, expired or revoked key");
  if (raw && response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error?.message ?? answer.error ?? `HTTP ${response.status}`);
  return answer;
}

// What cannot be seen, or turns the text around, is shown as what it is.
export function clean(text) {
  return String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\u{e0000}-\u{e0fff}]/gu,
    (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

export function el(name, kind, text) {
  const node = document.createElement(name);
  if (kind) node.className = kind;
  if (text !== undefined) node.textContent = clean(text);
  return node;
}

const sessions = new Map();
let lastId = 0;

async function post(at, message, session) {
  const more = { "content-type": "application/json", accept: "application/json, text/event-stream" };
  if (session) Object.assign(more, { "mcp-session-id": session, "mcp-protocol-version": PROTOCOL });
  const response = await fetch(at, {
    method: "POST", headers: headers(more), body: JSON.stringify({ jsonrpc: "2.0", ...message }),
  });
  if (response.status === 401) throw new Refused("unknown, expired or revoked key");
  return response;
}

async function begin(at) {
  const response = await post(at, { id: ++lastId, method: "initialize", params: {
    protocolVersion: PROTOCOL, capabilities: {}, clientInfo: { name: "page of mcpool", version: "1" } } });
  const answer = await response.json();
  if (answer.error) throw new Error(answer.error.message);
  const session = response.headers.get("mcp-session-id");
  await post(at, { method: "notifications/initialized" }, session);
  sessions.set(at, session);
  return session;
}

// The answer, out of a document or of an event stream.
async function answerOf(response, id) {
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) return response.json();
  const messages = (await response.text()).split("\n").filter((line) => line.startsWith("data:")).map((line) => JSON.parse(line.slice(5)));
  return messages.find((message) => message.id === id) ?? { error: { message: "the stream ended without an answer" } };
}

async function call(at, name, args) {
  const request = { id: ++lastId, method: "tools/call", params: { name, arguments: args } };
  let session = sessions.get(at) ?? (await begin(at));
  let response = await post(at, request, session);
  if (response.status === 404) response = await post(at, request, (session = await begin(at)));
  return answerOf(response, request.id);
}

// The server whose tools were asked for last: a slower answer for another one is dropped.
let wanted = null;

export async function showTools(place, server) {
  wanted = server;
  const head = el("h3", "", "Tools");
  let list;
  try {
    list = await api(`servers/${encodeURIComponent(server)}/tools`);
  } catch (error) {
    if (wanted !== server) return;
    delete place.dataset.mark;
    place.replaceChildren(head, el("p", "hint", error.message));
    return;
  }
  if (wanted !== server) return;
  // What a person has opened and typed stays, where the tools are the same.
  const mark = server + JSON.stringify(list.tools);
  if (place.dataset.mark === mark) return;
  place.replaceChildren(head, ...list.tools.map((tool) => toolOf(list.at, tool)));
  place.dataset.mark = mark;
  if (!list.tools.length) place.append(el("p", "hint", "No tools known yet."));
}

// What else a server lists, to be read: the kind is "prompts" or "resources".
export async function showOffers(place, server, kind, title) {
  place.dataset.wanted = server;
  let list;
  try {
    list = (await api(`servers/${encodeURIComponent(server)}/${kind}`))[kind];
  } catch {
    // Why nothing is known of the server stands with its tools.
    list = [];
  }
  if (place.dataset.wanted !== server) return;
  const mark = server + JSON.stringify(list);
  if (place.dataset.mark === mark) return;
  place.dataset.mark = mark;
  place.replaceChildren();
  if (!list.length) return;
  place.append(el("h3", "", `${title} (${list.length})`), ...list.map((offer) => {
    const details = el("details");
    const summary = el("summary");
    const about = typeof offer.description === "string" ? offer.description : "";
    summary.append(el("span", "name", offer.uri ?? offer.name), el("span", "says", about ? ` — ${firstOf(about)}` : ""));
    details.append(summary, el("pre", "", JSON.stringify(offer, null, 2)));
    return details;
  }));
}

const firstOf = (about) => about.split(/(?<=[.!?])\s|\n/)[0].slice(0, 160);

function toolOf(at, tool) {
  const details = el("details");
  const summary = el("summary");
  // What a server says may be of any shape.
  const about = typeof tool.description === "string" ? tool.description : "";
  summary.append(el("span", "name", tool.name), el("span", "says", about ? ` — ${firstOf(about)}` : ""));
  for (const [hint, word] of [["readOnlyHint", "read-only"], ["destructiveHint", "destructive"], ["idempotentHint", "idempotent"]]) {
    if (tool.annotations?.[hint] === true) summary.append(el("span", "badge", word));
  }
  details.append(summary);
  // Hundreds of forms are not made before one is wanted.
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) {
      if (about) details.append(el("p", "about", about));
      details.append(formOf(at, tool));
    }
  });
  return details;
}

let fieldId = 0;

function typeOf(schema) {
  const type = schema?.type;
  return Array.isArray(type) ? type.find((one) => one !== "null") : type;
}

function fieldOf(name, schema, required) {
  const field = el("div", "field");
  const id = `field-${++fieldId}`;
  const type = typeOf(schema);
  const label = el("label", "", required ? `${name} *` : name);
  label.htmlFor = id;
  let input;
  const choices = (Array.isArray(schema?.enum) ? schema.enum : null) ?? (type === "boolean" ? [true, false] : null);
  if (choices) {
    input = el("select");
    if (!required || schema.default === undefined) input.append(new Option("", ""));
    for (const choice of choices) input.append(new Option(clean(typeof choice === "string" ? choice : JSON.stringify(choice)), JSON.stringify(choice)));
    if (schema.default !== undefined) input.value = JSON.stringify(schema.default);
  } else if (type === "integer" || type === "number") {
    input = el("input");
    input.type = "number";
    input.step = type === "integer" ? "1" : "any";
    if (schema.default !== undefined) input.value = schema.default;
  } else {
    input = el("textarea");
    input.rows = 1;
    if (schema?.default !== undefined) input.value = typeof schema.default === "string" ? schema.default : JSON.stringify(schema.default);
  }
  input.id = id;
  input.required = required && type !== "string";
  field.append(label, input);
  const notes = [type ?? "any", type !== "string" && input.tagName === "TEXTAREA" ? "as JSON" : "", schema?.description ?? ""].filter(Boolean);
  field.append(el("small", "", notes.join(" · ")));
  field.read = () => {
    if (input.value === "") return type === "string" && required ? "" : undefined;
    if (type === "string" && !choices) return input.value;
    if (input.type === "number") return Number(input.value);
    try {
      return JSON.parse(input.value);
    } catch {
      throw new Error(`${name} is no JSON`);
    }
  };
  return field;
}

function formOf(at, tool) {
  const form = el("form");
  const schema = tool.inputSchema ?? {};
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const fields = Object.entries(schema.properties ?? {}).map(([name, of]) => [name, fieldOf(name, of, required.has(name))]);
  for (const [, field] of fields) form.append(field);
  if (!fields.length) form.append(el("p", "hint", "No parameters."));
  const button = el("button", "main", "Call");
  const answer = el("div");
  answer.setAttribute("role", "status");
  const raw = el("details");
  raw.append(el("summary", "", "Schema"), el("pre", "", JSON.stringify(tool, null, 2)));
  form.append(button, answer, raw);
  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    const begun = performance.now();
    button.disabled = true;
    answer.replaceChildren(el("p", "hint", "calling …"));
    try {
      const args = {};
      for (const [name, field] of fields) {
        const value = field.read();
        // A plain assignment of `__proto__` would be lost.
        if (value !== undefined) Object.defineProperty(args, name, { value, enumerable: true, configurable: true, writable: true });
      }
      const message = await call(at, tool.name, args);
      answer.replaceChildren(...shown(message, performance.now() - begun));
    } catch (error) {
      answer.replaceChildren(el("p", "bad", error.message));
    } finally {
      button.disabled = false;
    }
  });
  return form;
}

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

function shown(message, took) {
  const time = `${took.toPrecision(3)} ms`;
  if (message.error) return [el("p", "bad", `error ${message.error.code ?? ""}: ${message.error.message} (${time})`)];
  const result = message.result ?? {};
  const blocks = (result.content ?? []).map((block) => {
    if (block.type === "text") return el("pre", "", block.text);
    if (block.type === "image" && IMAGES.includes(block.mimeType)) {
      const image = el("img");
      image.alt = "an image of the server";
      image.src = `data:${block.mimeType};base64,${block.data}`;
      return image;
    }
    return el("pre", "", JSON.stringify(block, null, 2));
  });
  if (result.structuredContent !== undefined) blocks.push(el("pre", "", JSON.stringify(result.structuredContent, null, 2)));
  const head = el("p", result.isError ? "bad" : "good", result.isError ? `the tool says that it failed (${time})` : `answered in ${time}`);
  return [head, ...blocks];
}
