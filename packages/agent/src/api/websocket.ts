/**
 * WebSockets beside the upgraded lines, for clients that have nothing else. The subprotocol has to be named.
 *
 *     console.xenoserver.v1   binary: bytes of the console, both ways; text from the client is typed as UTF-8
 *     exec.xenoserver.v1      binary: a frame's type (u8) and its bytes, as in exec-stream.ts; the client's first is the command
 *
 * A WebSocket has messages, so the length of a frame is not said.
 */
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import { createWebSocketStream, type WebSocket, WebSocketServer } from "ws";
import { decodeFrame, encodeFrame } from "../exec-stream.ts";
import { AgentError } from "../home.ts";
import type { LineRoute, OpenLine } from "./route.ts";

const MAX_MESSAGE_BYTES = 1 << 20;
/** Of RFC 6455: a message of a kind that is not expected. */
const UNSUPPORTED_DATA = 1003;

// Without compression: what a command prints is not to be guessed by how small it becomes.
const server = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false });

export const isWebSocket = ({ headers }: IncomingMessage): boolean => headers.upgrade?.toLowerCase() === "websocket";

/** @throws AgentError  there is none for the route, or another subprotocol is wanted */
export function openWebSocket(route: LineRoute, request: IncomingMessage, socket: Duplex, head: Buffer): OpenLine {
  const { subprotocol } = route;
  if (subprotocol === undefined) throw new AgentError(400, `Upgrade is "websocket", expected ${route.protocol}`);
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  if (!offered.includes(subprotocol))
    throw new AgentError(400, `Sec-WebSocket-Protocol is "${offered.join(", ")}", expected ${subprotocol}`);
  // The library agrees to the first that is offered.
  request.headers["sec-websocket-protocol"] = subprotocol;
  return () =>
    new Promise((resolve) => {
      server.handleUpgrade(request, socket, head, (peer) => {
        peer.on("error", () => {});
        resolve(subprotocol.startsWith("exec") ? new FrameMessages(peer) : createWebSocketStream(peer));
      });
    });
}

/** The bytes of an exec line, each frame as a message. Whoever writes into it writes one frame at a time. */
class FrameMessages extends Duplex {
  readonly #peer: WebSocket;

  constructor(peer: WebSocket) {
    super();
    this.#peer = peer;
    peer.on("message", (data: Buffer, isBinary: boolean) => {
      if (!isBinary || data.length === 0) return peer.close(UNSUPPORTED_DATA, "expected binary frames");
      if (!this.push(encodeFrame(data[0]!, data.subarray(1)))) peer.pause();
    });
    peer.on("close", () => this.destroy());
  }

  override _read(): void {
    if (this.#peer.isPaused) this.#peer.resume();
  }
  override _write(frame: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const { type, payload } = decodeFrame(frame);
    this.#peer.send(Buffer.concat([Buffer.of(type), payload]), done);
  }
  override _final(done: () => void): void {
    this.#peer.close();
    done();
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#peer.terminate();
    done(error);
  }
}
