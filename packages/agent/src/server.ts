/**
 * The agent at its addresses: HTTP/1.1 over a UNIX socket, and over TLS 1.3 with certificates on both sides where it was set up for that.
 * What it answers to is in `api/`.
 */
import { rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { Agent } from "./api/route.ts";
import { Api } from "./api/serve.ts";
import { answerUpgrade } from "./api/upgrade.ts";
import { AgentError, type AgentHome } from "./home.ts";
import { recoverOperations } from "./operations/recover.ts";
import { OperationRegistry } from "./operations/registry.ts";
import { Supervisor } from "./supervisor.ts";
import { credentialsOf, type ListenAt, listenOf } from "./tls/credentials.ts";

export interface RunningAgent {
  /** Settles when somebody asked for its end at its socket. */
  readonly stopAsked: Promise<void>;
  close(): Promise<void>;
}

/** @throws AgentError  another agent runs in this folder */
export async function startAgent(home: AgentHome): Promise<RunningAgent> {
  const supervisor = await Supervisor.open(home);
  const { promise: stopAsked, resolve: stop } = Promise.withResolvers<void>();
  const agent: Agent = { supervisor, operations: new OperationRegistry(supervisor.operations), stop };
  await recoverOperations(agent);
  const api = new Api(agent);
  const serve = <S extends Server | TlsServer>(server: S): S => {
    server.on("request", (request, response) => void api.answer(request, response));
    server.on("upgrade", (request, socket, head) => void answerUpgrade(agent, request, socket, head));
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
