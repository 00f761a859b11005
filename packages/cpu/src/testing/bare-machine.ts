import type { Exit, Gfn, Gpr, InterruptSource, Vcpu } from "../engine.ts";
import type { RegionService } from "../jit/region-compiler.ts";
import { DomainMemory } from "../memory/domain-memory.ts";
import { Slot, State } from "../state/layout.ts";
import type { Machine } from "../system/machine.ts";
import { Cr0, Cr4, Efer, TR } from "../system/registers.ts";
import { setSegment } from "../system/segments.ts";
import { machineOf, WasmEngine } from "../wasm-engine.ts";

/** What is translated; `wide`: everything, and the memory's addresses have 64 bits. */
export type Translate = "never" | "hot" | "always" | "wide";
/** In which ways the engine can run code; a test that runs in each must see the same. */
export const MODES: readonly Translate[] = ["never", "hot", "always", "wide"];

export const CODE = 0x10000;
export const STACK_TOP = 0x80000;
const RAM_BYTES = 16 << 20;
const Table = { pml4: 0x1000, pdpt: 0x2000, pd: 0x3000, pt: 0x4000, gdt: 0x5000, tss: 0x5100, idt: 0x6000 } as const;
export const TSS = Table.tss;
const [PRESENT, WRITABLE, USER, LARGE] = [1, 2, 4, 0x80];
const CODE_SELECTOR = 8;

/**
 * A machine in 64-bit kernel mode with nothing in it: 16 MiB of RAM mapped to itself (the first 2 MiB in 4 KiB pages that tests
 * may change), a GDT, and an IDT that tests fill.
 */
export class BareMachine {
  readonly memory: DomainMemory;
  readonly engine: WasmEngine;
  readonly vcpu: Vcpu;
  readonly machine: Machine;
  /** Nanoseconds since the start, as the guest's TSC counts them: one for each look. */
  private now = 0;

  /**
   * @param processors  how many there will be
   * @param beside      a machine of which this is the second processor
   * @param serviceOf   who compiles, if not the vcpu itself
   */
  constructor(
    mode: Translate,
    processors = 1,
    beside?: BareMachine,
    serviceOf?: (memory: DomainMemory) => RegionService,
  ) {
    this.memory = beside?.memory ?? BareMachine.memoryOf(processors, mode === "wide");
    const translate = mode === "wide" ? "always" : mode;
    const regions = serviceOf && { regions: serviceOf(this.memory) };
    this.engine = new WasmEngine(this.memory, { cpuid: [], nowNs: () => this.now++, translate, ...regions });
    this.vcpu = this.engine.createVcpu(beside ? 1 : 0);
    this.machine = machineOf(this.vcpu);
    if (!beside) this.buildTables();
    this.enterLongMode();
  }

  private static memoryOf(processors: number, isWide: boolean): DomainMemory {
    const memory = DomainMemory.create(processors, RAM_BYTES / 4096, isWide);
    for (let gfn = 0; gfn < RAM_BYTES / 4096; gfn++) memory.mapFrame(gfn as Gfn, memory.allocateFrame());
    return memory;
  }
  private buildTables(): void {
    this.write64(Table.pml4, Table.pdpt + PRESENT + WRITABLE + USER);
    this.write64(Table.pdpt, Table.pd + PRESENT + WRITABLE + USER);
    this.write64(Table.pd, Table.pt + PRESENT + WRITABLE + USER);
    for (let n = 1; n < 8; n++) this.write64(Table.pd + n * 8, n * 0x200000 + PRESENT + WRITABLE + LARGE);
    for (let page = 0; page < 512; page++) this.mapPage(page * 4096, page * 4096);
    this.write64(Table.gdt + CODE_SELECTOR, 0x00209a00 * 2 ** 32);
  }
  private enterLongMode(): void {
    const m = this.machine;
    this.engine.start(this.vcpu, { mode: "protected", entry: CODE as never, rbx: 0 });
    m.set32(State.cr0, Cr0.pe | Cr0.mp | Cr0.et | Cr0.ne | Cr0.wp | Cr0.pg);
    m.set32(State.cr4, Cr4.pae | Cr4.osfxsr | Cr4.osxmmexcpt | Cr4.pge);
    m.set32(State.efer, Efer.lme | Efer.lma | Efer.sce | Efer.nxe);
    m.setAddress(State.cr3, Table.pml4);
    m.setAddress(State.gdtBase, Table.gdt);
    m.set32(State.gdtLimit, 0xff);
    m.setAddress(State.idtBase, Table.idt);
    m.set32(State.idtLimit, 256 * 16 - 1);
    setSegment(m, TR, 0x40, Table.tss, 0x67, 0x8b);
    setSegment(m, 1, CODE_SELECTOR, 0, -1, 0xa9b);
    m.setAddress(4 * 8, STACK_TOP);
    m.updateMode();
    m.flushAll();
  }

  private write64(gpa: number, value: number): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    this.memory.write(gpa as never, bytes);
  }
  /** Maps a page of the first 2 MiB; `rights` 0 unmaps it. The caller sees to the TLB, as a kernel would. */
  mapPage(va: number, gpa: number, rights = PRESENT + WRITABLE): void {
    this.write64(Table.pt + (va / 4096) * 8, rights === 0 ? 0 : gpa + rights);
  }
  /** Where the entry of a page of the first 2 MiB lies, for guests that change it. */
  static entryOf(va: number): number {
    return Table.pt + (va / 4096) * 8;
  }
  /** Sets an interrupt gate. */
  gate(vector: number, handler: number): void {
    const low = (handler & 0xffff) + CODE_SELECTOR * 2 ** 16 + 0x8e00 * 2 ** 32;
    this.write64(Table.idt + vector * 16, low + Math.floor(handler / 2 ** 16) * 2 ** 48);
    this.write64(Table.idt + vector * 16 + 8, 0);
  }

  /** Flat descriptors of programs: data at 0x20, 64-bit code at 0x28. */
  userDescriptors(): this {
    this.memory.write((Table.gdt + 0x20) as never, Uint8Array.of(0xff, 0xff, 0, 0, 0, 0xf3, 0xcf, 0));
    this.memory.write((Table.gdt + 0x28) as never, Uint8Array.of(0xff, 0xff, 0, 0, 0, 0xfb, 0xaf, 0));
    return this;
  }
  /** Lets a vector's gate change to a stack of its own. */
  gateStack(vector: number, top: number): void {
    this.write64(Table.tss + 0x24, top);
    this.memory.write((Table.idt + vector * 16 + 4) as never, Uint8Array.of(1));
  }
  /** The kernel's code descriptor as operating systems write it, instead of one with the least that is needed. */
  flatKernel(): this {
    this.memory.write((Table.gdt + CODE_SELECTOR) as never, Uint8Array.of(0xff, 0xff, 0, 0, 0, 0x9b, 0xaf, 0));
    return this;
  }
  /** Where the stack lies on which the kernel is entered from a program. */
  kernelStack(top: number): this {
    this.write64(Table.tss + 4, top);
    return this;
  }
  /** Goes on in a program, at privilege level 3; faults come to the kernel's own stack. */
  enterUser(entry: number, stack: number): this {
    const m = this.machine;
    this.kernelStack(STACK_TOP);
    setSegment(m, 1, 0x2b, 0, -1, 0xafb);
    setSegment(m, 2, 0x23, 0, -1, 0xcf3);
    m.set32(State.cpl, 3);
    m.setAddress(4 * 8, stack);
    m.setAddress(Slot.rip, entry);
    m.updateMode();
    return this;
  }

  load(at: number, code: Uint8Array): this {
    this.memory.write(at as never, code);
    return this;
  }
  setGpr(reg: Gpr, value: number): this {
    this.vcpu.setGpr(reg, value >>> 0, Math.floor(value / 2 ** 32) >>> 0);
    return this;
  }
  gpr(reg: Gpr): number {
    return this.vcpu.gprNumber(reg);
  }
  get rip(): number {
    return this.machine.getAddress(Slot.rip);
  }
  interrupts(source: InterruptSource): this {
    this.vcpu.setInterruptSource(source);
    return this;
  }

  /** Runs until something other than a tick happens. @throws Error after `ticks` ticks */
  run(ticks = 2000): Exit {
    for (let n = 0; n < ticks; n++) {
      const exit = this.engine.run(this.vcpu);
      if (exit.kind !== "preempted") return exit;
    }
    throw new Error(`still running after ${ticks} ticks, at 0x${this.rip.toString(16)}`);
  }
}
