/**
 * The agent's API: HTTP/1.1 with JSON bodies over a UNIX socket, and over TLS 1.3 with certificates on both sides where it was set up for that.
 *
 *     GET  /v1/agent                      pid and version of the protocol
 *     GET  /v1/domains                    what runs
 *     POST /v1/domains                    {"spec":{…},"paused":false,"overcommit":false} → what runs now
 *     POST /v1/domains                    {"restore":PATH,"name":NAME,"paused":false,"overcommit":false}, for a saved one
 *     POST /v1/domains                    {"awaits":{…}}, for one that another agent will send → {"domid":7,"socket":PATH}
 *     POST /v1/domains/REF/fork           {"count":1,"name":PREFIX,"overcommit":false} → copies that go on from where it is
 *     GET  /v1/domains/DOMID/arrive       upgraded: the line by which it is sent, see migrate/ of the toolstack
 *     GET  /v1/domains/DOMID/arrival      waits until it runs here; 404 if it does not and will not
 *     POST /v1/domains/DOMID/give-up      it will not come
 *     POST /v1/domains/REF/migrate        {"to":PATH,"overcommit":false,"copyStorage":false}, of another agent's socket
 *     GET  /v1/domains/REF                one of them, by name or number
 *     POST /v1/domains/REF/OPERATION      an operation of the control socket, its arguments as the body
 *     GET  /v1/domains/REF/end            waits for its end, and tells it
 *     GET  /v1/domains/REF/console        upgraded: bytes both ways
 *     GET  /v1/domains/REF/exec           upgraded: a command in the guest, see exec-stream.ts
 *     GET  /v1/domains/REF/log            {"log":TEXT}, what the hypervisor had to say of it
 *     GET  /v1/domains/REF/watch?path=P   upgraded: lines {"path":…} for each change at or below a path of its xenstore, or one {"error":…}
 *     GET  /v1/usage                      sums by domain
 *     GET  /metrics                       for Prometheus
 *     POST /v1/agent/stop                 ends the agent; domains stay
 *
 * Errors are {"error":SENTENCE}.
 */
import { rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { Duplex } from "node:stream";
import {
  type ControlClient,
  ControlError,
  type DomainSpec,
  type OperationName,
} from "@xenoserver/toolstack/control/index.ts";
import { serveExec } from "./exec-stream.ts";
import { AgentError, type AgentHome } from "./home.ts";
import { describeMetrics, METRICS_TYPE } from "./metrics.ts";
import { Supervisor } from "./supervisor.ts";
import { credentialsOf, type ListenAt, listenOf } from "./tls/credentials.ts";
import { join } from "./tunnel.ts";

/** Operations that make sense without a connection that stays. */
const OPERATIONS: readonly OperationName[] = [
  ...([
    "info",
    "pause",
    "unpause",
    "shutdown",
    "sysrq",
    "destroy",
    "save",
    "snapshot",
    "rename",
    "memory-set",
    "vcpu-set",
  ] as const),
  ...(["block-attach", "block-detach", "network-attach", "network-detach", "console-read", "console-write"] as const),
  ...(["xenstore-read", "xenstore-list", "xenstore-tree", "xenstore-write", "xenstore-rm", "xenstore-chmod"] as const),
];
const MAX_BODY_BYTES = 1 << 20;

export interface RunningAgent {
  /** Settles when somebody asked for its end at its socket. */
  readonly stopAsked: Promise<void>;
  close(): Promise<void>;
}

/** @throws AgentError  another agent runs in this folder */
export async function startAgent(home: AgentHome): Promise<RunningAgent> {
  const supervisor = await Supervisor.open(home);
  const { promise: stopAsked, resolve: stop } = Promise.withResolvers<void>();
  const serve = <S extends Server | TlsServer>(server: S): S => {
    server.on("request", (request, response) => void answer(supervisor, request, response, stop));
    server.on("upgrade", (request, socket) => void upgrade(supervisor, request, socket));
    return server;
  };
  const local = serve(createServer());
  const remote = remoteServer(home);
  const servers = [local, ...(remote === undefined ? [] : [serve(remote.server)])];
  const close = async (): Promise<void> => {
    supervisor.close();
    for (const server of servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
    rmSync(home.socket, { force: true });
  };
  try {
    // Whoever listened here before does not any more, or would have the journal.
    rmSync(home.socket, { force: true });
    await listen(local, home.socket);
    if (remote !== undefined) await listenRemotely(remote);
  } catch (error) {
    await close();
    throw error;
  }
  return { stopAsked, close };
}

interface RemoteServer extends ListenAt {
  readonly server: TlsServer;
}

/** For agents and clients of other machines, which have certificates of the same authority. */
function remoteServer(home: AgentHome): RemoteServer | undefined {
  const [credentials, at] = [credentialsOf(home), listenOf(home)];
  if (credentials === undefined || at === undefined) return undefined;
  const both = { requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" } as const;
  const server = createTlsServer({ ...credentials, ...both });
  server.on("connection", (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
  return { server, ...at };
}

const KEEP_ALIVE_MS = 10_000;

/** @throws AgentError  the address cannot be listened at */
function listenRemotely({ server, host, port }: RemoteServer): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) =>
      reject(new AgentError(500, `agent: cannot listen at ${host}:${port}: ${error.message}`)),
    );
    server.listen(port, host, resolve);
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const mask = process.umask(0o177);
    server.listen(path, resolve);
    process.umask(mask);
  });
}

async function answer(
  supervisor: Supervisor,
  request: IncomingMessage,
  response: ServerResponse,
  stop: () => void,
): Promise<void> {
  let status = 200;
  let body: unknown;
  try {
    if (request.method === "GET" && request.url === "/metrics") {
      response.writeHead(200, { "content-type": METRICS_TYPE });
      return void response.end(describeMetrics(await supervisor.list()));
    }
    body = await route(supervisor, request, stop);
  } catch (error) {
    status = statusOf(error);
    body = { error: status === 500 ? String((error as Error).stack) : (error as Error).message };
  }
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
}

async function route(supervisor: Supervisor, request: IncomingMessage, stop: () => void): Promise<unknown> {
  const { method, parts } = targetOf(request);
  const [version, kind, ref, op] = parts;
  const target = `${method} ${kind ?? ""}${op === undefined ? "" : `/${op}`}`;
  if (version !== "v1" || parts.length > 4) throw new AgentError(404, `${request.url}: no such resource`);
  if (target === "GET agent" && ref === undefined) return { pid: process.pid, protocol: 1 };
  if (target === "POST agent" && ref === "stop") {
    setImmediate(stop);
    return {};
  }
  if (target === "GET usage") return { usage: await supervisor.usage() };
  if (target === "GET domains" && ref === undefined) return { domains: await supervisor.list() };
  if (target === "POST domains" && ref === undefined) return create(supervisor, await bodyOf(request));
  if (target === "GET domains") return supervisor.call(ref!, "info", {});
  if (target === "GET domains/end") return supervisor.ended(ref!);
  if (target === "GET domains/log") return { log: supervisor.log(ref!) };
  if (target === "GET domains/arrival") return supervisor.arrived(Number(ref));
  if (target === "POST domains/fork") return fork(supervisor, ref!, await bodyOf(request));
  if (target === "POST domains/give-up") return supervisor.giveUp(Number(ref)).then(() => ({}));
  if (target === "POST domains/migrate") return migrate(supervisor, ref!, await bodyOf(request));
  if (method === "POST" && kind === "domains" && OPERATIONS.includes(op as OperationName))
    return supervisor.call(ref!, op as "info", (await bodyOf(request)) as Record<string, never>);
  throw new AgentError(404, `${method} ${request.url}: no such resource`);
}

function migrate(supervisor: Supervisor, ref: string, body: Readonly<Record<string, unknown>>): Promise<unknown> {
  const { to, overcommit, copyStorage } = body;
  if (typeof to !== "string" || to === "")
    throw new AgentError(400, `to is ${JSON.stringify(to)}, expected the path of another agent's socket, or HOST:PORT`);
  return supervisor.migrate(ref, to, { overcommit: overcommit === true, copyStorage: copyStorage === true });
}

const MAX_COPIES = 256;

function fork(supervisor: Supervisor, ref: string, body: Readonly<Record<string, unknown>>): Promise<unknown> {
  const { count = 1, name, overcommit } = body;
  if (typeof count !== "number" || !Number.isInteger(count) || count < 1 || count > MAX_COPIES)
    throw new AgentError(400, `count is ${JSON.stringify(count)}, expected 1 to ${MAX_COPIES}`);
  if (name !== undefined && typeof name !== "string")
    throw new AgentError(400, `name is ${JSON.stringify(name)}, expected what the copies' names begin with`);
  return supervisor.fork(ref, count, name, overcommit === true);
}

function create(supervisor: Supervisor, body: Readonly<Record<string, unknown>>): Promise<unknown> {
  const { restore, awaits, paused = false, overcommit = false } = body;
  const spec = awaits ?? body["spec"];
  const options = { paused: paused === true, overcommit: overcommit === true };
  const name = typeof body["name"] === "string" ? body["name"] : undefined;
  if (typeof restore === "string" && restore.startsWith("/")) return supervisor.restore(restore, options, name);
  if (typeof spec !== "object" || spec === null) throw new AgentError(400, "spec is missing, expected keys of xl.cfg");
  for (const [key, value] of Object.entries(spec)) {
    const isList = Array.isArray(value) && value.every((item) => typeof item === "string");
    if (typeof value !== "string" && typeof value !== "number" && !isList)
      throw new AgentError(
        400,
        `spec: ${key} is ${JSON.stringify(value)}, expected a string, a number or a list of strings`,
      );
  }
  if (awaits !== undefined) return supervisor.await(spec as DomainSpec, options.overcommit);
  return supervisor.create(spec as DomainSpec, options);
}

async function bodyOf(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  let text = "";
  for await (const piece of request) {
    text += String(piece);
    if (text.length > MAX_BODY_BYTES) throw new AgentError(413, `body has more than ${MAX_BODY_BYTES} bytes`);
  }
  try {
    const value: unknown = text === "" ? {} : JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Readonly<Record<string, unknown>>;
  } catch {
    // As for a value that is none.
  }
  throw new AgentError(400, "body is no JSON object");
}

function targetOf(request: IncomingMessage): { method: string; parts: string[] } {
  const path = new URL(request.url ?? "/", "http://agent").pathname;
  return {
    method: request.method ?? "GET",
    parts: path
      .split("/")
      .filter((part) => part !== "")
      .map(decodeURIComponent),
  };
}

const STATUS_OF = { invalid: 400, "not-found": 404, conflict: 409, "in-doubt": 409, internal: 500 } as const;

function statusOf(error: unknown): number {
  if (error instanceof AgentError) return error.status;
  return error instanceof ControlError ? STATUS_OF[error.code] : 500;
}

/** What is served over a connection that stays. */
const SERVED_UPGRADED = { console: serveConsole, exec: serveExec, watch: serveWatch } as const;
const isServed = (op: string | undefined): op is keyof typeof SERVED_UPGRADED =>
  op !== undefined && Object.hasOwn(SERVED_UPGRADED, op);

async function upgrade(supervisor: Supervisor, request: IncomingMessage, socket: Duplex): Promise<void> {
  socket.on("error", () => {});
  try {
    const [, kind, ref, op] = targetOf(request).parts;
    if (kind === "domains" && op === "arrive") return await serveArrival(supervisor, Number(ref), socket);
    if (kind !== "domains" || !isServed(op)) throw new AgentError(404, `${request.url}: no such resource`);
    const client = await supervisor.connect(ref!);
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: xeno-${op}\r\n\r\n`);
    await SERVED_UPGRADED[op](client, socket, new URL(request.url!, "http://agent").searchParams);
  } catch (error) {
    const body = JSON.stringify({ error: (error as Error).message });
    if (!socket.destroyed)
      socket.end(`HTTP/1.1 ${statusOf(error)} Refused\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  }
}

/** @throws AgentError  no such domain is awaited */
async function serveArrival(supervisor: Supervisor, domid: number, socket: Duplex): Promise<void> {
  const line = await supervisor.arrivalLine(domid);
  socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: xeno-arrive\r\n\r\n");
  join(socket, line);
}

/** Changes of a domain's xenstore, the first of which is the state at the beginning. */
async function serveWatch(client: ControlClient, socket: Duplex, parameters: URLSearchParams): Promise<void> {
  client.onEvent = (event) => {
    if (event.event === "xenstore") socket.write(`${JSON.stringify({ path: event.path })}\n`);
  };
  void client.closed.then(() => socket.end());
  socket.on("close", () => client.close());
  await client
    .call("xenstore-watch", { path: parameters.get("path") ?? "", token: "watch" })
    .catch((error: Error) => socket.end(`${JSON.stringify({ error: error.message })}\n`));
  socket.resume();
}

/** A console: what the guest prints, from the oldest byte that is kept on; and what is typed. */
async function serveConsole(client: ControlClient, socket: Duplex): Promise<void> {
  client.onEvent = (event) => {
    if (event.event !== "console" || socket.write(Buffer.from(event.base64, "base64"))) return;
    client.hold();
    socket.once("drain", () => client.release());
  };
  void client.closed.then(() => socket.end());
  socket.on("close", () => client.close());
  await client.call("console-follow", {});
  for await (const bytes of socket) {
    await client.call("console-write", { base64: (bytes as Buffer).toString("base64") });
  }
}
