/**
 * A cable between processes: frames over a stream socket, each with its length in front, 4 bytes in network order. That is
 * what passt and QEMU's stream networks speak ("plain"). Between our own processes a second word says what is left to be
 * done of the frame ("extended"): checksum state u8, 0 u8, bytes per segment u16.
 */
import type { Socket } from "node:net";
import { ALL_OFFLOADS, type Frame, type Frames, type Offloads, unplug } from "@xenoserver/devices/net/frames.ts";
import { finishFor, sealed } from "../offload/finish.ts";
import { put16, put32, u16, u32 } from "../wire/bytes.ts";
import { parseIp } from "../wire/ip.ts";

export type StreamFormat = "plain" | "extended";

const STATES = ["full", "verified", "blank"] as const;
/** The longest packet, and some room for tags. */
const MAX_FRAME_BYTES = 65_535 + 64;
/** While more than this waits in the socket, the sender is told that there is no room. */
const MAX_QUEUED_BYTES = 1 << 20;

export class FrameStream implements Frames {
  /** Whatever is left to be done is said beside the frame; or done here, where that cannot be said. */
  readonly offloads: Offloads = ALL_OFFLOADS;
  peer: Frames | undefined;
  readonly #socket: Socket;
  readonly #extended: boolean;
  readonly #headBytes: number;
  readonly #onClose: (reason: string | undefined) => void;
  #pieces: Buffer[] = [];
  #pendingBytes = 0;
  /** Taken from the socket and refused by the peer, who tells when there is room. */
  #waiting: Frame[] = [];
  #refused = false;
  #closed = false;

  /** @param onClose  called once, with a reason if the other side did not just go */
  constructor(socket: Socket, format: StreamFormat, onClose: (reason: string | undefined) => void) {
    this.#socket = socket;
    this.#extended = format === "extended";
    this.#headBytes = this.#extended ? 8 : 4;
    this.#onClose = onClose;
    socket.on("data", (bytes: Buffer) => this.#onData(bytes));
    socket.on("drain", () => this.#onDrain());
    socket.on("error", (error) => this.#end(error.message));
    socket.on("close", () => this.#end(undefined));
  }

  onFrame(frame: Frame): boolean {
    if (this.#closed) return true;
    if (this.#socket.writableLength > MAX_QUEUED_BYTES) {
      this.#refused = true;
      return false;
    }
    const whole = this.#extended ? frame : plainOf(frame);
    if (whole !== undefined) this.#write(whole);
    return true;
  }

  #write({ bytes, checksum, segmentBytes }: Frame): void {
    const head = Buffer.allocUnsafe(this.#headBytes);
    put32(head, 0, bytes.length);
    if (this.#extended) {
      head[4] = STATES.indexOf(checksum);
      head[5] = 0;
      put16(head, 6, segmentBytes);
    }
    this.#socket.cork();
    this.#socket.write(head);
    this.#socket.write(bytes);
    process.nextTick(() => this.#socket.uncork());
  }

  #onDrain(): void {
    if (!this.#refused) return;
    this.#refused = false;
    this.peer?.onRoom();
  }

  #onData(bytes: Buffer): void {
    this.#pieces.push(bytes);
    this.#pendingBytes += bytes.length;
    this.#takeFrames();
  }

  #takeFrames(): void {
    while (!this.#closed && this.#waiting.length === 0 && this.#pendingBytes >= this.#headBytes) {
      const head = this.#peek(this.#headBytes);
      const length = u32(head, 0);
      if (length > MAX_FRAME_BYTES || (this.#extended && head[4] >= STATES.length)) {
        this.#end(`a frame of ${length} bytes is announced, expected at most ${MAX_FRAME_BYTES}`);
        return;
      }
      if (this.#pendingBytes < this.#headBytes + length) return;
      const whole = this.#take(this.#headBytes + length);
      this.#deliver(whole, this.#headBytes);
    }
  }

  #deliver(whole: Buffer, at: number): void {
    if (this.peer === undefined) return;
    const checksum = this.#extended ? STATES[whole[4]] : "full";
    const segmentBytes = this.#extended ? u16(whole, 6) : 0;
    const frame = { bytes: whole.subarray(at), checksum, segmentBytes };
    this.#give([...finishFor(frame, this.peer.offloads)]);
  }

  #give(frames: Frame[]): void {
    while (frames.length > 0 && this.peer?.onFrame(frames[0]) === true) frames.shift();
    this.#waiting = this.peer === undefined ? [] : frames;
    if (this.#waiting.length > 0) this.#socket.pause();
  }

  #peek(count: number): Buffer {
    if (this.#pieces[0].length < count) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0];
  }

  #take(count: number): Buffer {
    const first = this.#peek(count);
    this.#pendingBytes -= count;
    if (first.length === count) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(count);
    return first.subarray(0, count);
  }

  onRoom(): void {
    if (this.#waiting.length === 0) return;
    this.#give(this.#waiting);
    if (this.#waiting.length > 0) return;
    this.#takeFrames();
    if (this.#waiting.length === 0) this.#socket.resume();
  }

  onUnplug(): void {
    this.#end(undefined);
  }

  #end(reason: string | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    unplug(this);
    this.#onClose(reason);
  }
}

/**
 * A frame as it can stand alone. A row of segments becomes one packet of their length, which IP allows, and which whoever
 * ends the connection does not care about.
 */
function plainOf(frame: Frame): Frame | undefined {
  if (frame.checksum !== "blank" && frame.segmentBytes === 0) return frame;
  const packet = parseIp(frame.bytes);
  return packet && sealed(packet);
}
