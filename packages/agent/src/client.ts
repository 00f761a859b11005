/** A client of an agent's API. */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { GuestCommand } from "@xenoserver/toolstack/control/index.ts";
import { encodeFrame, ToDomain } from "./exec-stream.ts";
import { AgentError } from "./home.ts";

export class AgentClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
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

  post<T>(path: string, body: unknown = {}): Promise<T> {
    return this.#send("POST", path, JSON.stringify(body));
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

  #upgrade(ref: string, what: "console" | "exec" | "watch", query = ""): Promise<Duplex> {
    const headers = { connection: "upgrade", upgrade: `xeno-${what}` };
    const path = `/v1/domains/${encodeURIComponent(ref)}/${what}${query}`;
    return new Promise((resolve, reject) => {
      const request = httpRequest({ socketPath: this.#socketPath, path, headers, agent: false });
      request.on("upgrade", (_response, socket: Duplex, head: Buffer) => {
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      });
      request.on("response", (response) => textOf(response).then((text) => reject(errorOf(response, text)), reject));
      request.on("error", reject);
      request.end();
    });
  }

  async #send<T>(method: string, path: string, body?: string): Promise<T> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request: ClientRequest = httpRequest({ socketPath: this.#socketPath, method, path, agent: false }, resolve);
      request.on("error", reject);
      request.end(body);
    });
    const text = await textOf(response);
    if (response.statusCode !== 200) throw errorOf(response, text);
    return JSON.parse(text) as T;
  }
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
