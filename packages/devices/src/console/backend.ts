/**
 * The backend of hvc0. Output goes to one consumer, which may hold it back: the guest then waits, as it would for a
 * slow serial line. Input waits here until the guest makes room.
 */
import { ConsoleRing } from "./protocol.ts";

export interface ConsoleConfig {
  /** What messages call the console: "dom3 console". */
  readonly name: string;
  /** The 4096 live bytes of the console page. */
  readonly page: Uint8Array;
  /** Makes the guest's console port pending. */
  notify(): void;
  /** Called after the page was written. */
  markWritten(): void;
  /** Takes what the guest wrote; the bytes are the consumer's to keep. Must not throw. */
  onOutput(bytes: Uint8Array): void;
  /** Called when input that had to wait has gone to the guest. */
  onInputDrained?(): void;
  readonly log?: (message: string) => void;
}

export interface ConsoleState {
  readonly version: 1;
  /** Base64: input that the guest has not made room for. */
  readonly pendingInput: string;
}

/** Input beyond this is refused, so that nobody fills the host's memory through a guest that does not read. */
const MAX_PENDING_INPUT_BYTES = 65536;

export class ConsoleBackend {
  readonly #config: ConsoleConfig;
  readonly #ring: ConsoleRing;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #holdsOutput = false;
  #complained = false;

  constructor(config: ConsoleConfig) {
    this.#config = config;
    this.#ring = new ConsoleRing(config.page);
  }

  /** To be called when the guest notified its console port, and once at the start. Never throws. */
  onEvent(): void {
    const took = this.#holdsOutput ? 0 : this.#takeOutput();
    const gave = this.#giveInput();
    if (took + gave === 0) return;
    this.#config.markWritten();
    this.#config.notify();
  }

  #takeOutput(): number {
    const bytes = this.#ring.takeOutput();
    if (bytes === undefined) {
      this.#complain("out");
      return 0;
    }
    if (bytes.length > 0) this.#config.onOutput(bytes);
    return bytes.length;
  }

  #giveInput(): number {
    let given = 0;
    while (this.#pending.length > 0) {
      const first = this.#pending[0];
      const count = this.#ring.putInput(first);
      if (count === undefined) {
        this.#complain("in");
        break;
      }
      given += count;
      this.#pendingBytes -= count;
      if (count < first.length) {
        this.#pending[0] = first.subarray(count);
        break;
      }
      this.#pending.shift();
    }
    if (given > 0 && this.#pendingBytes === 0) this.#config.onInputDrained?.();
    return given;
  }

  /** The guest may repair its indices, so the console is not closed, only left alone. */
  #complain(ring: "in" | "out"): void {
    if (this.#complained) return;
    this.#complained = true;
    this.#config.log?.(`${this.#config.name}: the indices of the ${ring} ring are further apart than it is long`);
  }

  /**
   * Types into the console.
   * @returns  false if so much input waits already that none of this was taken
   */
  write(bytes: Uint8Array): boolean {
    if (this.#pendingBytes + bytes.length > MAX_PENDING_INPUT_BYTES) return false;
    if (bytes.length === 0) return true;
    this.#pending.push(bytes.slice());
    this.#pendingBytes += bytes.length;
    if (this.#giveInput() > 0) {
      this.#config.markWritten();
      this.#config.notify();
    }
    return true;
  }

  /** Stops taking output; the ring fills and the guest waits. */
  holdOutput(): void {
    this.#holdsOutput = true;
  }

  /** Takes output again, beginning with what waits in the ring. */
  releaseOutput(): void {
    this.#holdsOutput = false;
    this.onEvent();
  }

  exportState(): ConsoleState {
    return { version: 1, pendingInput: Buffer.concat(this.#pending).toString("base64") };
  }

  /** @throws TypeError  for a state of another version */
  importState(state: ConsoleState): void {
    if (state.version !== 1) throw new TypeError(`console state: version ${state.version}, expected 1`);
    const bytes = new Uint8Array(Buffer.from(state.pendingInput, "base64"));
    this.#pending = bytes.length > 0 ? [bytes] : [];
    this.#pendingBytes = bytes.length;
  }
}
