import { ARGUMENTS, STEP_WORDS, Step, Thunk, thunks } from "./thunks.ts";

type Ffi = typeof import("node:ffi");
/** A word of native memory, by its number. */
type Word = number;
/** A function, what it is given, and where its result goes. */
export interface NativeStep {
  readonly call: Word;
  readonly with: readonly Word[];
  readonly result?: Word;
  /** Whether the rest is left out if the result is 0. */
  readonly isNeeded?: boolean;
}

const WORDS = 1024;
const PAGE_BYTES = 4096n;
/** Of mmap(2) on Linux. */
const [READ_WRITE, READ_EXECUTE, PRIVATE_ANONYMOUS] = [3, 5, 0x22];
const STD_FUNCTION_WORDS = 4;

/**
 * Functions of this process that are called one behind the other, without a return to JavaScript in between. Their arguments
 * and results lie in words of memory that JavaScript has too.
 */
export class NativeCalls {
  readonly #ffi: Ffi;
  readonly #words = new BigUint64Array(new SharedArrayBuffer(WORDS * 8));
  readonly #base: bigint;
  readonly #code: bigint;
  readonly #run: (steps: bigint) => void;
  readonly free: (address: bigint) => void;
  readonly #symbol: (name: string) => bigint;
  #next = 0;
  readonly zero: Word;
  readonly #unused: Word;

  /** @throws Error  the system gives no memory to execute, or lacks a function */
  constructor(ffi: Ffi) {
    this.#ffi = ffi;
    this.#base = ffi.getRawPointer(this.#words.buffer as never);
    const { functions, lib } = ffi.dlopen(null, {
      mmap: { arguments: ["u64", "u64", "i32", "i32", "i32", "i64"], return: "u64" },
      mprotect: { arguments: ["u64", "u64", "i32"], return: "i32" },
      // What calls the function that it is given once, with two arguments: so foreign functions come by address.
      bsearch: { arguments: ["u64", "u64", "u64", "u64", "u64"], return: "u64" },
      free: { arguments: ["u64"], return: "void" },
    });
    this.#symbol = (name) => lib.getSymbol(name);
    this.free = functions.free;
    this.#code = functions.mmap(0n, PAGE_BYTES, READ_WRITE!, PRIVATE_ANONYMOUS!, -1, 0n);
    if (BigInt.asIntN(64, this.#code) === -1n) throw new Error("no memory for code");
    new Uint8Array(ffi.toArrayBuffer(this.#code, Number(PAGE_BYTES), false)).set(thunks());
    if (functions.mprotect(this.#code, PAGE_BYTES, READ_EXECUTE!) !== 0) throw new Error("memory cannot be executed");
    this.#run = (steps) => functions.bsearch(steps, steps, 1n, 1n, this.#code);
    this.zero = this.word();
    this.#unused = this.word();
  }

  /** Some words, one behind the other. */
  block(count: number): Word {
    const at = this.#next;
    this.#next += count;
    if (this.#next > WORDS) throw new RangeError(`more than ${WORDS} words`);
    return at;
  }
  word(value = 0n): Word {
    const at = this.block(1);
    this.#words[at] = value;
    return at;
  }
  get(word: Word): bigint {
    return this.#words[word]!;
  }
  set(word: Word, value: bigint): void {
    this.#words[word] = value;
  }
  /** A word that holds another's address. */
  addressOf(word: Word): Word {
    return this.word(this.#at(word));
  }
  #at(word: Word): bigint {
    return this.#base + BigInt(word * 8);
  }
  /** A word that holds the address of a function of this process, by its name for the linker. @throws Error  there is none */
  functionNamed(name: string): Word {
    return this.word(this.#symbol(name));
  }
  /** A word that holds a thunk's address. */
  thunk(offset: number): Word {
    return this.word(this.#code + BigInt(offset));
  }

  /** Steps that can be run as often as one likes. */
  chain(steps: readonly NativeStep[]): Word {
    const at = this.block(steps.length * STEP_WORDS + 1);
    steps.forEach((step, k) => {
      const words = at + k * STEP_WORDS;
      this.#words[words + Step.function] = this.#at(step.call);
      for (let n = 0; n < ARGUMENTS; n++) this.#words[words + Step.arguments + n] = this.#at(step.with[n] ?? this.zero);
      this.#words[words + Step.result] = this.#at(step.result ?? this.#unused);
      this.#words[words + Step.isNeeded] = step.isNeeded ? 1n : 0n;
    });
    return at;
  }
  run(chain: Word): void {
    this.#run(this.#at(chain));
  }

  /** A word with the address of a `std::function` (libstdc++'s) that notes the one reference it is given, and runs a chain. */
  stdFunction(reference: Word, chain: Word): Word {
    const at = this.block(STD_FUNCTION_WORDS);
    this.#words[at] = this.#at(reference);
    this.#words[at + 1] = this.#at(chain);
    this.#words[at + 2] = this.#code + BigInt(Thunk.manage);
    this.#words[at + 3] = this.#code + BigInt(Thunk.invoke);
    return this.addressOf(at);
  }

  /** Has words tell where some bytes lie, and how many they are. Only shared memory stays where it is. */
  setBytes(address: Word, size: Word, bytes: Uint8Array<SharedArrayBuffer>): void {
    this.#words[address] = this.#ffi.getRawPointer(bytes.buffer as never) + BigInt(bytes.byteOffset);
    this.#words[size] = BigInt(bytes.byteLength);
  }
  /** A copy of native bytes. */
  copy(address: bigint, sizeBytes: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#ffi.toArrayBuffer(address, sizeBytes, true));
  }
}
