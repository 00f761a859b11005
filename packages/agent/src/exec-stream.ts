/**
 * A command in a guest over an upgraded connection: frames of a type (u8), a length (u32, low byte first) and so many bytes.
 *
 *     to the domain                          from it
 *     0 command   JSON; the first frame      1 stdout    bytes
 *     1 stdin     bytes; none ends it        2 stderr    bytes
 *     2 signal    its name                   3 end       JSON, how it ended; the last frame
 *     3 resize    JSON, its terminal's size
 */
import type { Duplex } from "node:stream";
import type { CommandEnd, ControlClient, GuestCommand } from "@xenoserver/toolstack/control/index.ts";
import { AgentError } from "./home.ts";

export const ToDomain = { command: 0, stdin: 1, signal: 2, resize: 3 } as const;
export const FromDomain = { stdout: 1, stderr: 2, end: 3 } as const;

const HEAD_BYTES = 5;
export const MAX_FRAME_BYTES = 64 * 1024;
/** A command line may be long. */
const MAX_PAYLOAD_BYTES = 1 << 20;

export function encodeFrame(type: number, payload: Uint8Array): Buffer {
  const frame = Buffer.alloc(HEAD_BYTES + payload.length);
  frame.writeUInt8(type, 0);
  frame.writeUInt32LE(payload.length, 1);
  frame.set(payload, HEAD_BYTES);
  return frame;
}

export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

/** @param frame  exactly one, as `encodeFrame` makes it */
export const decodeFrame = (frame: Buffer): Frame => ({ type: frame[0]!, payload: frame.subarray(HEAD_BYTES) });

/** @throws AgentError  a frame is longer than any */
export async function* readFrames(source: AsyncIterable<Buffer>): AsyncGenerator<Frame> {
  let waiting: Buffer = Buffer.alloc(0);
  for await (const bytes of source) {
    waiting = waiting.length === 0 ? bytes : Buffer.concat([waiting, bytes]);
    for (;;) {
      if (waiting.length < HEAD_BYTES) break;
      const length = waiting.readUInt32LE(1);
      if (length > MAX_PAYLOAD_BYTES)
        throw new AgentError(400, `a frame of ${length} bytes, expected at most ${MAX_PAYLOAD_BYTES}`);
      if (waiting.length < HEAD_BYTES + length) break;
      yield { type: waiting[0]!, payload: waiting.subarray(HEAD_BYTES, HEAD_BYTES + length) };
      waiting = waiting.subarray(HEAD_BYTES + length);
    }
  }
}

/** Writes; settles when there is room for more, or nobody reads any more. */
export async function writeFrame(socket: Duplex, type: number, payload: Uint8Array): Promise<void> {
  if (socket.destroyed || socket.write(encodeFrame(type, payload))) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      socket.off("drain", done);
      socket.off("close", done);
      resolve();
    };
    socket.on("drain", done);
    socket.on("close", done);
  });
}

const TOKEN = "1";

/** Serves one connection: a client of the domain's control socket of its own, so that both end together. */
export async function serveExec(client: ControlClient, socket: Duplex): Promise<void> {
  client.onEvent = (event) => {
    if (event.event === "exec-output") {
      const type = event.stream === "stdout" ? FromDomain.stdout : FromDomain.stderr;
      if (socket.write(encodeFrame(type, Buffer.from(event.base64, "base64")))) return;
      client.hold();
      socket.once("drain", () => client.release());
    } else if (event.event === "exec-end") {
      const { event: _, token: __, ...end } = event;
      finish(socket, end);
    }
  };
  void client.closed.then(() => finish(socket, { error: "the domain ended" }));
  socket.on("close", () => client.close());
  // Leaving the loop closes the connection, last words or not: so it is left when the client has had enough.
  for await (const frame of readFrames(socket as AsyncIterable<Buffer>))
    await take(client, frame).catch((error: Error) => finish(socket, { error: error.message }));
}

async function take(client: ControlClient, { type, payload }: Frame): Promise<void> {
  if (type === ToDomain.command) {
    const command = JSON.parse(payload.toString()) as GuestCommand;
    await client.call("exec-start", { token: TOKEN, command });
  } else if (type === ToDomain.stdin) {
    await client.call("exec-input", { token: TOKEN, base64: payload.toString("base64") }).catch(ignoreEnded);
  } else if (type === ToDomain.signal) {
    await client.call("exec-signal", { token: TOKEN, signal: payload.toString() }).catch(ignoreEnded);
  } else if (type === ToDomain.resize) {
    await client.call("exec-resize", { token: TOKEN, size: JSON.parse(payload.toString()) }).catch(ignoreEnded);
  }
}

/** A command may end before it has read what was typed. */
function ignoreEnded(error: Error & { code?: string }): void {
  if (error.code !== "not-found") throw error;
}

function finish(socket: Duplex, end: CommandEnd): void {
  if (!socket.writableEnded && !socket.destroyed)
    socket.end(encodeFrame(FromDomain.end, Buffer.from(JSON.stringify(end))));
}
