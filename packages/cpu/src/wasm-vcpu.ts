import type { Decoded } from "./decode/decoded.ts";
import { Decoder } from "./decode/decoder.ts";
import type { CpuidLeaf, Exit, Gpa, Gva, InterruptSource, Vcpu, VcpuStart } from "./engine.ts";
import { Gpr } from "./engine.ts";
import { CodeCache } from "./interp/code-cache.ts";
import { type EngineModules, Interpreter } from "./interp/interpreter.ts";
import { Field, INTERPRETED_WORK, INTERRUPTS_OPENED, LoopExit } from "./interp/record.ts";
import { TraceWriter } from "./interp/trace.ts";
import { HotSpots } from "./jit/hot-spots.ts";
import { LocalRegionService, REGION_MODE, type RegionService } from "./jit/region-compiler.ts";
import { DirtyRounds } from "./memory/dirty-log.ts";
import type { DomainMemory } from "./memory/domain-memory.ts";
import type { Frame } from "./memory/guest-memory.ts";
import { Flag } from "./semantics/flags.ts";
import { Pending, Slot, State, vcpuArea } from "./state/layout.ts";
import { loadVcpu } from "./state/saved-vcpu.ts";
import { writeTables } from "./state/tables.ts";
import { CodeFrames } from "./system/code-frames.ts";
import { viewKey } from "./system/code-window.ts";
import { DebugState } from "./system/debug.ts";
import { describeMachine } from "./system/describe.ts";
import { ExternalInterrupts } from "./system/external-interrupts.ts";
import { GuestFault, Vector } from "./system/faults.ts";
import { deliverException, TripleFault } from "./system/interrupts.ts";
import { copyLinear } from "./system/linear-copy.ts";
import { Machine } from "./system/machine.ts";
import { withNumericAddresses } from "./system/mmu-exports.ts";
import { timeStamp } from "./system/msr.ts";
import { startMachine } from "./system/reset.ts";
import { isStackAccess } from "./system/stack-access.ts";
import { TickPace } from "./tick-pace.ts";

/** What leaving generated code counts for, so that a guest that does little else has its ticks too. */
const LEAVE_WORK = 64;

export interface WasmEngineOptions {
  readonly cpuid: readonly CpuidLeaf[];
  /** Monotonic nanoseconds, counted by the guest's TSC. */
  readonly nowNs: () => number;
  /** Which code to translate to WebAssembly: none, what turns out hot (the default), or everything at once (for tests). */
  readonly translate?: "never" | "hot" | "always";
  /** Who compiles regions; by default the vcpu's own thread does. */
  readonly regions?: RegionService;
  /** Where the engine's own module may be found. */
  readonly modules?: EngineModules;
  /** Count executions by handler; see `profileOf`. */
  readonly profile?: boolean;
}

/** One vcpu of the WebAssembly engine. Lives on the thread that runs it; its state lies in the domain's shared memory. */
export class WasmVcpu implements Vcpu {
  readonly id: number;
  readonly machine: Machine;
  readonly interpreter: Interpreter;
  readonly cache: CodeCache;
  private readonly decoder = new Decoder();
  private readonly debug: DebugState;
  readonly hotSpots: HotSpots;
  private readonly systemInstructions: Decoded[] = [];
  private readonly exits: Exit[] = [];
  /** Instruction that exited last, for `injectGp`. */
  private exitRip = 0;
  private portBytes = 0;
  private readonly code: CodeFrames;
  private readonly pace: TickPace;
  private readonly interrupts: ExternalInterrupts;
  private readonly dirtyRounds: DirtyRounds;
  private readonly translates: "never" | "hot" | "always";
  retired = 0;

  constructor(id: number, memory: DomainMemory, options: WasmEngineOptions) {
    this.id = id;
    this.translates = options.translate ?? "hot";
    this.pace = new TickPace(options.nowNs);
    this.dirtyRounds = new DirtyRounds(memory, id);
    const vb = vcpuArea(id);
    writeTables(memory.memory);
    this.interpreter = new Interpreter(
      memory,
      {
        codeModified: (frame, offset, size) => this.cache.storedInto(frame, offset, size),
        fetchFrame: (frame) => memory.fetch(frame as Frame),
        accessed: (lo, hi, size, isWrite) => this.debug.accessed(hi * 2 ** 32 + (lo >>> 0), size, isWrite !== 0),
        readTime: () => this.machine.setAddress(State.result, timeStamp(this.machine)),
        mmioWrite: (gpaLo, gpaHi, sizeBytes, lo, hi) => {
          this.exits.push({
            kind: "mmio-write",
            gpa: ((gpaHi >>> 0) * 2 ** 32 + (gpaLo >>> 0)) as Gpa,
            sizeBytes,
            lo,
            hi,
          });
          this.machine.set32(State.instructionLimit, 0);
        },
      },
      options.profile ?? false,
      options.modules,
    );
    const { exports } = this.interpreter;
    new Int32Array(memory.memory.buffer)[(vb + State.frameTables) >>> 2] =
      memory.layout.frameTables + id * memory.frameCount * 4;
    this.machine = new Machine(memory.memory, vb, withNumericAddresses(exports, memory.layout), options);
    this.code = new CodeFrames(this.machine, exports.translateCode, memory);
    this.debug = new DebugState(this.machine);
    this.interrupts = new ExternalInterrupts(this.machine, (fault) => this.fault(fault));
    this.machine.isStackAccess = () => isStackAccess(this.machine, this.decoder);
    const writer = new TraceWriter(memory.memory, this.decoder, {
      handlerFor: (d, codeMode, form, bytes) => this.interpreter.handlerFor(d, codeMode, form, bytes),
      rememberSystem: (d) => this.systemInstructions.push(d) - 1,
    });
    this.cache = new CodeCache(memory, vb, writer, (base, frame) => exports.dropWriteEntries(base, frame), id);
    this.cache.onDropped = (place) => this.interpreter.dropRegion(place);
    this.cache.onReplaced = () => exports.emptyRegionCaches(vb);
    const service = options.regions ?? new LocalRegionService(memory);
    this.hotSpots = new HotSpots(this.cache, this.interpreter, service, id, memory, {
      pageTables: () => this.machine.pageTables,
      frameOf: (page) => this.code.knownFrameOf(page),
    });
    this.cache.onReset = () => {
      this.hotSpots.reset();
      this.systemInstructions.length = 0;
      this.machine.flushAll();
    };
    this.machine.flushAll();
  }

  // Vcpu

  gprLo(r: Gpr): number {
    return this.machine.gprLo(r) >>> 0;
  }
  gprHi(r: Gpr): number {
    return this.machine.gprHi(r) >>> 0;
  }
  setGpr(r: Gpr, lo: number, hi: number): void {
    this.machine.setPair(r * 8, lo, hi);
  }
  gprNumber(r: Gpr): number {
    return this.gprHi(r) * 2 ** 32 + this.gprLo(r);
  }
  gprGva(r: Gpr): Gva | undefined {
    const value = this.machine.getAddress(r * 8);
    return value >= -(2 ** 47) && value < 2 ** 47 ? (value as Gva) : undefined;
  }
  get cpl(): number {
    return this.machine.cpl;
  }
  get is64(): boolean {
    return this.machine.is64;
  }
  get interruptsEnabled(): boolean {
    return this.machine.interruptsEnabled;
  }

  readLinear(at: Gva, into: Uint8Array): boolean {
    return copyLinear(this.machine, at, into, 0);
  }
  writeLinear(at: Gva, from: Uint8Array): boolean {
    // The hypervisor may write for a vcpu that has been out of the guest since the round began.
    this.lookAtRound();
    return copyLinear(this.machine, at, from, 1);
  }

  completeMsrRead(lo: number, hi: number): void {
    this.machine.setGpr32(Gpr.rax, lo);
    this.machine.setGpr32(Gpr.rdx, hi);
  }
  completePortIn(value: number): void {
    const m = this.machine;
    if (this.portBytes === 4) m.setGpr32(Gpr.rax, value);
    else {
      const mask = this.portBytes === 2 ? 0xffff : 0xff;
      m.set32(0, (m.gprLo(0) & ~mask) | (value & mask));
    }
  }
  completeMmioRead(lo: number, hi: number): void {
    this.machine.setPair(State.mmioValue, lo, hi);
    this.machine.set32(State.mmioReady, 1);
  }
  injectGp(): void {
    this.machine.nextRip = this.exitRip;
    this.fault(new GuestFault(13, 0));
  }
  setInterruptSource(source: InterruptSource): void {
    this.interrupts.source = source;
  }
  describe(): string {
    this.machine.nextRip = this.machine.getAddress(Slot.rip);
    return describeMachine(this.machine);
  }

  /** Starts in the state that `start` describes. */
  start(start: VcpuStart): void {
    startMachine(this.machine, start);
  }

  /** Goes on from what `saveVcpu` gave. @throws RangeError */
  resume(saved: Uint8Array): void {
    loadVcpu(this.machine, saved);
  }

  // Running

  /** Exits that the guest has made and `run` has not returned yet. */
  get hasExits(): boolean {
    return this.exits.length > 0;
  }
  run(): Exit {
    const queued = this.exits.shift();
    if (queued) return queued;
    const m = this.machine;
    m.set32(State.instructionLimit, this.workLeft());
    this.pace.enter();
    this.lookAtRound();
    this.cache.catchUp();
    try {
      m.nextRip = m.getAddress(Slot.rip);
      this.interrupts.take();
      for (;;) {
        const exit = m.isStepping ? this.stepOne() : (this.step(this.interpreter.exports.run(m.vb)) ?? this.goOn());
        if (exit) return exit;
      }
    } catch (thrown) {
      if (thrown instanceof TripleFault) return { kind: "shutdown", reason: "triple-fault" };
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      return {
        kind: "fault",
        message: `vcpu ${this.id} at 0x${m.thisRip.toString(16)}: ${message}`,
      };
    }
  }

  private lookAtRound(): void {
    this.dirtyRounds.look(() => this.interpreter.exports.dropAllWriteEntries(this.machine.vb));
  }

  /** Acts on why generated code came back; returns an exit for the hypervisor or undefined to go on. */
  private step(reason: number): Exit | undefined {
    const m = this.machine;
    const retired = m.get32(State.instructions);
    this.retired += retired;
    const translated = m.get32(State.jitInstructions);
    this.pace.count((retired - translated) * INTERPRETED_WORK + translated + LEAVE_WORK);
    m.nextRip = m.getAddress(Slot.rip);
    switch (reason) {
      case LoopExit.miss:
        return this.miss();
      case LoopExit.tick:
        return this.ticked();
      case LoopExit.fault:
        return this.faulted();
      default:
        return this.system(m.get32(State.result));
    }
  }

  /** Before generated code is entered again, whose count starts at zero. */
  private goOn(): Exit | undefined {
    const { words, vb } = this.machine;
    if (this.pace.isOver) return this.endTick();
    const at = (vb + State.instructionLimit) >>> 2;
    const limit = words[at];
    // Unless someone asks for an end, this moment too.
    if (limit > INTERRUPTS_OPENED) Atomics.compareExchange(words, at, limit, this.workLeft());
    return undefined;
  }
  private workLeft(): number {
    return Math.max(this.pace.left, INTERRUPTS_OPENED + 1);
  }
  private endTick(): Exit {
    this.pace.begin();
    this.sampleHotSpot();
    return { kind: "preempted" };
  }

  private sampleHotSpot(): void {
    const m = this.machine;
    if (this.translates === "never") return;
    this.hotSpots.install();
    if (!m.is64 || m.isStepping) return;
    const rip = m.getAddress(Slot.rip);
    const page = Math.floor(rip / 4096) * 4096;
    const frame = this.code.knownFrameOf(page);
    if (frame !== undefined) this.hotSpots.sample({ page, frame, offset: rip - page });
  }
  /** Executes one instruction with breakpoints and single-stepping looked at. */
  private stepOne(): Exit | undefined {
    const m = this.machine;
    const rip = m.getAddress(Slot.rip);
    m.nextRip = rip;
    if (this.debug.stopsBefore(rip)) {
      this.fault(new GuestFault(Vector.db));
      return undefined;
    }
    const before = m.get32(State.flagsSystem);
    const kicked = m.get32(State.instructionLimit) === 0;
    if (kicked || this.pace.isOver) {
      this.pace.restart();
      return this.exits.shift() ?? { kind: "preempted" };
    }
    this.pace.count(1);
    m.loadedTf = undefined;
    m.set32(State.instructionLimit, 1);
    const reason = this.interpreter.exports.run(m.vb);
    m.set32(State.instructionLimit, this.pace.length);
    const retired = m.get32(State.instructions);
    if (reason === LoopExit.fault || (reason === LoopExit.miss && retired === 0)) return this.step(reason);
    let exit: Exit | undefined;
    if (reason === LoopExit.system) {
      const delivered = m.deliveries;
      exit = this.step(reason);
      // Into a handler nothing traps: its entry cleared TF.
      if (m.deliveries !== delivered) return exit;
    } else {
      this.retired += retired;
      m.nextRip = m.getAddress(Slot.rip);
    }
    this.afterStep(rip, m.loadedTf === false ? before & ~Flag.tf : before);
    return exit;
  }
  /**
   * @param rip    where the instruction is
   * @param before system flags with which it began
   */
  private afterStep(rip: number, before: number): void {
    const m = this.machine;
    // RF lasts for one instruction, with all the elements of a repeated one; an IRET that sets it means the next.
    if (before & Flag.rf && m.getAddress(Slot.rip) !== rip)
      m.set32(State.flagsSystem, m.get32(State.flagsSystem) & ~Flag.rf);
    if (!this.debug.stopsAfter((before & Flag.tf) !== 0)) return;
    m.nextRip = m.getAddress(Slot.rip);
    this.fault(new GuestFault(Vector.db));
  }

  private ticked(): Exit | undefined {
    const m = this.machine;
    const queued = this.exits.shift();
    if (queued) return queued;
    const interruptsOpened = m.get32(State.instructionLimit) === INTERRUPTS_OPENED;
    if (this.pace.isOver) return this.endTick();
    if (!interruptsOpened) {
      this.sampleHotSpot();
      return { kind: "preempted" };
    }
    // No longer asked for; `goOn` sets what is left.
    m.set32(State.instructionLimit, this.pace.length);
    this.cache.catchUp();
    this.interrupts.take();
    return undefined;
  }

  private fault(fault: GuestFault): void {
    const m = this.machine;
    deliverException(m, fault);
    m.setAddress(Slot.rip, m.nextRip);
  }

  private faulted(): Exit | undefined {
    const m = this.machine;
    const pending = m.get32(State.pending);
    if (pending & Pending.mmioRead) {
      m.set32(State.pending, pending & ~Pending.mmioRead);
      const gpa = (m.get32(State.mmioGpaHi) >>> 0) * 2 ** 32 + (m.get32(State.mmioGpaLo) >>> 0);
      return { kind: "mmio-read", gpa: gpa as Gpa, sizeBytes: m.get32(State.mmioSize) };
    }
    this.fault(m.takeFault());
    return undefined;
  }

  /** Finds or decodes the trace at RIP. */
  private miss(): Exit | undefined {
    const m = this.machine;
    const rip = m.nextRip;
    m.thisRip = rip;
    const frame = this.codeFrame(rip);
    if (frame === undefined) return undefined;
    const page = Math.floor(rip / 4096) * 4096;
    // Cut to an integer: as the difference of two fractions it would be boxed wherever it is kept.
    const offset = (rip - page) | 0;
    const view = m.decodeView(page);
    const provided = this.cache.provide(page, frame, offset, view);
    this.interpreter.flush();
    if (provided) {
      if (viewKey(view) !== REGION_MODE) return undefined;
      if (this.translates === "always") this.hotSpots.translate({ page, frame, offset });
      else this.hotSpots.arrive({ page, frame, offset });
      return undefined;
    }
    const next = this.codeFrame(page + 4096);
    if (next === undefined) return undefined;
    this.cache.provideCrossing(page, frame, offset, next, [view, m.decodeView(page + 4096)]);
    this.interpreter.flush();
    return undefined;
  }

  /** The frame that instructions at a linear address come from; undefined after raising the fault. */
  private codeFrame(va: number): number | undefined {
    const frame = this.code.frameOf(va);
    if (frame === undefined) this.fault(this.machine.takeFault());
    else if (frame < 0)
      throw new Error(`instruction fetch from linear 0x${va.toString(16)}, where page tables lead to no memory`);
    return frame;
  }

  private system(record: number): Exit | undefined {
    const m = this.machine;
    const d = this.systemInstructions[m.view.getInt32(record + Field.imm, true)];
    m.thisRip = m.nextRip;
    m.nextRip = m.thisRip + d.lengthBytes;
    m.exit = undefined;
    this.retired++;
    try {
      d.def.system!(m, d);
    } catch (thrown) {
      if (!(thrown instanceof GuestFault)) throw thrown;
      if (m.get32(State.pending) & Pending.mmioRead) {
        m.nextRip = m.thisRip;
        return this.faulted();
      }
      m.nextRip = m.thisRip;
      this.fault(thrown);
      return undefined;
    }
    m.setAddress(Slot.rip, m.nextRip);
    if (m.loadedTf) {
      m.loadedTf = undefined;
      this.debug.stopsAfter(true);
      this.fault(new GuestFault(Vector.db));
      return undefined;
    }
    const exit: Exit | undefined = m.exit;
    if (exit) {
      this.exitRip = m.thisRip;
      const asExit = exit as Exit;
      if (asExit.kind === "pio-in") this.portBytes = asExit.sizeBytes;
      // Stores to devices that came before are seen before.
      this.exits.push(asExit);
      return this.exits.shift();
    }
    if (m.get32(State.instructionLimit) === 0) return this.exits.shift() ?? { kind: "preempted" };
    this.interrupts.take();
    return undefined;
  }
}
