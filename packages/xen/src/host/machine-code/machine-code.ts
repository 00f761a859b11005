/**
 * Modules with the machine code that V8 made of them, as bytes. V8 has this for embedders only; its functions are called through
 * Node's own foreign functions, so that no code of ours is native but `thunks.ts`.
 */
import { NativeCalls, type NativeStep } from "./native-calls.ts";
import { Thunk } from "./thunks.ts";

export interface MachineCode {
  /** What V8's optimiser made of a module so far; undefined if that is nothing yet, or no more than so many bytes. */
  of(module: WebAssembly.Module, knownBytes?: number): Uint8Array<ArrayBuffer> | undefined;
  /**
   * A module as it was, without compiling it. The machine code is trusted: it must be what `of` gave.
   * @param code   what `of` gave, of this V8 with the same flags on such a processor; others are noticed
   * @param bytes  the module's own
   * @returns undefined if V8 does not take it
   */
  moduleOf(code: Uint8Array<SharedArrayBuffer>, bytes: Uint8Array<SharedArrayBuffer>): WebAssembly.Module | undefined;
}

/** How V8's classes look differs between its versions; this is the one that all was tried with. */
const KNOWN_V8 = "14.6.202.34-node.34";

let known: MachineCode | null | undefined;

/** Of this thread. Undefined on other systems, with another V8, and where Node was built without foreign functions. */
export function machineCode(): MachineCode | undefined {
  if (known === undefined) known = open() ?? null;
  return known ?? undefined;
}

function open(): MachineCode | undefined {
  const host = globalThis.process;
  if (host?.platform !== "linux" || host.arch !== "x64" || host.versions.v8 !== KNOWN_V8) return undefined;
  const ffi = host.getBuiltinModule("node:ffi");
  if (ffi === undefined) return undefined;
  try {
    return new V8MachineCode(new NativeCalls(ffi));
  } catch {
    return undefined;
  }
}

/** Names for the linker of V8's functions. */
const NAMES = {
  isolate: "_ZN2v87Isolate10GetCurrentEv",
  context: "_ZN2v87Isolate17GetCurrentContextEv",
  global: "_ZN2v87Context6GlobalEv",
  get: "_ZN2v86Object3GetENS_5LocalINS_7ContextEEEj",
  set: "_ZN2v86Object3SetENS_5LocalINS_7ContextEEEjNS1_INS_5ValueEEE",
  compiled: "_ZN2v816WasmModuleObject17GetCompiledModuleEv",
  serialize: "_ZN2v818CompiledWasmModule9SerializeEv",
  destroy: "_ZNSt12_Destroy_auxILb0EE9__destroyIPN2v818CompiledWasmModuleEEEvT_S5_",
  begin: "_ZN2v821WasmModuleCompilationC1Ev",
  hasCode: "_ZN2v821WasmModuleCompilation25SetHasCompiledModuleBytesEv",
  receive: "_ZN2v821WasmModuleCompilation15OnBytesReceivedEPKhm",
  finish:
    "_ZN2v821WasmModuleCompilation6FinishEPNS_7IsolateERKSt8functionIFvRNS_13WasmStreaming22ModuleCachingInterfaceEEERKS3_IFvSt7variantIJNS_5LocalINS_16WasmModuleObjectEEENSC_INS_5ValueEEEEEEE",
  end: "_ZN2v821WasmModuleCompilationD1Ev",
} as const;

/** Words of `v8::CompiledWasmModule`: a shared pointer and a string. */
const COMPILED_WORDS = 6;
/** Where `ModuleCachingInterface`'s table of functions has `SetCachedCompiledModuleBytes`. */
const SET_CACHED_BYTES = 8n;

/** Objects pass between JavaScript and these calls as element 0 of the global object. */
const passing = globalThis as unknown as { 0?: unknown };

class V8MachineCode implements MachineCode {
  readonly #calls: NativeCalls;
  readonly #serialize: number;
  readonly #owned: number;
  readonly #deserialize: number;
  readonly #code: readonly [address: number, size: number];
  readonly #bytes: readonly [address: number, size: number];
  readonly #isWanted: number;

  constructor(calls: NativeCalls) {
    this.#calls = calls;
    const v8 = Object.fromEntries(Object.entries(NAMES).map(([key, name]) => [key, calls.functionNamed(name)])) as {
      [K in keyof typeof NAMES]: number;
    };
    const [isolate, context, global] = [calls.word(), calls.word(), calls.word()];
    const enter: NativeStep[] = [
      { call: v8.isolate, with: [], result: isolate },
      { call: v8.context, with: [isolate], result: context },
      { call: v8.global, with: [context], result: global },
    ];

    const module = calls.word();
    const compiled = calls.block(COMPILED_WORDS);
    const [compiledAt, compiledEnd] = [calls.addressOf(compiled), calls.addressOf(compiled + COMPILED_WORDS)];
    this.#owned = calls.block(2);
    this.#serialize = calls.chain([
      ...enter,
      { call: v8.get, with: [global, context, calls.zero], result: module, isNeeded: true },
      { call: v8.compiled, with: [compiledAt, module] },
      { call: v8.serialize, with: [calls.addressOf(this.#owned), compiledAt] },
      { call: v8.destroy, with: [compiledAt, compiledEnd] },
    ]);

    const load = calls.thunk(Thunk.load);
    this.#code = [calls.word(), calls.word()];
    this.#bytes = [calls.word(), calls.word()];
    const [caching, table, setCached] = [calls.word(), calls.word(), calls.word()];
    this.#isWanted = calls.word();
    const giveCode = calls.chain([
      { call: load, with: [caching, calls.zero], result: table },
      { call: load, with: [table, calls.word(SET_CACHED_BYTES)], result: setCached },
      { call: setCached, with: [caching, ...this.#code] },
    ]);
    const [outcome, made] = [calls.word(), calls.word()];
    // What is not accepted V8 compiles, and brings at some other time.
    const takeModule = calls.chain([
      { call: calls.thunk(Thunk.same), with: [this.#isWanted], isNeeded: true },
      ...enter,
      { call: load, with: [outcome, calls.zero], result: made },
      { call: v8.set, with: [global, context, calls.zero, made] },
    ]);
    const compilation = calls.addressOf(calls.word());
    this.#deserialize = calls.chain([
      { call: v8.isolate, with: [], result: isolate },
      { call: v8.begin, with: [compilation] },
      { call: v8.hasCode, with: [compilation] },
      { call: v8.receive, with: [compilation, ...this.#bytes] },
      {
        call: v8.finish,
        with: [compilation, isolate, calls.stdFunction(caching, giveCode), calls.stdFunction(outcome, takeModule)],
      },
      { call: v8.end, with: [compilation] },
    ]);
  }

  of(module: WebAssembly.Module, knownBytes = 0): Uint8Array<ArrayBuffer> | undefined {
    const calls = this.#calls;
    calls.set(this.#owned, 0n);
    passing[0] = module;
    try {
      calls.run(this.#serialize);
    } finally {
      delete passing[0];
    }
    const at = calls.get(this.#owned);
    if (at === 0n) return undefined;
    const sizeBytes = Number(calls.get(this.#owned + 1));
    const code = sizeBytes > knownBytes ? calls.copy(at, sizeBytes) : undefined;
    calls.free(at);
    return code;
  }

  moduleOf(code: Uint8Array<SharedArrayBuffer>, bytes: Uint8Array<SharedArrayBuffer>): WebAssembly.Module | undefined {
    this.#calls.setBytes(...this.#code, code);
    this.#calls.setBytes(...this.#bytes, bytes);
    this.#calls.set(this.#isWanted, 1n);
    try {
      this.#calls.run(this.#deserialize);
      return passing[0] instanceof WebAssembly.Module ? passing[0] : undefined;
    } finally {
      delete passing[0];
      this.#calls.set(this.#isWanted, 0n);
    }
  }
}
