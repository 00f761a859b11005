/**
 * Runs commands in a guest and copies files, through the agent that images are built with. Needs no network in the guest, and
 * nothing of its system but a kernel.
 */
import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { getSystemErrorMessage } from "node:util";
import { AgentError, GuestProcess, type ProcessExit } from "./guest-process.ts";
import { type AddressChange, addressCommand } from "./new-address.ts";
import { COPY_HOOK } from "./program.ts";
import {
  AgentReader,
  encodeFrame,
  encodeSpec,
  type Frame,
  MAX_PAYLOAD_BYTES,
  MAX_PROCESSES,
  type ProcessSpec,
  ToGuest,
  ToHost,
} from "./protocol.ts";

/** A line to a guest that carries bytes in order. */
export interface AgentLine {
  /** Queues bytes for the guest. */
  send(bytes: Uint8Array): void;
}

export interface ExecOptions extends Omit<ProcessSpec, "args" | "builtin"> {
  readonly stdin?: AsyncIterable<Uint8Array> | Uint8Array | string;
  /** Ends the process. */
  readonly signal?: AbortSignal;
}

export interface ExecResult extends ProcessExit {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** What a shell would have, where the caller does not say. */
const DEFAULT_ENV = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
} as const;

/** As much as the kernel's generator is made of. */
const SEED_BYTES = 64;

const NO_PROGRAM = "it has no such program";

/** Whatever an image's programs run as. */
const AS_ROOT = { user: { uid: 0, gids: [0] }, cwd: "/" } as const;

export class GuestAgent {
  readonly #line: AgentLine;
  readonly #reader = new AgentReader();
  readonly #processes = new Map<number, GuestProcess>();
  #next = 1;
  #closed: string | undefined;
  #greeted = false;
  #reseeds = false;
  #ready = Promise.withResolvers<void>();

  constructor(line: AgentLine) {
    this.#line = line;
    this.#ready.promise.catch(() => {});
  }

  /** To be called with what comes from the guest. Never throws. */
  receive(bytes: Uint8Array): void {
    for (const item of this.#reader.read(bytes)) {
      if ("greeting" in item) this.#greet(item.greeting);
      else if (this.#greeted) this.#take(item);
    }
  }

  /**
   * Has the guest's kernel go on with random numbers of its own, as a copy must. The agent that was there takes it at once if it was not
   * amid a frame; and whoever greets is told again.
   */
  reseed(): void {
    this.#reseeds = true;
    this.#sendSeed();
  }
  #sendSeed(): void {
    this.#line.send(encodeFrame(ToGuest.reseed, 0, randomBytes(SEED_BYTES)));
  }

  /**
   * Has a copy take the addresses that its interfaces have now, and run the guest's own hook, if it has one.
   * @returns what failed, in sentences
   * @throws AgentError  the agent is not there
   */
  async tellCopy(
    { name, addresses }: { readonly name: string; readonly addresses: readonly AddressChange[] },
    timeoutMs: number,
  ): Promise<string[]> {
    await this.ready(timeoutMs);
    const failures: string[] = [];
    for (const change of addresses) {
      // An image's programs may have a root of their own, without what this takes.
      const failure = await this.#tell(addressCommand(change), { ...AS_ROOT, root: "/" });
      if (failure !== undefined) failures.push(`vif ${change.devid}: the guest keeps its old address: ${failure}`);
    }
    const failure = await this.#tell([COPY_HOOK, name], AS_ROOT);
    // Most guests have none.
    if (failure !== undefined && failure !== NO_PROGRAM) failures.push(`${COPY_HOOK}: ${failure}`);
    return failures;
  }

  /** @returns why a command failed; undefined if it did not @throws AgentError  the agent is gone */
  async #tell(args: readonly string[], options: ExecOptions): Promise<string | undefined> {
    try {
      const { status, stderr } = await this.exec(args, options);
      return status === 0 ? undefined : `status ${status}: ${stderr.toString().trim()}`;
    } catch (error) {
      if (!(error instanceof AgentError) || error.errno === undefined) throw error;
      return NO_PROGRAM;
    }
  }

  /** To be called when the line ends, as with its domain. */
  close(reason: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    this.#ready.reject(new AgentError(reason));
    this.#failAll(reason);
  }

  /**
   * Waits for the agent.
   * @throws AgentError  it does not answer in time, or the domain ended
   */
  async ready(timeoutMs: number): Promise<void> {
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(
      () =>
        late.reject(
          new AgentError(
            `the guest's agent did not answer within ${timeoutMs / 1000} s: the guest is still starting, or its image was built without one`,
          ),
        ),
      timeoutMs,
    );
    try {
      await Promise.race([this.#ready.promise, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  #greet(greeting: Uint8Array): void {
    this.#failAll("the guest's agent was started anew");
    this.#line.send(greeting);
    if (this.#reseeds) this.#sendSeed();
    this.#greeted = true;
    this.#ready.resolve();
  }

  #failAll(reason: string): void {
    const error = new AgentError(reason);
    for (const process of this.#processes.values()) process.fail(error);
    this.#processes.clear();
  }

  #take({ type, id, payload }: Frame): void {
    const process = this.#processes.get(id);
    if (process === undefined) return;
    const number = payload.length >= 4 ? Buffer.from(payload).readInt32LE(0) : 0;
    switch (type) {
      case ToHost.started:
        return process.onStarted(number);
      case ToHost.failed:
        this.#processes.delete(id);
        return process.fail(new AgentError(`cannot be started: ${reasonOf(number)}`, number));
      case ToHost.stdout:
        return this.#output(process, id, "stdout", payload);
      case ToHost.stderr:
        return this.#output(process, id, "stderr", payload);
      case ToHost.exit:
        this.#processes.delete(id);
        return process.onExit(number);
      case ToHost.room:
        return process.onRoom(number >>> 0);
    }
  }

  #output(process: GuestProcess, id: number, name: "stdout" | "stderr", bytes: Uint8Array): void {
    try {
      process.onOutput(name, bytes);
    } catch (error) {
      this.#processes.delete(id);
      process.fail(error as AgentError);
    }
  }

  /**
   * Starts a process. Its streams are the caller's to read and to end.
   * @throws AgentError  the agent is not there yet, or has as many processes as it can have
   */
  start(spec: ProcessSpec): GuestProcess {
    if (this.#closed !== undefined) throw new AgentError(this.#closed);
    if (!this.#greeted) throw new AgentError("the guest's agent has not answered yet");
    if (this.#processes.size >= MAX_PROCESSES)
      throw new AgentError(`the guest's agent runs ${MAX_PROCESSES} processes already, expected fewer`);
    const words = encodeSpec({ ...spec, env: { ...DEFAULT_ENV, ...spec.env } });
    const id = this.#next++;
    const process = new GuestProcess(id, (frame) => {
      if (this.#closed === undefined && this.#processes.get(id) === process) this.#line.send(frame);
    });
    this.#processes.set(id, process);
    for (let at = 0; at < words.length; at += MAX_PAYLOAD_BYTES)
      this.#line.send(encodeFrame(ToGuest.spec, id, words.subarray(at, at + MAX_PAYLOAD_BYTES)));
    this.#line.send(encodeFrame(ToGuest.start, id));
    process.begin();
    return process;
  }

  /**
   * Runs a command to its end and gives back all that it wrote.
   * @throws AgentError  it cannot be started, or the agent is gone
   */
  async exec(args: readonly string[], { stdin, signal, ...spec }: ExecOptions = {}): Promise<ExecResult> {
    const process = this.start({ ...spec, args });
    const output = Promise.all([buffer(process.stdout), buffer(process.stderr)]);
    const kill = (): void => process.kill("SIGKILL");
    signal?.addEventListener("abort", kill, { once: true });
    try {
      void feed(process, stdin ?? "");
      const [exit, [stdout, stderr]] = await Promise.all([process.exited, output]);
      return { ...exit, stdout, stderr };
    } catch (error) {
      throw error instanceof AgentError ? new AgentError(`${args[0]}: ${error.message}`, error.errno) : error;
    } finally {
      signal?.removeEventListener("abort", kill);
    }
  }

  /**
   * Writes a file in the guest, as its root; it has its name once it is whole.
   * @param mode  permission bits
   * @throws AgentError  the guest cannot write it
   */
  async writeFile(path: string, data: AsyncIterable<Uint8Array> | Uint8Array | string, mode = 0o644): Promise<void> {
    const process = this.start({ ...AS_ROOT, args: [path, mode.toString(8)], builtin: "put" });
    process.stdout.resume();
    process.stderr.resume();
    const fed = feed(process, data);
    await checkEnd(process, path);
    await fed;
  }

  /**
   * Has the guest shut down, by its own `poweroff` or, where there is none that works, at once with its disks written.
   * @returns once the guest was asked; its domain ends soon
   * @throws  AgentError  the agent is gone
   */
  async powerOff(): Promise<void> {
    const asked = await this.exec(["poweroff"], AS_ROOT).catch((error: AgentError) => {
      if (error.errno === undefined) throw error;
      return undefined;
    });
    if (asked?.status === 0) return;
    const process = this.start({ ...AS_ROOT, args: ["/"], builtin: "off" });
    process.stdout.resume();
    process.stderr.resume();
    process.stdin.end();
    await checkEnd(process, "poweroff").catch(() => {});
  }

  /** A file's bytes, as they come, read by the guest's root. @throws AgentError  from the stream: the guest cannot read it */
  async *readFile(path: string): AsyncGenerator<Uint8Array> {
    const process = this.start({ ...AS_ROOT, args: [path], builtin: "get" });
    process.stderr.resume();
    process.stdin.end();
    try {
      for await (const piece of process.stdout as AsyncIterable<Uint8Array>) yield piece;
      await checkEnd(process, path);
    } finally {
      process.stdout.destroy();
      process.kill("SIGKILL");
    }
  }
}

async function checkEnd(process: GuestProcess, path: string): Promise<void> {
  const { status } = await process.exited;
  if (status !== 0) throw new AgentError(`${path}: ${reasonOf(status)}`, status);
}

async function feed(process: GuestProcess, data: AsyncIterable<Uint8Array> | Uint8Array | string): Promise<void> {
  const { stdin } = process;
  const pieces = typeof data === "string" ? [Buffer.from(data)] : data instanceof Uint8Array ? [data] : data;
  for await (const piece of pieces) {
    if (stdin.destroyed) return;
    // Settled also when the process ends before it has read all.
    await new Promise<void>((resolve) => {
      stdin.once("close", resolve);
      stdin.write(piece, () => {
        stdin.off("close", resolve);
        resolve();
      });
    });
  }
  stdin.end();
}

function reasonOf(errno: number): string {
  try {
    return getSystemErrorMessage(-errno) ?? `errno ${errno}`;
  } catch {
    return `errno ${errno}`;
  }
}
