// The page: draws what the API says. Text of servers is set as text, never as HTML.
import { api, clean, el, onKey, Refused } from "./tools.js";
import { showOffers, showTools } from "./tools.js";

const MAX_EVENTS = 300;
const POLL_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);
let status = null;
let chosen = null;
let toolsOf = null;
let events = [];
let soon = null;
let streaming = null;

const WORDS = {
  ready: ["ready", "good"], connecting: ["connecting", "warn"], backoff: ["reconnecting", "warn"],
  auth_required: ["login needed", "bad"], dormant: ["failed", "bad"], disabled: ["disabled", "off"],
  idle: ["not connected", "off"], closed: ["closed", "off"],
  standby: ["standby", "off"], gone: ["gone", "bad"],
};

function stateOf(server) {
  const [word, kind] = WORDS[server.state] ?? [server.state, "off"];
  return el("span", `state ${kind}`, word);
}

function clock(at) {
  return at ? new Date(at).toLocaleTimeString([], { hour12: false }) : "–";
}

function ago(at) {
  if (!at) return "–";
  const s = Math.max(0, Math.round((Date.now() - new Date(at)) / 1000));
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  return s < 86400 ? `${Math.floor(s / 3600)} h ago` : `${Math.floor(s / 86400)} d ago`;
}

function ms(us) {
  if (us == null) return "–";
  return us < 1000 ? `${us} µs` : us < 1e6 ? `${(us / 1000).toPrecision(3)} ms` : `${(us / 1e6).toPrecision(3)} s`;
}

function span(ms) {
  if (ms < 1000) return `${ms} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toPrecision(2)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

const many = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);

function svg(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function plot(width, height, label) {
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  node.append(svg("line", { class: "base", x1: 0, x2: width, y1: height - .5, y2: height - .5 }));
  return node;
}

// Calls of each span as bars, what failed in its own colour.
function bars(calls, width, height, label) {
  const node = plot(width, height, label);
  const most = Math.max(1, ...calls.calls);
  const step = width / calls.calls.length;
  calls.calls.forEach((count, at) => {
    const bar = (kind, many) => {
      if (!many) return;
      const h = Math.max(1, (many / most) * (height - 2));
      node.append(svg("rect", { class: kind, x: at * step, y: height - h, width: Math.max(1, step - .6), height: h }));
    };
    bar("bar", count);
    bar("failed", calls.failed[at]);
  });
  return node;
}

// The mean of each span as a line, its slowest call as a bar behind it.
function latency(calls, width, height, label) {
  const node = plot(width, height, label);
  const most = Math.max(1, ...calls.max_us.map((us) => us ?? 0));
  const step = width / calls.mean_us.length;
  const y = (us) => height - 1 - (us / most) * (height - 4);
  let line = [];
  const draw = () => {
    if (line.length > 1) node.append(svg("polyline", { class: "mean", points: line.join(" ") }));
    else if (line.length) {
      const [x, top] = line[0].split(",").map(Number);
      node.append(svg("rect", { class: "dot", x: x - step / 2, y: top - .5, width: step, height: 1.5 }));
    }
    line = [];
  };
  calls.mean_us.forEach((mean, at) => {
    if (mean == null) return draw();
    const top = y(calls.max_us[at]);
    node.append(svg("rect", { class: "max", x: at * step, y: top, width: Math.max(1, step - .6), height: height - top }));
    line.push(`${(at + .5) * step},${y(mean)}`);
  });
  draw();
  return node;
}

function minutes(calls) {
  return (calls.calls.length * calls.span_ms) / 60000;
}

function mean(calls) {
  const all = sum(calls.calls);
  if (!all) return null;
  return Math.round(sum(calls.mean_us.map((us, at) => (us ?? 0) * calls.calls[at])) / all);
}

function whyOf(server) {
  if (server.state === "ready" || server.state === "disabled") return "";
  return server.why ?? "";
}

// An address to give to a client, with a button that copies it.
function copyable(path) {
  const url = new URL(path, document.baseURI).href;
  const line = el("span", "copy");
  const text = el("code", "", url);
  const button = el("button", "", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy ${clean(url)}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(url);
      button.textContent = "Copied";
    } catch {
      // Not every page may write to the clipboard: the person copies what is selected.
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  line.append(text, button);
  return line;
}

function drawUrl() {
  const { at } = status.serves;
  if ($("at").dataset.of === at) return;
  $("at").dataset.of = at;
  $("at").replaceChildren(copyable(at));
  $("url").hidden = false;
}

function drawList() {
  const list = $("list");
  const had = document.activeElement?.dataset?.server;
  list.replaceChildren(...status.servers.map((server) => {
    const row = el("button", "row");
    row.type = "button";
    row.dataset.server = server.name;
    row.setAttribute("aria-current", String(server.name === chosen));
    const head = el("span", "name", server.name);
    const rate = sum(server.calls.calls) / minutes(server.calls);
    const facts = el("span", "facts");
    const calls = rate ? ` · ${rate.toPrecision(2)} calls/min, ${ms(mean(server.calls))}` : "";
    facts.append(stateOf(server), ` · ${many(server.tools, "tool")}${calls}`);
    row.append(head, facts, bars(server.calls, 90, 26, `calls of ${clean(server.name)}`));
    row.lastChild.setAttribute("width", 90);
    row.lastChild.setAttribute("height", 26);
    const why = whyOf(server);
    if (why) row.append(el("span", "why", why));
    row.addEventListener("click", () => { location.hash = `#server=${encodeURIComponent(server.name)}`; });
    const item = el("li");
    item.append(row);
    return item;
  }));
  if (!status.servers.length) list.append(el("li", "hint", "No server is configured."));
  if (had) list.querySelector(`[data-server="${CSS.escape(had)}"]`)?.focus();
}

function fact(list, name, value) {
  if (value === "" || value == null) return;
  list.append(el("dt", "", name), el("dd", "", String(value)));
}

function drawDetail() {
  const server = status.servers.find((one) => one.name === chosen);
  $("server-head").textContent = server ? clean(server.name) : "No server";
  const detail = $("detail");
  if (!server) {
    detail.replaceChildren();
    for (const part of ["tools", "prompts", "resources"]) { $(part).replaceChildren(); delete $(part).dataset.mark; }
    toolsOf = null;
    return;
  }
  const facts = el("dl");
  facts.append(el("dt", "", "state"), el("dd"));
  facts.lastChild.append(stateOf(server));
  fact(facts, "why", whyOf(server));
  const whole = server.last_error?.message ?? "";
  if (whyOf(server) && whole && whole !== whyOf(server)) {
    const more = el("details");
    more.dataset.of = "why";
    more.open = detail.querySelector('[data-of="why"]')?.open ?? false;
    more.append(el("summary", "", "Everything that was tried"), el("p", "about", whole));
    // So that it keeps the focus when this is drawn again.
    more.firstChild.dataset.action = "why";
    facts.lastChild.append(more);
  }
  fact(facts, "next attempt", server.next_retry_at && `${clock(server.next_retry_at)} (number ${server.attempt + 1})`);
  fact(facts, "connected", server.connected_at && `${ago(server.connected_at)}, in ${server.connect_ms ?? "–"} ms`);
  fact(facts, "over", [server.transport, server.protocol].filter(Boolean).join(", MCP "));
  fact(facts, "heartbeat", server.last_heartbeat && `${ago(server.last_heartbeat)}, ${ms(server.heartbeat_latency_us)}`);
  fact(facts, "missed", server.consecutive_misses || "");
  fact(facts, "last end", server.last_disconnect && `${lostBy(server.last_disconnect.cause)}, ${ago(server.last_disconnect.at)}`);
  fact(facts, "in flight", server.in_flight || "");
  fact(facts, "processes", server.instances.map((one) => one.pid).filter(Boolean).join(", "));
  fact(facts, "of clients", server.of_clients.map((one) => `${one.principal ?? "a client"}: ${one.state.replaceAll("_", " ")}, since ${clock(one.since)}`).join("; "));
  fact(facts, "left out", server.rejected ? `${server.rejected} entries of its lists` : "");
  fact(facts, "calls", `${server.calls.total} in total, ${server.calls.failed_total} failed`);
  const had = detail.contains(document.activeElement) ? document.activeElement.dataset.action : null;
  const controls = el("p", "controls");
  const actions = server.enabled ? [["reconnect", "Reconnect"], ["probe", "Probe"], ["disable", "Disable"]] : [["enable", "Enable"]];
  for (const [action, word] of status.operator ? actions : []) {
    const button = el("button", "", word);
    button.type = "button";
    button.dataset.action = action;
    button.addEventListener("click", () => act(server.name, action));
    controls.append(button);
  }
  const said = el("span", "hint", acted.server === server.name ? acted.said : "");
  said.setAttribute("role", "status");
  controls.append(said);
  const plots = el("div", "plots");
  const figure = (node, words) => {
    const one = el("figure");
    one.append(node, el("figcaption", "", words));
    plots.append(one);
  };
  figure(bars(server.calls, 300, 60, "calls"), `Calls in the last ${many(minutes(server.calls), "minute")}: ${sum(server.calls.calls)} (${sum(server.calls.failed)} failed)`);
  figure(latency(server.calls, 300, 60, "latency"), `Mean ${ms(mean(server.calls))}, slowest ${ms(server.calls.max_us.reduce((a, b) => Math.max(a, b ?? 0), 0) || null)}`);
  detail.replaceChildren(facts, controls, plots);
  if (server.stderr_tail.length) {
    detail.append(el("h3", "", "Last lines of its stderr"), el("pre", "", server.stderr_tail.join("\n")));
  }
  if (had) detail.querySelector(`[data-action="${CSS.escape(had)}"]`)?.focus();
  const mark = `${server.name} ${server.state} ${server.tools}`;
  if (toolsOf !== mark) {
    toolsOf = mark;
    showTools($("tools"), server.name);
    showOffers($("prompts"), server.name, "prompts", "Prompts");
    showOffers($("resources"), server.name, "resources", "Resources");
  }
}

let acted = { server: null, said: "" };

async function act(server, action) {
  acted = { server, said: `${action} …` };
  drawDetail();
  try {
    const done = await api(`servers/${encodeURIComponent(server)}/${action}`, {});
    acted.said = done.ok ? `${action}: done` : `${action}: ${done.why}`;
  } catch (error) {
    acted.said = `${action}: ${error.message}`;
  }
  refresh();
}

function drawEvents() {
  const only = $("only").checked;
  const beats = $("beats").checked;
  const shown = events.filter((event) =>
    (!only || event.server === chosen) && (beats || event.event !== "heartbeat_ok"));
  $("events").replaceChildren(...shown.slice(0, 100).map((event) => {
    const item = el("li");
    const time = el("time", "", clock(event.at));
    const bad = event.error || ["missed", "disconnected"].includes(event.event);
    item.append(time, el("span", "", event.server ?? "all"), el("span", bad ? "bad" : "", event.words));
    return item;
  }));
  if (!shown.length) $("events").append(el("li", "hint", "Nothing yet."));
}

const LOST = {
  connect_failed: "could not be connected", process_exited: "died",
  remote_closed: "closed the connection", heartbeat_failed: "stopped answering",
  reported: "was reported as lost", requested: "was disconnected",
  reconfigured: "was closed for its new configuration", idle_timeout: "was closed, as nobody used it",
  auth_required: "refused its credentials", shutdown: "was shut down",
};

const lostBy = (cause) => LOST[cause] ?? "was lost";

const NAMES = 5;

function named(verb, names) {
  if (!names?.length) return [];
  return [`${verb} ${many(names.length, "tool")}: ${names.slice(0, NAMES).join(", ")}${names.length > NAMES ? " …" : ""}`];
}

// An event in a sentence about its server; null for one that another event says better.
function sentence(event) {
  const why = event.why ? `: ${event.why}` : "";
  switch (event.event) {
    case "state_changed":
      return { disabled: "is disabled", auth_required: "needs a login", dormant: "is tried only now and then from here on" }[event.to] ?? null;
    case "connected": return `is connected over ${event.transport} in ${span(event.elapsed_ms)}`;
    case "connect_failed": return `could not be connected (attempt ${event.attempt})${why}`;
    case "disconnected": return `${lostBy(event.cause)}${event.why ? ` (${event.why})` : ""}, was up ${span(event.uptime_ms)}`;
    case "retry_scheduled": return `is tried again in ${span(event.delay_ms)} (attempt ${event.attempt})`;
    case "heartbeat_ok": return `answers in ${ms(event.latency_us)}`;
    case "heartbeat_missed": return `missed heartbeat ${event.misses}${why}`;
    case "tools_changed":
      return [...named("has", event.added), ...named("no longer has", event.removed), ...named("changed", event.changed)].join("; ") || null;
    case "prompts_changed": return "has other prompts";
    case "resources_changed": return "has other resources";
    case "resource_updated": return `changed ${event.uri}`;
    case "catalog_stale": return `did not list what it has${why}`;
    case "catalog_items_rejected": {
      const [first] = event.items;
      return `has ${many(event.items.length, "item")} that cannot be used${first ? `: ${first.name}: ${first.reason}` : ""}`;
    }
    case "calls_cancelled": return `took ${many(event.count, "call")} with it`;
    case "orphans_killed": return `left ${many(event.count, "process", "processes")}, now killed`;
    case "reconfigured": return "has a new configuration";
    case "config_rejected": return `The changed config is not used${why}`;
    case "resumed": return `This machine slept for ${span(event.asleep_ms)}`;
    case "missed": return `This page missed ${many(event.events, "event")}`;
    default: return event.event.replaceAll("_", " ");
  }
}

function drawClients(clients) {
  $("clients").replaceChildren(...clients.map((client) => {
    const row = el("tr");
    const name = [client.name ?? "unnamed", client.version].filter(Boolean).join(" ");
    const who = client.principal ? `${name} (${client.principal})` : name;
    for (const text of [who, client.protocol, client.carrier, client.scope, client.requests, ago(client.last_seen)]) {
      row.append(el("td", "", String(text)));
    }
    return row;
  }));
  if (!clients.length) none($("clients"), 6, "No clients are connected.");
}

// The one row of a table that has none.
function none(body, columns, words) {
  const row = el("tr");
  row.append(el("td", "hint", words));
  row.lastChild.colSpan = columns;
  body.replaceChildren(row);
}

// What a model is given: the tools of the pool or a profile, or two that find and call them.
const shownAs = (part) => (part.tool_search ? "tool search" : "all tools");

function catalog(part) {
  const of = part.name == null ? "" : ` of the profile ${clean(part.name)}`;
  const how = part.tool_search ? ", through tool search" : "";
  return `${many(part.tools, "tool")}${of}, about ${part.tokens_estimate} tokens (estimate)${how}`;
}

function drawProfiles() {
  $("parts").hidden = !status.profiles.length;
  $("profiles").replaceChildren(...status.profiles.map((part) => {
    const row = el("tr");
    for (const text of [part.name, `/${part.at}`, part.tools, part.tokens_estimate, shownAs(part)]) {
      row.append(el("td", "", String(text)));
    }
    return row;
  }));
}

// The workers of the pool: one line for each server of each.
function drawFleet() {
  const fleet = status.fleet;
  $("fleet").hidden = !fleet;
  if (!fleet) return;
  const away = fleet.connected ? "" : ", NATS is away: as it was last known";
  $("fleet-head").textContent = `Workers of the pool ${clean(fleet.pool)}${away}`;
  const rows = [];
  for (const worker of fleet.workers) {
    const servers = worker.servers.length ? worker.servers : [null];
    servers.forEach((server, at) => {
      const row = el("tr");
      const cell = (text) => row.append(el("td", "", text));
      cell(at ? "" : worker.worker);
      cell(at ? "" : worker.place || "–");
      cell(server?.server ?? "–");
      const state = el("td");
      state.append(stateOf({ state: worker.here ? server?.state ?? "idle" : "gone" }));
      row.append(state);
      cell(String(server?.tools ?? "–"));
      cell(server ? (server.epoch ? `${server.sharing}, epoch ${server.epoch}` : server.sharing) : "–");
      cell(server?.why ?? "");
      rows.push(row);
    });
  }
  $("workers").replaceChildren(...rows);
  if (!rows.length) none($("workers"), 7, "No worker of the pool is known.");
}

function draw() {
  const ready = status.servers.filter((server) => server.state === "ready").length;
  const enabled = status.servers.filter((server) => server.enabled).length;
  $("summary").textContent = `${ready} of ${enabled} servers ready · ${catalog(status.serves)} · version ${status.version} · started ${ago(status.since)}`;
  drawUrl();
  document.title = `mcpool ${ready}/${enabled}`;
  drawList();
  drawDetail();
  drawProfiles();
  drawFleet();
}

async function refresh() {
  try {
    const [now, { clients }] = await Promise.all([api("status"), api("clients")]);
    status = now;
    $("login").hidden = true;
    $("main").hidden = false;
    if (!status.servers.some((server) => server.name === chosen)) choose();
    draw();
    drawClients(clients);
    if (!streaming) stream();
  } catch (error) {
    if (error instanceof Refused) return askKey(error);
    linked(false);
  }
}

function choose() {
  const named = new URLSearchParams(location.hash.slice(1)).get("server");
  const known = status?.servers.some((server) => server.name === named);
  chosen = known ? named : status?.servers[0]?.name ?? null;
}

function askKey(error) {
  $("main").hidden = true;
  $("refused").textContent = onKey() ? error.message : "";
  if ($("login").hidden) { $("login").hidden = false; $("key").focus(); }
  $("link").textContent = "a key is needed";
}

function linked(is) {
  $("link").textContent = is ? "live" : "connection lost, trying again";
  $("link").classList.toggle("lost", !is);
}

// Events over fetch, because EventSource cannot send a key.
async function stream() {
  const mine = (streaming = {});
  try {
    const response = await api("events", undefined, true);
    linked(true);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      rest += value;
      const parts = rest.split("\n\n");
      rest = parts.pop();
      for (const part of parts) take(part);
    }
  } catch {
    // Tried again below.
  }
  if (streaming === mine) { linked(false); setTimeout(() => { streaming = null; refresh(); }, POLL_MS); }
}

function take(part) {
  const of = (name) => part.split("\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
  const data = of("data");
  if (!data || of("event") === "begun") return;
  const event = JSON.parse(data);
  const kept = event.missed !== undefined ? { at: new Date(), event: "missed", events: event.missed } : event;
  kept.words = sentence(kept);
  if (kept.words !== null) {
    events.unshift(kept);
    events.length = Math.min(events.length, MAX_EVENTS);
    drawEvents();
  }
  // Its lists are to be read again.
  if (event.server === chosen && /^(tools|prompts|resources)_changed$/.test(event.event)) toolsOf = null;
  if (event.event !== "heartbeat_ok" && !soon) soon = setTimeout(() => { soon = null; refresh(); }, 150);
}

$("login").addEventListener("submit", (submit) => {
  submit.preventDefault();
  onKey($("key").value);
  $("key").value = "";
  refresh();
});
for (const box of ["only", "beats"]) $(box).addEventListener("change", drawEvents);
addEventListener("hashchange", () => { choose(); if (status) { draw(); drawEvents(); $("server").focus(); } });
setInterval(() => { if (!document.hidden && !$("main").hidden) refresh(); }, POLL_MS);
drawEvents();
refresh();
