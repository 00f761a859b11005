/** A client of an agent's API, of this machine's by a UNIX socket, of another's by TLS. */
import { type ClientRequest, request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { GuestCommand } from "@xenoserver/toolstack/control/index.ts";
import { encodeFrame, ToDomain } from "./exec-stream.ts";
import { AgentError } from "./home.ts";
import type { Credentials, ListenAt } from "./tls/credentials.ts";

/** An agent of another machine, and what this one proves itself with. */
export interface RemoteAgent extends ListenAt {
  readonly credentials: Credentials;
}

/** The connection, not the agent, said that it cannot be; what was asked for may have been done. */
export class AgentLost extends AgentError {}

export interface Asked {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** A server that does not answer for so long is looked at as gone. */
const SILENCE_MS = 10_000;

export class AgentClient {
  readonly #where: string | RemoteAgent;

  /** @param where  its socket's path, or a server */
  constructor(where: string | RemoteAgent) {
    this.#where = where;
  }

  /** False if no agent listens. */
  async isThere(): Promise<boolean> {
    try {
      await this.get("/v1/agent");
      return true;
    } catch (error) {
      if (error instanceof AgentError) throw error;
      return false;
    }
  }

  get<T>(path: string): Promise<T> {
    return this.#send("GET", path);
  }

  /** @param headers  such as `idempotency-key` and `if-match` */
  post<T>(path: string, body: unknown = {}, headers: Readonly<Record<string, string>> = {}): Promise<T> {
    return this.#send("POST", path, { body, headers });
  }

  /**
   * One answer, whatever its status, with its body still to be read.
   * @throws AgentLost, Error  there is none
   */
  ask(method: string, path: string, { headers = {}, body }: Asked = {}): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const typed = body === undefined ? headers : { "content-type": "application/json", ...headers };
      const request = this.#request({ method, path, headers: typed }, reject);
      request.on("response", resolve);
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** @throws AgentError  there is no such domain */
  console(ref: string): Promise<Duplex> {
    return this.#upgrade(ref, "console");
  }

  /**
   * Starts a command in a domain's guest. See `exec-stream.ts` for what goes over the connection.
   * @throws AgentError  there is no such domain; what else goes wrong is the connection's last frame
   */
  async exec(ref: string, command: GuestCommand): Promise<Duplex> {
    const socket = await this.#upgrade(ref, "exec");
    socket.write(encodeFrame(ToDomain.command, Buffer.from(JSON.stringify(command))));
    return socket;
  }

  /** Lines of JSON, {"path":…}, for what changes at or below a path of a domain's xenstore. @throws AgentError */
  watch(ref: string, path: string): Promise<Duplex> {
    return this.#upgrade(ref, "watch", `?path=${encodeURIComponent(path)}`);
  }

  /** The line by which a domain that is awaited there is sent. @throws AgentError  it is not awaited any more */
  arrive(domid: number): Promise<Duplex> {
    return this.#upgrade(String(domid), "arrive");
  }

  /** @throws Error  nobody answers */
  #request(options: RequestOptions, onFailure: (error: Error) => void): ClientRequest {
    const where = this.#where;
    if (typeof where === "string") {
      const request = httpRequest({ ...options, socketPath: where, agent: false });
      return request.on("error", onFailure);
    }
    const { host, port, credentials } = where;
    const remote = { host, port, ...credentials, minVersion: "TLSv1.3", agent: false } as const;
    const request = httpsRequest({ ...options, ...remote });
    const name = `server ${host}:${port}`;
    request.on("socket", (socket: Socket) => {
      socket.setKeepAlive(true, SILENCE_MS);
      const timer = setTimeout(() => request.destroy(new Error(`no answer within ${SILENCE_MS / 1000} s`)), SILENCE_MS);
      socket.once("secureConnect", () => clearTimeout(timer));
      socket.once("close", () => clearTimeout(timer));
    });
    return request.on("error", (error) => onFailure(new AgentLost(502, `${name}: ${error.message}`)));
  }

  #upgrade(ref: string, what: "console" | "exec" | "watch" | "arrive", query = ""): Promise<Duplex> {
    const headers = { connection: "upgrade", upgrade: `xeno-${what}` };
    const path = `/v1/domains/${encodeURIComponent(ref)}/${what}${query}`;
    return new Promise((resolve, reject) => {
      const request = this.#request({ path, headers }, reject);
      request.on("upgrade", (_response, socket: Duplex, head: Buffer) => {
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      });
      request.on("response", (response) => textOf(response).then((text) => reject(errorOf(response, text)), reject));
      request.end();
    });
  }

  async #send<T>(method: string, path: string, asked?: Asked): Promise<T> {
    return answerOf<T>(await this.ask(method, path, asked));
  }
}

/** @throws AgentError  what the agent said, unless it did what it was asked for */
export async function answerOf<T>(response: IncomingMessage): Promise<T> {
  const text = await textOf(response);
  if (response.statusCode !== 200 && response.statusCode !== 202) throw errorOf(response, text);
  return JSON.parse(text) as T;
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const piece of response) text += String(piece);
  return text;
}

function errorOf({ statusCode }: IncomingMessage, text: string): AgentError {
  let message = text;
  try {
    message = (JSON.parse(text) as { error: string }).error;
  } catch {
    // Not the agent's own words, then.
  }
  return new AgentError(statusCode ?? 500, message);
}
