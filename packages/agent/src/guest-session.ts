/** A command in the guest of a domain that the agent runs, as a client sees it. */
import type { Duplex } from "node:stream";
import type { TerminalSize } from "@xenoserver/toolstack/agent/index.ts";
import type { CommandEnd, GuestCommand } from "@xenoserver/toolstack/control/index.ts";
import type { AgentClient } from "./client.ts";
import { FromDomain, MAX_FRAME_BYTES, readFrames, ToDomain, writeFrame } from "./exec-stream.ts";
import { AgentError } from "./home.ts";

export interface GuestStreams {
  /** Without, the command has no input. */
  readonly stdin?: AsyncIterable<Uint8Array>;
  /** Settles when there is room for more. */
  onStdout(bytes: Uint8Array): Promise<void> | void;
  onStderr(bytes: Uint8Array): Promise<void> | void;
}

/** A running command. */
export class GuestSession {
  readonly #socket: Duplex;
  /** The command's status, 128 and its number for a signal. @throws AgentError  it could not be run to its end */
  readonly status: Promise<number>;

  private constructor(socket: Duplex, streams: GuestStreams) {
    this.#socket = socket;
    this.status = this.#follow(streams);
    this.status.catch(() => {});
    void this.#feed(streams.stdin);
  }

  /** @throws AgentError  there is no such domain */
  static async start(
    agent: AgentClient,
    ref: string,
    command: GuestCommand,
    streams: GuestStreams,
  ): Promise<GuestSession> {
    const socket = await agent.exec(ref, command);
    socket.on("error", () => {});
    return new GuestSession(socket, streams);
  }

  signal(name: NodeJS.Signals): void {
    void writeFrame(this.#socket, ToDomain.signal, Buffer.from(name));
  }

  /** Tells a command with a terminal how large it is now. */
  resize(size: TerminalSize): void {
    void writeFrame(this.#socket, ToDomain.resize, Buffer.from(JSON.stringify(size)));
  }

  async #feed(stdin: AsyncIterable<Uint8Array> | undefined): Promise<void> {
    try {
      for await (const bytes of stdin ?? []) {
        for (let at = 0; at < bytes.length; at += MAX_FRAME_BYTES)
          await writeFrame(this.#socket, ToDomain.stdin, bytes.subarray(at, at + MAX_FRAME_BYTES));
      }
    } catch {
      // An input that breaks ends.
    }
    await writeFrame(this.#socket, ToDomain.stdin, new Uint8Array(0));
  }

  async #follow({ onStdout, onStderr }: GuestStreams): Promise<number> {
    for await (const { type, payload } of readFrames(this.#socket as AsyncIterable<Buffer>)) {
      if (type === FromDomain.stdout) await onStdout(payload);
      else if (type === FromDomain.stderr) await onStderr(payload);
      else if (type === FromDomain.end) {
        const end = JSON.parse(payload.toString()) as CommandEnd;
        if (end.error === undefined) return end.status;
        throw new AgentError(409, end.error);
      }
    }
    throw new AgentError(409, "the agent is gone, and the command with it");
  }
}
