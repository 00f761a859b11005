/** What V8 makes of a module, as time goes by. */
import { machineCode } from "@xenoserver/xen/host/machine-code/machine-code.ts";

/** So long it is followed at most: to refer to it longer would keep machine code that nobody runs any more. */
const FOLLOWED_MS = 60_000;
/** V8 optimises a module's functions one by one: more machine code than this counts as better. */
const GROWN = 1.1;
/** How old a module is when it is looked at first, and by how much older each further time: to look takes as much work and memory as the code is large. */
const FIRST_LOOK_MS = 1_000;
const EACH_LATER = 2;
/** With so many looks in a row that found nothing more, what is there is all that there will be. */
const LOOKS_IN_VAIN = 2;

export class FollowedModule {
  static get isPossible(): boolean {
    return machineCode() !== undefined;
  }

  readonly #module: WebAssembly.Module;
  readonly #since = performance.now();
  #codeBytes: number;
  #nextLookMs = FIRST_LOOK_MS;
  #inVain = 0;

  /** @param codeBytes  how much machine code is kept of it already; 0 if none is */
  constructor(module: WebAssembly.Module, codeBytes: number) {
    this.#module = module;
    this.#codeBytes = codeBytes;
  }

  /** Whether no more machine code is expected. */
  get isDone(): boolean {
    return this.#ageMs > FOLLOWED_MS || (this.#codeBytes > 0 && this.#inVain >= LOOKS_IN_VAIN);
  }
  get #ageMs(): number {
    return performance.now() - this.#since;
  }

  /** @param isLast  to look though it is not yet time to @returns its machine code, if there is more of it than was kept */
  better(isLast: boolean): Uint8Array | undefined {
    const ageMs = this.#ageMs;
    if (!isLast && ageMs < this.#nextLookMs) return undefined;
    this.#nextLookMs = ageMs * EACH_LATER;
    const code = machineCode()!.of(this.#module, Math.floor(this.#codeBytes * GROWN));
    this.#inVain = code === undefined ? this.#inVain + 1 : 0;
    if (code !== undefined) this.#codeBytes = code.length;
    return code;
  }
}
