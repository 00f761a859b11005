import {
  background,
  CODE_BASE,
  CODE_BYTES,
  defaultFx,
  diffScratch,
  FS_BASE,
  GS_BASE,
  initialScratch,
  normaliseFx,
  READONLY_BASE,
  RFLAGS_MASK,
  SCRATCH_BASE,
  SCRATCH_BYTES,
  type TestCase,
  type TestEngine,
  type TestResult,
} from "@xenoserver/testkit";
import type { Gfn, Vcpu } from "../engine.ts";
import type { RegionService } from "../jit/region-compiler.ts";
import { DomainMemory } from "../memory/domain-memory.ts";
import { Slot, State } from "../state/layout.ts";
import { loadFxImage, saveFxImage } from "../system/fpu-state.ts";
import type { Machine } from "../system/machine.ts";
import { Cr0, Cr4, Efer, TR } from "../system/registers.ts";
import { setSegment } from "../system/segments.ts";
import { machineOf, WasmEngine } from "../wasm-engine.ts";

/**
 * Runs the oracle's cases on the engine, in a small world of its own: page tables as `TestCase` describes, an IDT whose
 * handlers halt, and user mode. Exceptions are delivered as to any guest; the frame on the kernel's stack tells the rest.
 */

const KERNEL_BASE = 0x4000_0000;
/** Within the kernel's pages: GDT, TSS, IDT, handlers, top of the stack. */
const Kernel = { gdt: 0, tss: 0x100, idt: 0x400, handlers: 0x2000, stackTop: 0x4000 } as const;
const KERNEL_PAGES = 4;
const HANDLER_BYTES = 16;
const WITH_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17]);
const [PRESENT, WRITABLE, USER] = [1, 2, 4];
const USER_CODE = 0x33;
/** In the upper half of a page-table entry. */
const NO_EXECUTE = 0x80000000;
const USER_CODE32 = 0x23;
const USER_DATA = 0x2b;
const TIMEOUT_TICKS = 400;

/** What a segment register of 32-bit cases is to hold instead of a flat segment. */
export interface SegmentLimit {
  readonly segment: number;
  /** 0 for ES, CS, SS and DS if there is none. */
  readonly base?: number;
  readonly limit: number;
  /** As in the second word of a descriptor, without base and limit: see `Attr`. */
  readonly attr: number;
}

/** Interpreted; translated; translated, in a memory whose addresses have 64 bits; only what the service gives translated. */
export type CaseWay = "never" | "always" | "wide" | "hot";

export class CaseEngine implements TestEngine {
  private readonly limits: readonly SegmentLimit[];
  private readonly memory: DomainMemory;
  private readonly engine: WasmEngine;
  readonly vcpu: Vcpu;
  private readonly machine: Machine;
  private nextFrame = 0;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly frames = new Map<number, number>();

  /** @param serviceOf  who compiles, if not the vcpu itself */
  constructor(
    way: CaseWay = "never",
    limits: readonly SegmentLimit[] = [],
    serviceOf?: (memory: DomainMemory) => RegionService,
  ) {
    const translate = way === "wide" ? "always" : way;
    this.limits = limits;
    this.memory = DomainMemory.create(1, 128, way === "wide");
    this.bytes = new Uint8Array(this.memory.memory.buffer);
    this.view = new DataView(this.memory.memory.buffer);
    this.engine = new WasmEngine(this.memory, {
      cpuid: [],
      nowNs: () => 0,
      translate,
      ...(serviceOf && { regions: serviceOf(this.memory) }),
    });
    this.vcpu = this.engine.createVcpu(0);
    this.machine = machineOf(this.vcpu);
    this.buildWorld();
  }

  run(cases: readonly TestCase[]): TestResult[] {
    return cases.map((c) => this.runOne(c));
  }

  private newFrame(): number {
    const frame = this.memory.allocateFrame();
    this.memory.mapFrame(this.nextFrame as Gfn, frame);
    if (frame !== this.nextFrame++) throw new Error("frames are expected in order");
    return frame;
  }
  private hostOf(frame: number): number {
    return this.memory.layout.framesOffset + frame * 4096;
  }

  /** Maps one page of the world; tables are made as needed. */
  private mapPage(va: number, rights: number): number {
    let table = 0;
    for (const shift of [39, 30, 21]) {
      const at = this.hostOf(table) + (Math.floor(va / 2 ** shift) % 512) * 8;
      let entry = this.view.getUint32(at, true);
      if (entry === 0) {
        entry = this.newFrame() * 4096 + PRESENT + WRITABLE + USER;
        this.view.setUint32(at, entry, true);
      }
      table = Math.floor(entry / 4096);
    }
    const frame = this.newFrame();
    const entry = this.hostOf(table) + (Math.floor(va / 4096) % 512) * 8;
    this.view.setUint32(entry, frame * 4096 + rights, true);
    // Only code can be executed, as on the host.
    if (va >= SCRATCH_BASE && va < CODE_BASE) this.view.setUint32(entry + 4, NO_EXECUTE, true);
    this.frames.set(va, frame);
    return frame;
  }

  private buildWorld(): void {
    this.newFrame();
    for (let at = 0; at < SCRATCH_BYTES; at += 4096) this.mapPage(SCRATCH_BASE + at, PRESENT + WRITABLE + USER);
    this.mapPage(READONLY_BASE, PRESENT + USER);
    for (let at = 0; at < CODE_BYTES; at += 4096) this.mapPage(CODE_BASE + at, PRESENT + USER);
    for (let page = 0; page < KERNEL_PAGES; page++) this.mapPage(KERNEL_BASE + page * 4096, PRESENT + WRITABLE);
    this.put(READONLY_BASE, background().subarray(0, 4096));
    this.buildKernel();
    this.startLongMode();
  }
  private put(va: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; done += 4096) {
      this.bytes.set(data.subarray(done, done + 4096), this.hostOf(this.frames.get(va + done)!));
    }
  }

  private buildKernel(): void {
    const kernel = new Uint8Array(KERNEL_PAGES * 4096);
    const view = new DataView(kernel.buffer);
    view.setUint32(Kernel.gdt + 8 + 4, 0x00209a00, true); // 64-bit code, ring 0
    view.setUint32(Kernel.tss + 4, KERNEL_BASE + Kernel.stackTop, true);
    view.setUint16(Kernel.tss + 0x66, 0x68, true);
    for (let vector = 0; vector < 32; vector++) {
      const handler = KERNEL_BASE + Kernel.handlers + vector * HANDLER_BYTES;
      const gate = Kernel.idt + vector * 16;
      view.setUint16(gate, handler & 0xffff, true);
      view.setUint16(gate + 2, 8, true);
      // #BP and #OF may be raised by instructions of user programs.
      view.setUint16(gate + 4, vector === 3 || vector === 4 ? 0xee00 : 0x8e00, true);
      view.setUint16(gate + 6, handler >>> 16, true);
      kernel[Kernel.handlers + vector * HANDLER_BYTES] = 0xf4; // HLT
    }
    this.put(KERNEL_BASE, kernel);
  }

  private startLongMode(): void {
    const m = this.machine;
    this.engine.start(this.vcpu, { mode: "protected", entry: 0 as never, rbx: 0 });
    m.set32(State.cr0, Cr0.pe | Cr0.mp | Cr0.et | Cr0.ne | Cr0.wp | Cr0.am | Cr0.pg);
    m.set32(State.cr4, Cr4.pae | Cr4.osfxsr | Cr4.osxmmexcpt | Cr4.pge | Cr4.osxsave | Cr4.fsgsbase);
    m.set32(State.efer, Efer.lme | Efer.lma | Efer.sce | Efer.nxe);
    m.set32(State.xcr0, 3);
    m.setAddress(State.cr3, 0);
    m.setAddress(State.gdtBase, KERNEL_BASE + Kernel.gdt);
    m.set32(State.gdtLimit, 0xff);
    m.setAddress(State.idtBase, KERNEL_BASE + Kernel.idt);
    m.set32(State.idtLimit, 32 * 16 - 1);
    setSegment(m, TR, 0x40, KERNEL_BASE + Kernel.tss, 0x67, 0x8b);
  }

  private enterUser(c: TestCase): void {
    const m = this.machine;
    const compatible = c.bits === 32;
    setSegment(m, 1, compatible ? USER_CODE32 : USER_CODE, 0, -1, compatible ? 0xcfb : 0xafb);
    for (const segment of [0, 2, 3, 4, 5]) setSegment(m, segment, USER_DATA, 0, -1, 0xcf3);
    m.setAddress(Slot.segBase + 4 * 8, FS_BASE);
    m.setAddress(Slot.segBase + 5 * 8, GS_BASE);
    for (const { segment, base, limit, attr } of this.limits) {
      const selector = segment === 1 ? USER_CODE32 : USER_DATA;
      setSegment(m, segment, selector, base ?? m.getAddress(Slot.segBase + segment * 8), limit, attr);
    }
    m.set32(State.cpl, 3);
    c.gprs.forEach((value, reg) => m.setPair(reg * 8, Number(value & 0xffffffffn), Number(value >> 32n)));
    m.rflags = (c.rflags & RFLAGS_MASK) | 0x202;
    loadFxImage(m, c.fx ?? defaultFx());
    m.setAddress(Slot.rip, CODE_BASE + (c.codeOffset ?? 0));
    m.updateMode();
    m.flushAll();
  }

  private runOne(c: TestCase): TestResult {
    const scratch = initialScratch(c);
    this.put(SCRATCH_BASE, scratch);
    const code = new Uint8Array(CODE_BYTES).fill(0xcc);
    code.set(c.code, c.codeOffset ?? 0);
    this.put(CODE_BASE, code);
    this.forgetCode();
    this.enterUser(c);
    for (let ticks = 0; ticks < TIMEOUT_TICKS; ticks++) {
      const exit = this.engine.run(this.vcpu);
      if (exit.kind === "preempted") continue;
      if (exit.kind === "shutdown" && exit.reason === "halted-with-interrupts-off") return this.result(c, scratch);
      if (exit.kind === "fault") throw new Error(exit.message);
      throw new Error(`unexpected exit ${JSON.stringify(exit)}`);
    }
    return { ...this.result(c, scratch), kind: "timeout" };
  }

  private forgetCode(): void {
    for (let at = 0; at < CODE_BYTES; at += 4096) this.memory.markWritten(this.frames.get(CODE_BASE + at) as never);
  }

  private result(c: TestCase, initial: Uint8Array): TestResult {
    const m = this.machine;
    const vector = Math.floor((m.getAddress(Slot.rip) - KERNEL_BASE - Kernel.handlers) / HANDLER_BYTES);
    const stack = this.hostOf(this.frames.get(KERNEL_BASE + Kernel.stackTop - 4096)!) + 4096;
    const word = (n: number) => this.view.getBigUint64(stack - n * 8, true);
    const gprs = new BigUint64Array(16);
    for (let reg = 0; reg < 16; reg++) gprs[reg] = this.view.getBigUint64(m.vb + reg * 8, true);
    gprs[4] = word(2);
    const scratch = new Uint8Array(SCRATCH_BYTES);
    for (let at = 0; at < SCRATCH_BYTES; at += 4096) {
      const host = this.hostOf(this.frames.get(SCRATCH_BASE + at)!);
      scratch.set(this.bytes.subarray(host, host + 4096), at);
    }
    void c;
    return {
      kind: "trap",
      vector,
      errorCode: WITH_ERROR_CODE.has(vector) ? Number(word(6)) : 0,
      cr2: vector === 14 ? this.view.getBigUint64(m.vb + State.cr2, true) : 0n,
      rip: word(5),
      rflags: Number(word(3)) & RFLAGS_MASK,
      gprs,
      fx: normaliseFx(saveFxImage(m)),
      memory: diffScratch(initial, scratch),
    };
  }
}
