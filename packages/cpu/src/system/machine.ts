import type { Decoded } from "../decode/decoded.ts";
import { Seg } from "../decode/decoded.ts";
import type { CpuidLeaf, Exit, Gva } from "../engine.ts";
import { Flag } from "../semantics/flags.ts";
import {
  CodeMode,
  EMPTY_TLB_SET,
  ITLB_BYTES,
  ITLB_OFFSET,
  NOT_CANONICAL,
  REGION_CACHE_HALF_BYTES,
  REGION_CACHE_OFFSET,
  Slot,
  SlowAccess,
  State,
  TLB_BYTES,
  TLB_OFFSET,
} from "../state/layout.ts";
import { codeWindow, type DecodeView, NO_LIMIT, WHOLE_PAGE } from "./code-window.ts";
import { faultOf, GuestFault, gp, Vector } from "./faults.ts";
import type { MmuExports } from "./mmu-exports.ts";
import { Attr, Cr0, Cr4, Efer } from "./registers.ts";

export interface MachineOptions {
  readonly cpuid: readonly CpuidLeaf[];
  /** Monotonic nanoseconds; the guest's TSC counts them. */
  readonly nowNs: () => number;
}

export const hiOf = (n: number): number => Math.floor(n / 2 ** 32) | 0;

/** The decoding mode of 64-bit kernels and programs that nobody watches. */
const USUAL_MODE = CodeMode.code64 | CodeMode.stack32 | CodeMode.flat;

/** What an ITLB set's entries were made for: a decoding mode, and CS where it limits code. */
interface ItlbUse {
  mode: number;
  base: number;
  limit: number;
  /** Whether code ran at this level. */
  used: boolean;
}
const newItlbUse = (): ItlbUse => ({ mode: -1, base: 0, limit: NO_LIMIT, used: false });

/** One vcpu's architectural state in shared memory, and the operations on it that generated code does not do. */
export class Machine {
  readonly vb: number;
  readonly words: Int32Array;
  readonly halves: Uint16Array;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly mmu: MmuExports;
  readonly options: MachineOptions;
  /** Set by an instruction that leaves to the hypervisor; `run` returns it. */
  exit: Exit | undefined;
  /** Linear address of the instruction being executed, and of the one behind it. */
  thisRip = 0;
  nextRip = 0;
  /** Events delivered through the IDT so far. */
  deliveries = 0;
  /** Set by SYSCALL and SYSRET, which trap by the TF that they load, not by the one with which they began. */
  loadedTf: boolean | undefined;
  /** What the entries of the kernel's and of the user's ITLB set were made for. */
  private readonly itlbs: readonly ItlbUse[] = [newItlbUse(), newItlbUse()];

  constructor(memory: WebAssembly.Memory, vb: number, mmu: MmuExports, options: MachineOptions) {
    this.vb = vb;
    this.words = new Int32Array(memory.buffer);
    this.halves = new Uint16Array(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.mmu = mmu;
    this.options = options;
  }

  // State words

  get32(offset: number): number {
    return this.words[(this.vb + offset) >>> 2];
  }
  set32(offset: number, value: number): void {
    this.words[(this.vb + offset) >>> 2] = value;
  }
  /** A 64-bit word as a signed number; exact for canonical addresses. */
  getAddress(offset: number): number {
    const at = (this.vb + offset) >>> 2;
    return this.words[at + 1] * 2 ** 32 + (this.words[at] >>> 0);
  }
  setAddress(offset: number, value: number): void {
    const at = (this.vb + offset) >>> 2;
    this.words[at] = value >>> 0;
    this.words[at + 1] = hiOf(value);
  }
  setPair(offset: number, lo: number, hi: number): void {
    this.set32(offset, lo);
    this.set32(offset + 4, hi);
  }
  gprLo(reg: number): number {
    return this.get32(reg * 8);
  }
  gprHi(reg: number): number {
    return this.get32(reg * 8 + 4);
  }
  /** Writes the low half and clears the upper one, as a 32-bit instruction does. */
  setGpr32(reg: number, value: number): void {
    this.setPair(reg * 8, value, 0);
  }

  // Modes

  get cpl(): number {
    return this.get32(State.cpl);
  }
  get cr0(): number {
    return this.get32(State.cr0);
  }
  get cr4(): number {
    return this.get32(State.cr4);
  }
  get efer(): number {
    return this.get32(State.efer);
  }
  get isProtected(): boolean {
    return (this.cr0 & Cr0.pe) !== 0;
  }
  get isLong(): boolean {
    return (this.efer & Efer.lma) !== 0;
  }
  get is64(): boolean {
    return (this.get32(State.codeMode) & CodeMode.sizeMask) === CodeMode.code64;
  }

  /** Recomputes what generated code assumes of CPL, CS, SS, CR4 and AC. Call after any of them changed. */
  updateMode(): void {
    const cs = this.get32(State.segAttr + Seg.cs * 4);
    const cpl = this.cpl;
    let mode: number;
    if (this.isLong && cs & Attr.l) mode = CodeMode.code64 | CodeMode.stack32 | CodeMode.flat;
    else {
      mode = cs & Attr.db ? CodeMode.code32 : CodeMode.code16;
      if (this.get32(State.segAttr + Seg.ss * 4) & Attr.db) mode |= CodeMode.stack32;
      if ([Seg.es, Seg.cs, Seg.ss, Seg.ds].every((s) => this.isFlat(s))) mode |= CodeMode.flat;
    }
    if (this.get32(State.flagsSystem) & Flag.tf || this.breakpointsArmed) mode |= CodeMode.singleStep;
    this.set32(State.codeMode, mode);
    this.set32(State.sseOff, (this.cr0 & (Cr0.em | Cr0.ts)) | (~this.cr4 & Cr4.osfxsr));
    const user = cpl === 3;
    const aligned = user && (this.cr0 & Cr0.am) !== 0 && (this.get32(State.flagsSystem) & Flag.ac) !== 0;
    const slow = (aligned ? SlowAccess.alignment : 0) | (this.dataBreakpointsArmed ? SlowAccess.breakpoints : 0);
    this.set32(State.slowAccess, slow);
    const set = slow
      ? EMPTY_TLB_SET
      : user
        ? 0
        : this.get32(State.flagsSystem) & Flag.ac && this.cr4 & Cr4.smap
          ? 2
          : 1;
    this.set32(State.tlb, this.vb + TLB_OFFSET + set * TLB_BYTES);
    const which = user ? 1 : 0;
    this.set32(State.itlb, this.vb + ITLB_OFFSET + which * ITLB_BYTES);
    this.useItlb(which, mode);
    this.set32(State.regionCache, this.vb + REGION_CACHE_OFFSET + (user ? 0 : REGION_CACHE_HALF_BYTES));
    const usual = slow === 0 && mode === USUAL_MODE && this.itlbs.every((set) => set.mode === USUAL_MODE);
    this.set32(State.usualModes, usual ? 1 : 0);
  }
  private useItlb(which: number, mode: number): void {
    const set = this.itlbs[which];
    const is64 = (mode & CodeMode.sizeMask) === CodeMode.code64;
    const limit = is64 ? NO_LIMIT : this.codeLimit;
    const base = limit === NO_LIMIT ? 0 : this.segmentBase(Seg.cs);
    if (set.mode !== mode || set.base !== base || set.limit !== limit) {
      this.flushItlbSet(which);
      Object.assign(set, { mode, base, limit });
    }
    set.used = true;
    // The other level's set is empty as long as nothing ran there, and fits any mode. Once it has the usual one, returns to
    // programs may have filled it that did not come by here.
    const other = this.itlbs[1 - which];
    if (!other.used && other.mode !== USUAL_MODE) Object.assign(other, { mode, base, limit });
  }
  /** The last offset in CS that may be executed, outside 64-bit mode. */
  get codeLimit(): number {
    return this.get32(State.segLimit + Seg.cs * 4) >>> 0;
  }
  /** How the page at a linear address is to be decoded. */
  decodeView(page: number): DecodeView {
    const codeMode = this.get32(State.codeMode);
    const window = this.is64 ? WHOLE_PAGE : codeWindow(this.segmentBase(Seg.cs), this.codeLimit, page);
    return { codeMode, window };
  }
  private isFlat(segment: number): boolean {
    const slot = Slot.segBase + segment * 8;
    if (this.get32(slot) | this.get32(slot + 4)) return false;
    if (this.get32(State.segLimit + segment * 4) !== -1) return false;
    const attr = this.get32(State.segAttr + segment * 4);
    const asked = Attr.present | Attr.rw | (segment === Seg.cs ? Attr.code : 0);
    const asks = asked | (segment === Seg.cs ? 0 : Attr.code | Attr.expandDown);
    return (attr & asks) === asked;
  }
  /** One instruction at a time: TF is set or a breakpoint is armed. */
  get isStepping(): boolean {
    return (this.get32(State.codeMode) & CodeMode.singleStep) !== 0;
  }
  /** Any of DR7's enable bits. */
  get breakpointsArmed(): boolean {
    return (this.get32(State.dr + 7 * 8) & 0xff) !== 0;
  }

  private get dataBreakpointsArmed(): boolean {
    const dr7 = this.get32(State.dr + 7 * 8);
    return [0, 1, 2, 3].some((n) => (dr7 >> (n * 2)) & 3 && (dr7 >> (16 + n * 4)) & 3);
  }

  private flushItlbSet(which: number): void {
    const start = (this.vb + ITLB_OFFSET + which * ITLB_BYTES) >>> 2;
    this.words.fill(-1, start, start + ITLB_BYTES / 4);
  }
  /** Physical address of the page tables in use. */
  get pageTables(): number {
    return (this.get32(State.cr3 + 4) & 0xfffff) * 2 ** 32 + ((this.get32(State.cr3) & ~0xfff) >>> 0);
  }
  flushAll(keepGlobal = false): void {
    this.mmu.flushTlb(this.vb, keepGlobal ? 1 : 0);
    if (!keepGlobal) this.setPair(State.largePages, 0, 0);
  }

  // Guest memory, through the page tables at the current privilege

  /** Host address of `size` bytes at a linear address. @throws GuestFault */
  host(va: number, size: number, access: number): number {
    if (!this.is64 && !this.isLong) va = va >>> 0;
    const at = this.mmu.hostAddress(this.vb, va >>> 0, hiOf(va), size, access);
    if (at === 0) throw this.takeFault();
    return at;
  }
  /** The fault that generated code left in the state. */
  takeFault(): GuestFault {
    const vector = this.get32(State.faultVector);
    if (vector === Vector.gp && this.get32(State.faultErrorCode) === NOT_CANONICAL) {
      return new GuestFault(this.isStackAccess() ? Vector.ss : Vector.gp, 0);
    }
    return faultOf(vector, this.get32(State.faultErrorCode));
  }
  /** Whether the access that just faulted went through the stack segment; set by the engine, which can decode. */
  isStackAccess: () => boolean = () => false;
  read8(va: number): number {
    return this.bytes[this.host(va, 1, 0)];
  }
  read16(va: number): number {
    return this.view.getUint16(this.host(va, 2, 0), true);
  }
  read32(va: number): number {
    return this.view.getInt32(this.host(va, 4, 0), true);
  }
  /** A 64-bit value as a signed number. */
  readAddress(va: number): number {
    const at = this.host(va, 8, 0);
    return this.view.getInt32(at + 4, true) * 2 ** 32 + this.view.getUint32(at, true);
  }
  write8(va: number, value: number): void {
    this.bytes[this.host(va, 1, 1)] = value;
  }
  write16(va: number, value: number): void {
    const at = this.host(va, 2, 1);
    this.view.setUint16(at, value, true);
    this.mmu.commitBounce(this.vb, at);
  }
  write32(va: number, value: number): void {
    const at = this.host(va, 4, 1);
    this.view.setInt32(at, value, true);
    this.mmu.commitBounce(this.vb, at);
  }
  write64(va: number, lo: number, hi: number): void {
    const at = this.host(va, 8, 1);
    this.view.setInt32(at, lo, true);
    this.view.setInt32(at + 4, hi, true);
    this.mmu.commitBounce(this.vb, at);
  }
  writeAddress(va: number, value: number): void {
    this.write64(va, value >>> 0, hiOf(value));
  }

  /** Runs `body` with supervisor rights: descriptor tables and the like are read as the processor itself reads them. */
  asSupervisor<T>(body: () => T): T {
    const cpl = this.get32(State.cpl);
    const tlb = this.get32(State.tlb);
    if (cpl === 0) return body();
    this.set32(State.cpl, 0);
    this.set32(State.tlb, this.vb + TLB_OFFSET + TLB_BYTES);
    try {
      return body();
    } finally {
      this.set32(State.cpl, cpl);
      this.set32(State.tlb, tlb);
    }
  }

  // Operands of system instructions

  /** The same for an operand that is going to be written. @throws #GP if its segment refuses that */
  addressToWrite(d: Decoded): number {
    const attr = this.get32(State.segAttr + d.memory!.segment * 4);
    if (!this.is64 && this.isProtected && (attr & (Attr.rw | Attr.code)) !== Attr.rw) throw gp();
    return this.address(d);
  }
  /** Linear address of the memory operand; its segment was checked for reading with the instruction's address record. */
  address(d: Decoded): number {
    const m = d.memory!;
    let sumLo = 0;
    const reg = (r: number) => this.gprHi(r) * 2 ** 32 + (this.gprLo(r) >>> 0);
    if (m.base >= 0) sumLo += reg(m.base);
    if (m.index >= 0) sumLo += reg(m.index) * 2 ** m.scale;
    sumLo += m.ripRelative ? this.nextRip + m.disp : m.dispHi * 2 ** 32 + (m.disp >>> 0);
    if (d.addressSize === 4) sumLo = sumLo >>> 0;
    else if (d.addressSize === 2) sumLo &= 0xffff;
    if (this.is64) return m.segment >= Seg.fs ? sumLo + this.segmentBase(m.segment) : sumLo;
    return (sumLo + this.segmentBase(m.segment)) >>> 0;
  }
  segmentBase(segment: number): number {
    return this.getAddress(Slot.segBase + segment * 8);
  }
  /** A 16-bit register or memory operand. */
  readOperand16(d: Decoded, position = 0): number {
    const operand = d.operands[position];
    if (operand.kind === "gpr") return this.gprLo(operand.reg) & 0xffff;
    return this.read16(this.address(d));
  }
  /** Writes a selector-like value: 16 bits to memory, the operand size to a register. */
  writeOperand16(d: Decoded, value: number): void {
    const operand = d.operands[0];
    if (operand.kind !== "gpr") return this.write16(this.addressToWrite(d), value);
    if (d.operandSize === 2) this.set32(operand.reg * 8, (this.gprLo(operand.reg) & ~0xffff) | value);
    else this.setGpr32(operand.reg, value);
  }

  // Privilege checks

  needCpl0(): void {
    if (this.cpl !== 0) throw gp();
  }

  // RFLAGS

  /** The arithmetic flags from their lazy form, with the system flags, as RFLAGS. */
  get rflags(): number {
    const resLo = this.get32(State.flagRes);
    const resHi = this.get32(State.flagRes + 4);
    const carriesLo = this.get32(State.flagCarries);
    const carriesHi = this.get32(State.flagCarries + 4);
    const cfWord = this.get32(State.flagCf);
    const cf = cfWord & 1;
    let parity = resLo & 0xff;
    parity ^= parity >> 4;
    const pf = ((0x9669 >> (parity & 15)) & 1) ^ ((cfWord >> 1) & 1);
    const zf = (resLo | resHi) === 0 ? Flag.zf : 0;
    const sf = ((resHi >>> 31) ^ ((cfWord >> 2) & 1)) << 7;
    const of = ((carriesHi >>> 31) ^ cf) << 11;
    return this.get32(State.flagsSystem) | 2 | cf | (pf << 2) | (carriesLo & 0x10) | zf | sf | of;
  }
  set rflags(value: number) {
    const cf = value & 1;
    const pf = (value >> 2) & 1;
    const sf = (value >> 7) & 1;
    const of = (value >> 11) & 1;
    if (value & Flag.zf) {
      this.setPair(State.flagRes, 0, 0);
      this.set32(State.flagCf, cf | ((pf ^ 1) << 1) | (sf << 2));
    } else {
      this.setPair(State.flagRes, (pf << 1) | 1, sf << 31);
      this.set32(State.flagCf, cf);
    }
    this.setPair(State.flagCarries, value & 0x10, (of ^ cf) << 31);
    this.set32(State.flagsSystem, value & SYSTEM_FLAGS);
  }
  get interruptsEnabled(): boolean {
    return (this.get32(State.flagsSystem) & Flag.if) !== 0;
  }

  /** Architectural instruction pointer: relative to CS outside 64-bit mode. */
  toIp(linear: number): number {
    return this.is64 ? linear : (linear - this.segmentBase(Seg.cs)) >>> 0;
  }
  /** Goes on at an architectural address. @throws #GP for a non-canonical one */
  setIp(ip: number): void {
    if (this.is64) {
      if (ip < -(2 ** 47) || ip >= 2 ** 47) throw gp();
      this.nextRip = ip;
    } else this.nextRip = (ip + this.segmentBase(Seg.cs)) >>> 0;
  }

  asGva(va: number): Gva {
    return va as Gva;
  }
}

const SYSTEM_FLAGS =
  Flag.tf | Flag.if | Flag.df | Flag.iopl | Flag.nt | Flag.rf | Flag.vm | Flag.ac | Flag.vif | Flag.vip | Flag.id;
