/** The control socket of a domain: takes requests from any number of clients at once. */
import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { ConfigError } from "../cfg/index.ts";
import {
  ControlError,
  type ControlErrorCode,
  type ControlEvent,
  LineReader,
  type Reply,
  type Request,
} from "./protocol.ts";

/** One client, as an operation sees it. */
export interface ControlPeer {
  send(event: ControlEvent): void;
  /** True while so much waits to be sent that more should wait too. */
  readonly isFull: boolean;
  /** Called once, when there is room again. */
  onRoom(callback: () => void): void;
  /** Called when the client is gone. */
  onClose(callback: () => void): void;
}

/** @throws ControlError, ConfigError */
export type Dispatch = (op: string, args: unknown, peer: ControlPeer) => Promise<unknown>;

const FULL_BYTES = 256 * 1024;

export class ControlServer {
  readonly #server: Server;
  readonly #path: string;
  readonly #sockets = new Set<Socket>();
  readonly #answers: Set<Promise<void>>;

  private constructor(server: Server, path: string, answers: Set<Promise<void>>) {
    this.#server = server;
    this.#path = path;
    this.#answers = answers;
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  /** Listens at a path that only this user may open; what lies there of a process that was killed is replaced. */
  static async listen(path: string, dispatch: Dispatch): Promise<ControlServer> {
    rmSync(path, { force: true });
    const answers = new Set<Promise<void>>();
    const server = createServer((socket) => serve(socket, dispatch, answers));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      // The socket is made within the call, with this mask; changed afterwards it would be open to others for a while.
      const mask = process.umask(0o177);
      server.listen(path, resolve);
      process.umask(mask);
    });
    return new ControlServer(server, path, answers);
  }

  /** Sends what waits, and answers that are still to come for a while; ends all connections and removes the socket. */
  async close(): Promise<void> {
    this.#server.close();
    const timer = Promise.withResolvers<void>();
    const timeout = setTimeout(timer.resolve, LAST_WORDS_MS);
    await Promise.race([Promise.all(this.#answers), timer.promise]);
    clearTimeout(timeout);
    await Promise.all([...this.#sockets].map(endSocket));
    rmSync(this.#path, { force: true });
  }
}

/** How long the last words may take, and a client to hear them. */
const LAST_WORDS_MS = 1000;

function endSocket(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.destroy(), LAST_WORDS_MS);
    socket.on("close", () => {
      clearTimeout(timer);
      resolve();
    });
    // Not closed before the client has: were it just asking for something else, that would fail, and its end of the connection with it, with what is still to be read there.
    socket.end();
  });
}

function serve(socket: Socket, dispatch: Dispatch, answers: Set<Promise<void>>): void {
  const reader = new LineReader();
  const write = (message: Reply | ControlEvent): void => {
    if (!socket.destroyed && socket.writable) socket.write(`${JSON.stringify(message)}\n`);
  };
  const peer: ControlPeer = {
    send: write,
    get isFull() {
      return socket.writableLength > FULL_BYTES;
    },
    onRoom: (callback) => void socket.once("drain", callback),
    onClose: (callback) => void socket.once("close", callback),
  };
  socket.setMaxListeners(0);
  socket.on("error", () => {});
  socket.on("data", (bytes: Buffer) => {
    try {
      for (const line of reader.push(bytes)) {
        const answered = answer(line, dispatch, peer, write).finally(() => answers.delete(answered));
        answers.add(answered);
      }
    } catch (error) {
      write({ id: 0, error: asReply(error) });
      socket.destroySoon();
    }
  });
}

async function answer(
  line: string,
  dispatch: Dispatch,
  peer: ControlPeer,
  write: (reply: Reply) => void,
): Promise<void> {
  let id = 0;
  try {
    const request = parse(line);
    id = request.id;
    write({ id, result: await dispatch(request.op, request.args ?? {}, peer) });
  } catch (error) {
    write({ id, error: asReply(error) });
  }
}

function parse(line: string): Request {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new ControlError("invalid", "a line is no JSON, expected a request");
  }
  const { id, op } = (value ?? {}) as Partial<Request>;
  if (!Number.isSafeInteger(id) || typeof op !== "string")
    throw new ControlError("invalid", 'a request has no id or op, expected {"id":1,"op":"info"}');
  return value as Request;
}

function asReply(error: unknown): { code: ControlErrorCode; message: string } {
  if (error instanceof ControlError) return { code: error.code, message: error.message };
  if (error instanceof ConfigError) return { code: "invalid", message: error.message };
  return { code: "internal", message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}
