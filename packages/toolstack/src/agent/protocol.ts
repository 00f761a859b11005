/**
 * What host and agent say to each other over a line that carries bytes in both directions.
 *
 *     frame      0xe7 · type · length (16 bits) · id (32 bits) · up to 1024 bytes           numbers have their low byte first
 *
 *     to the guest                                    to the host
 *     1 spec     a piece of a process's description   1 started   process id
 *     2 start    begins it, as `id`                   2 failed    errno: there is no such process then
 *     3 stdin    bytes; none ends it                  3 stdout    bytes; none ends it
 *     4 signal   number, for its process group        4 stderr    bytes; none ends it
 *     5 credit   so many more bytes of output         5 exit      status as wait(2) has it; the last frame of an id
 *                are wanted                           6 room      so many more bytes of input are welcome
 *     6 resize   columns and rows, 16 bits each, of its terminal
 *     7 reseed   up to 64 random bytes for the kernel's generator; an agent of earlier versions passes it over
 *
 * **Beginning.** The agent sends 2048 zeros, a greeting of 16 bytes and 8 bytes of its own; the host answers with the same 24
 * bytes, then frames follow. What was under way with an agent before is over. The zeros fill up a frame that it left
 * unfinished, and neither side takes anything else for a greeting, so both find their way after either began anew.
 *
 * **Flow.** Neither side sends more of an id's bytes than the other has asked for, so that one process that is slow to read, or
 * whose output nobody reads, holds up no other.
 *
 * **Description.** Words, each behind a letter and before a NUL: a argument, e NAME=VALUE, c working folder, u "uid gid gid…",
 * r root folder, b p (instead of a program: standard input becomes the file of the first argument, with the second as its mode)
 * b g (the file becomes standard output), t "columns rows" (a terminal for its input and output, which come as stdout together), or b o (what was written goes to the disks, and the machine off). Later words replace earlier ones, but for arguments.
 */

export const GREETING = Buffer.from("XENO-AGENT-1 <->");
export const GREETING_BYTES = GREETING.length + 8;
export const HEADER_BYTES = 8;
export const MAX_PAYLOAD_BYTES = 1024;
/** As the agent keeps it, with its defaults beside it. */
export const MAX_SPEC_BYTES = 131072;
export const MAX_PROCESSES = 64;

const FRAME_MARK = 0xe7;

export const ToGuest = { spec: 1, start: 2, stdin: 3, signal: 4, credit: 5, resize: 6, reseed: 7 } as const;
export type ToGuest = (typeof ToGuest)[keyof typeof ToGuest];

export const ToHost = { started: 1, failed: 2, stdout: 3, stderr: 4, exit: 5, room: 6 } as const;

export interface Frame {
  readonly type: number;
  readonly id: number;
  readonly payload: Uint8Array;
}

export function encodeFrame(type: ToGuest, id: number, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  const frame = Buffer.alloc(HEADER_BYTES + payload.length);
  frame.writeUInt8(FRAME_MARK, 0);
  frame.writeUInt8(type, 1);
  frame.writeUInt16LE(payload.length, 2);
  frame.writeUInt32LE(id, 4);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

export function encodeNumber(type: ToGuest, id: number, value: number): Uint8Array {
  const payload = Buffer.alloc(4);
  payload.writeUInt32LE(value, 0);
  return encodeFrame(type, id, payload);
}

/** What a process is to be. */
export interface ProcessSpec {
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Numbers: the user, and its groups, the first of which is its own. */
  readonly user?: { readonly uid: number; readonly gids: readonly number[] };
  readonly root?: string;
  readonly builtin?: "put" | "get" | "off";
  /** Gives the process a terminal of this size. Errors come among its output then. */
  readonly terminal?: TerminalSize;
}

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** As a frame carries them. @throws RangeError  a terminal is not that large */
export function sizeNumber({ columns, rows }: TerminalSize): number {
  for (const [name, value] of Object.entries({ columns, rows }))
    if (!Number.isInteger(value) || value < 0 || value > 0xffff)
      throw new RangeError(`terminal: has ${value} ${name}, expected a whole number ≤ 65535`);
  return (columns | (rows << 16)) >>> 0;
}

/** @throws RangeError  a word has a NUL in it, or they are too many bytes */
export function encodeSpec({ args, env = {}, cwd, user, root, builtin, terminal }: ProcessSpec): Uint8Array {
  if (terminal !== undefined) sizeNumber(terminal);
  const words = [
    ...(root === undefined ? [] : [`r${root}`]),
    ...(cwd === undefined ? [] : [`c${cwd}`]),
    ...(user === undefined ? [] : [`u${[user.uid, ...user.gids].join(" ")}`]),
    ...(builtin === undefined ? [] : [`b${builtin[0]}`]),
    ...(terminal === undefined ? [] : [`t${terminal.columns} ${terminal.rows}`]),
    ...Object.entries(env).map(([name, value]) => `e${name}=${value}`),
    ...args.map((arg) => `a${arg}`),
  ];
  const odd = words.find((word) => word.includes("\0"));
  if (odd !== undefined) throw new RangeError(`${JSON.stringify(odd.slice(1, 80))}: has a NUL in it, expected none`);
  const bytes = Buffer.from(words.map((word) => `${word}\0`).join(""));
  if (bytes.length > MAX_SPEC_BYTES)
    throw new RangeError(`command: has ${bytes.length} bytes with its environment, expected ≤ ${MAX_SPEC_BYTES}`);
  return bytes;
}

/** Takes the guest's bytes apart. What the guest sends is its word only: whatever it is, this throws nothing. */
export class AgentReader {
  #bytes = Buffer.alloc(0);
  /** Until a greeting came, and again once the stream makes no sense. */
  #lost = true;

  /** @returns frames and greetings in order; a greeting is given back whole, to be answered by the same bytes */
  read(bytes: Uint8Array): (Frame | { readonly greeting: Uint8Array })[] {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    const found: (Frame | { readonly greeting: Uint8Array })[] = [];
    for (;;) {
      const next = this.#lost ? this.#greeting() : this.#frame();
      if (next === undefined) return found;
      if (next !== "lost") found.push(next);
    }
  }

  #greeting(): { greeting: Uint8Array } | undefined {
    const at = this.#bytes.indexOf(GREETING);
    if (at === -1 || at + GREETING_BYTES > this.#bytes.length) {
      // Keeps what may be its beginning.
      const from = at === -1 ? Math.max(0, this.#bytes.length - GREETING.length + 1) : at;
      this.#bytes = this.#bytes.subarray(from);
      return undefined;
    }
    const greeting = this.#bytes.subarray(at, at + GREETING_BYTES);
    this.#bytes = this.#bytes.subarray(at + GREETING_BYTES);
    this.#lost = false;
    return { greeting };
  }

  #frame(): Frame | "lost" | undefined {
    if (this.#bytes.length === 0) return undefined;
    if (this.#bytes[0] !== FRAME_MARK) {
      this.#lost = true;
      return "lost";
    }
    if (this.#bytes.length < HEADER_BYTES) return undefined;
    const length = this.#bytes.readUInt16LE(2);
    if (length > MAX_PAYLOAD_BYTES) {
      this.#lost = true;
      return "lost";
    }
    if (this.#bytes.length < HEADER_BYTES + length) return undefined;
    const frame = {
      type: this.#bytes[1]!,
      id: this.#bytes.readUInt32LE(4),
      payload: this.#bytes.subarray(HEADER_BYTES, HEADER_BYTES + length),
    };
    this.#bytes = this.#bytes.subarray(HEADER_BYTES + length);
    return frame;
  }
}
