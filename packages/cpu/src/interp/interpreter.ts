import { type Address, type AddressType, type Callee, type Func, i32, type ModuleBuilder } from "@xenoserver/wasm";
import type { Decoded } from "../decode/decoded.ts";
import { MAX_HANDLERS, newGuestModule, TABLE_ENTRIES } from "../jit/region-compiler.ts";
import type { DomainMemory } from "../memory/domain-memory.ts";
import { defineMmu, type Mmu } from "../mmu/mmu.ts";
import { emitTlbLookup } from "../mmu/tlb.ts";
import { emitHelpers } from "../semantics/helpers.ts";
import { State, Tlb } from "../state/layout.ts";
import type { MmuExports } from "../system/mmu-exports.ts";
import type { AddressForm } from "./address.ts";
import { type BuiltHandlers, builtHandlers } from "./built-handlers.ts";
import { importEngine } from "./calling-ops.ts";
import { defineDeliverPageFault } from "./deliver-page-fault.ts";
import { handlerKey, variantNumber } from "./handler-key.ts";
import { emitHandlerFunction, type HandlerSample, MainLoop } from "./main-loop.ts";
import { BUILTIN_COUNT, REGION_SIGNATURE, RegionStatus } from "./record.ts";

/** What generated code calls in the host program. */
export interface EngineImports {
  codeModified(frame: number, offset: number, sizeBytes: number): void;
  /** A frame's contents are to be fetched. */
  fetchFrame(frame: number): void;
  /** An access while `State.slowAccess` is set; 1 if it faults, with the fault in the state. */
  accessed(vaLo: number, vaHi: number, sizeBytes: number, isWrite: number): number;
  /** Puts the time-stamp counter into `State.result`. */
  readTime(vb: number): void;
  mmioWrite(gpaLo: number, gpaHi: number, sizeBytes: number, lo: number, hi: number): void;
}

export interface InterpreterExports extends MmuExports {
  run(vb: number): number;
  translateCode(vb: number, lo: number, hi: number): number;
  dropWriteEntries(vb: number, frame: number): number;
  dropAllWriteEntries(vb: number): void;
  emptyRegionCaches(vb: number): void;
  droppedRegion(vb: number): number;
}

/** The interpreter's generated module, and the handlers that are added to it as instructions are first met. */
export class Interpreter {
  readonly exports: InterpreterExports;
  private readonly domain: DomainMemory;
  private readonly table: WebAssembly.Table;
  private readonly instanceExports: Record<string, WebAssembly.ExportValue>;
  private readonly numbers = new Map<string, number>();
  /** Handler by `variantNumber`, so that keys are seldom built. */
  private readonly variants = new Map<number, number>();
  private readonly waiting: { sample: HandlerSample; id: number }[] = [];
  private nextHandler: number;
  private nextRegion = MAX_HANDLERS;
  /** Bytes of a sample instruction by handler number; for profiles. */
  readonly samples = new Map<number, HandlerSample>();

  /** @param modules  where the engine's own module may be found */
  constructor(domain: DomainMemory, imports: EngineImports, counting = false, modules?: EngineModules) {
    this.domain = domain;
    const built = builtHandlers();
    const all = [...built.inline, ...built.common];
    this.table = new WebAssembly.Table({ element: "anyfunc", initial: TABLE_ENTRIES, maximum: TABLE_ENTRIES });
    const module = baseModule(domain, counting, () => this.buildBase(built, counting), modules);
    const instance = new WebAssembly.Instance(module, {
      env: { memory: domain.memory, table: this.table, ...imports } as never,
    });
    this.instanceExports = instance.exports as Record<string, WebAssembly.ExportValue>;
    this.exports = instance.exports as unknown as InterpreterExports;
    all.forEach((sample, index) => {
      this.numbers.set(sample.key, BUILTIN_COUNT + index);
      this.samples.set(BUILTIN_COUNT + index, sample);
    });
    this.nextHandler = BUILTIN_COUNT + all.length;
  }

  private buildBase({ inline, common }: BuiltHandlers, counting: boolean): Uint8Array<ArrayBuffer> {
    const m = newGuestModule(this.domain);
    const codeModified = m.importFunc("env", "codeModified", { params: ["i32", "i32", "i32"], results: [] });
    const fetchFrame = m.importFunc("env", "fetchFrame", { params: ["i32"], results: [] });
    const accessed = m.importFunc("env", "accessed", { params: ["i32", "i32", "i32", "i32"], results: ["i32"] });
    const mmioWrite = m.importFunc("env", "mmioWrite", { params: ["i32", "i32", "i32", "i32", "i32"], results: [] });
    const readTime = m.importFunc("env", "readTime", { params: ["i32"], results: [] });
    const mmu = defineMmu(m, this.domain.layout, { codeModified, fetchFrame, accessed, mmioWrite });
    defineHostAddress(m, mmu);
    const helpers = { ...mmu, readTime: defineReadTime(m, readTime), named: emitHelpers(m) };
    const deliverPageFault = defineDeliverPageFault(m, mmu.translate, helpers);
    const loop = new MainLoop(m, helpers, { ...mmu, deliverPageFault }, counting);
    loop.emit(inline);
    const functions = common.map((sample) => emitHandlerFunction(m, helpers, sample));
    m.element(BUILTIN_COUNT + inline.length, functions);
    defineDropped(m);
    return m.finish();
  }

  /** Number of the handler for an instruction; a new one exists once `flush` was called. */
  handlerFor(d: Decoded, codeMode: number, form: AddressForm | undefined, bytes: () => Uint8Array): number {
    const indexed = form?.indexed ?? false;
    const variant = variantNumber(d, codeMode, indexed);
    const cached = this.variants.get(variant);
    if (cached !== undefined) return cached;
    const id = this.handlerByKey(d, codeMode, indexed, bytes);
    this.variants.set(variant, id);
    return id;
  }

  private handlerByKey(d: Decoded, codeMode: number, indexed: boolean, bytes: () => Uint8Array): number {
    const key = handlerKey(d, codeMode, indexed);
    const known = this.numbers.get(key);
    if (known !== undefined) return known;
    const id = this.nextHandler++;
    if (id >= MAX_HANDLERS) throw new Error(`more than ${MAX_HANDLERS} instruction handlers`);
    const sample = { key, decoded: d, codeMode, indexed, bytes: bytes().slice() };
    this.numbers.set(key, id);
    this.samples.set(id, sample);
    this.waiting.push({ sample, id });
    return id;
  }

  /** Compiles the handlers asked for since the last call. */
  flush(): void {
    if (this.waiting.length === 0) return;
    const m = newGuestModule(this.domain);
    const helpers = importEngine(m);
    for (const { sample, id } of this.waiting) {
      m.element(id, [emitHandlerFunction(m, helpers, sample)]);
    }
    this.waiting.length = 0;
    this.instantiate(new WebAssembly.Module(m.finish()));
  }

  /**
   * Puts a module's regions into the table.
   * @returns the first one's place, undefined when there is no room left
   */
  addRegions(module: WebAssembly.Module, count: number): number | undefined {
    const base = this.nextRegion;
    if (base + count > TABLE_ENTRIES) return undefined;
    this.nextRegion += count;
    this.instantiate(module, base);
    return base;
  }
  /** Lets whoever still jumps to a region's place go on elsewhere. */
  dropRegion(place: number): void {
    this.table.set(place, this.exports.droppedRegion);
  }
  /** Makes all places of regions free again; none may be in use. */
  forgetRegions(): void {
    this.nextRegion = MAX_HANDLERS;
  }

  private instantiate(module: WebAssembly.Module, base = 0): void {
    const env = { memory: this.domain.memory, table: this.table, base };
    new WebAssembly.Instance(module, { env, engine: this.instanceExports });
  }
}

/** Engines' own modules, which differ by the memory's layout, from earlier runs. */
export interface EngineModules {
  find(key: string): WebAssembly.Module | undefined;
  made(key: string, module: WebAssembly.Module, bytes: Uint8Array): void;
}

/** By what they depend on: whoever makes a second one in a thread need not build it again. */
const baseModules = new Map<string, WebAssembly.Module>();
function baseModule(
  { layout }: DomainMemory,
  counting: boolean,
  build: () => Uint8Array<ArrayBuffer>,
  modules: EngineModules | undefined,
): WebAssembly.Module {
  const key = `${JSON.stringify(layout)} ${counting}`;
  const known = baseModules.get(key) ?? modules?.find(key);
  const module = known ?? made(key, build(), modules);
  baseModules.set(key, module);
  return module;
}
function made(key: string, bytes: Uint8Array<ArrayBuffer>, modules: EngineModules | undefined): WebAssembly.Module {
  const module = new WebAssembly.Module(bytes);
  modules?.made(key, module, bytes);
  return module;
}

/** What stands in a region's place once its code has changed: control goes on by way of the dispatch loop. */
function defineDropped(m: ModuleBuilder): void {
  const { fn } = m.func(REGION_SIGNATURE.params, REGION_SIGNATURE.results, "droppedRegion");
  fn.return(i32(RegionStatus.redirect));
  fn.unreachable();
}

/** What other modules call to read the time. */
function defineReadTime(m: ModuleBuilder, imported: Callee): Func {
  const func = m.func(["i32"], [], "readTime");
  func.fn.callVoid(imported, func.fn.param(0));
  return func;
}

/** Entry points for the host program, which passes addresses as two halves. */
function defineHostAddress(m: ModuleBuilder, mmu: Mmu): void {
  // What fits in no i32 is for JavaScript a double.
  const isWide = m.addressType === "i64";
  const host = m.func(["i32", "i32", "i32", "i32", "i32"], [isWide ? "f64" : "i32"], "hostAddress");
  const f = host.fn;
  const give = (address: Address) => f.return(isWide ? f.op("f64.convert_i64_u", address) : address);
  const vb = f.param<"i32">(0);
  const size = f.param<"i32">(3);
  const va = f.let(f.param<"i32">(1).extU().or(f.param<"i32">(2).extU().shl(32)));
  const crossing = va.wrap().and(4095).add(size).gtU(4096);
  f.if(crossing.eqz(), () => {
    for (const tag of [Tlb.read, Tlb.write]) {
      f.if(f.param<"i32">(4).eq(tag === Tlb.write ? 1 : 0), () => {
        const hit = emitTlbLookup({ f, tlbBase: () => f.load("i32.load", vb, State.tlb) }, va, 1, tag);
        f.if(hit.matches, () => give(hit.host));
      });
    }
  });
  f.if(f.param<"i32">(4), () => give(f.call<AddressType>(mmu.slowWrite, vb, va, size)));
  give(f.call<AddressType>(mmu.slowRead, vb, va, size));
  f.unreachable();

  const code = m.func(["i32", "i32", "i32"], ["i32"], "translateCode");
  const c = code.fn;
  const at = c.let(c.param<"i32">(1).extU().or(c.param<"i32">(2).extU().shl(32)));
  const gpa = c.let(c.call<"i64">(mmu.translateCode, c.param(0), at));
  c.store("i64.store", c.param(0), gpa, State.result);
  c.return(c.select(gpa.eq(-1), i32(0), i32(1)));
  c.unreachable();
}
