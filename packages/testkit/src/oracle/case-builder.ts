import {
  type BitEffect,
  type CaseBits,
  type CaseInstruction,
  CODE_BASE,
  CODE_BYTES,
  Flag,
  type MemoryPatch,
  RFLAGS_MASK,
  SCRATCH_BASE,
  SCRATCH_BYTES,
  type TestCase,
} from "./case.ts";
import type { KnownRegister } from "./memory-operand.ts";
import type { Prng } from "./prng.ts";
import { fxState, interesting64 } from "./values.ts";

interface Fixup {
  readonly at: number;
  readonly bytes: 1 | 4 | 8;
  /** Value given the address of the first code byte and the offsets of the instructions (one more: the end). */
  readonly value: (codeAddress: number, starts: readonly number[]) => number;
}

/** What a sequence asks of its initial state. */
export interface CaseNeeds {
  /** RSI and RDI point into scratch memory and are left alone. */
  readonly stringPointers: boolean;
  /** RBX likewise. */
  readonly rbxPointer: boolean;
  /** RBP points into scratch memory but changes on the way. */
  readonly frame: boolean;
  readonly fp: boolean;
  /** The AC flag may be drawn. */
  readonly alignmentCheck: boolean;
}

/** A case under construction: code bytes, starts of instructions, initial state, and what has become undefined so far. */
export class CaseBuilder {
  readonly #r: Prng;
  readonly #needs: CaseNeeds;
  get alignmentCheck(): boolean {
    return this.#needs.alignmentCheck;
  }
  readonly code: number[] = [];
  /** Offset of each drawn instruction (with the helpers before it). */
  readonly starts: number[] = [];
  readonly #instructions: CaseInstruction[] = [];
  #settled = 0;
  #helperUndefined = 0;
  readonly gprs = new BigUint64Array(16);
  readonly memory: MemoryPatch[] = [];
  readonly #fixups: Fixup[] = [];
  /** Bit set of registers that addresses rely on. */
  pinned = 0;
  /** A pinned register may have another value by now. */
  overwritten = false;
  /** Those among them that no instruction may change, because it could not say so. */
  fixed = 0;
  #known: KnownRegister[] = [];
  /** True until an instruction moves RSP in a way that is not tracked. */
  #rspKnown = true;
  undefinedFlags = 0;
  undefinedStatus = 0;
  readonly #ignoreFlags: { at: number; mask: number }[] = [];
  readonly #ignoreStatus: { at: number; mask: number }[] = [];
  readonly #ignoreMemory: { offset: number; lengthBytes: number }[] = [];
  readonly #partialStack: { at: number; lengthBytes: number }[] = [];
  /** Flags that are undefined on some way to instruction n, n > the current one. */
  readonly #pendingFlags = new Map<number, number>();
  readonly #pendingStatus = new Map<number, number>();

  readonly bits: CaseBits;

  constructor(r: Prng, needs: CaseNeeds, bits: CaseBits = 64) {
    this.#r = r;
    this.#needs = needs;
    this.bits = bits;
    const registers = bits === 64 ? 16 : 8;
    for (let i = 0; i < registers; i++) this.gprs[i] = BigInt.asUintN(bits, interesting64(r));
    this.#placeStack();
    if (needs.stringPointers) for (const i of [6, 7]) this.#pin(i, this.#pointer(), false);
    if (needs.rbxPointer) this.#pin(3, this.#pointer(), false);
    this.fixed = this.pinned & ~(1 << 4);
    if (needs.frame) this.#pin(5, this.#pointer(), false);
    const free = [3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].filter(
      (i) => i < registers && (this.pinned & (1 << i)) === 0,
    );
    for (let n = r.between(1, bits === 64 ? 3 : 2); n > 0 && free.length > 0; n--)
      this.#pin(free.splice(r.below(free.length), 1)[0], this.#pointer(), true);
    if (r.chance(60) && free.length > 0) {
      const index = r.chance(60) ? r.between(-64, 64) : r.between(-4096, 4096);
      this.#pin(free.splice(r.below(free.length), 1)[0], index, true);
    }
  }

  /** Registers that addresses can use here. */
  get known(): readonly KnownRegister[] {
    return this.#rspKnown && this.#r.chance(30)
      ? [...this.#known, { num: 4, value: Number(this.gprs[4]) }]
      : this.#known;
  }

  /** Begins the next drawn instruction. */
  begin(text: string, mmx = false): void {
    const index = this.starts.length;
    this.starts.push(this.code.length);
    this.#instructions.push({ at: this.code.length, text, ...(mmx && { mmx }) });
    this.#joinBranches(index);
  }
  /** What is undefined on a way that leads to instruction `index`, is undefined there. */
  #joinBranches(index: number): void {
    this.undefinedFlags |= this.#pendingFlags.get(index) ?? 0;
    this.undefinedStatus |= this.#pendingStatus.get(index) ?? 0;
    this.note();
  }
  /** Notes which flags are undefined if the case ends at the next code byte. */
  note(): void {
    const at = this.code.length;
    if (this.undefinedFlags !== (this.#ignoreFlags.at(-1)?.mask ?? 0))
      this.#ignoreFlags.push({ at, mask: this.undefinedFlags });
    if (this.undefinedStatus !== (this.#ignoreStatus.at(-1)?.mask ?? 0))
      this.#ignoreStatus.push({ at, mask: this.undefinedStatus });
  }
  /** Notes that a helper leaves flags undefined. */
  leaveUndefined(flags: number): void {
    this.undefinedFlags |= flags;
    this.#helperUndefined |= flags;
    this.note();
  }
  /** Ends the current instruction. */
  apply(flags: BitEffect, status: BitEffect, branch: boolean): void {
    const current = this.#instructions.pop()!;
    const own = { ...flags, undefined: flags.undefined | (this.#helperUndefined & ~flags.defined) };
    this.#instructions.push({
      ...current,
      ...(hasEffect(own) && { flags: own }),
      ...(hasEffect(status) && { status }),
      ...(this.#settled !== 0 && { settled: this.#settled }),
      ...(branch && { branch }),
    });
    this.#settled = 0;
    this.#helperUndefined = 0;
    this.undefinedFlags = (this.undefinedFlags & ~flags.defined) | flags.undefined;
    this.undefinedStatus = (this.undefinedStatus & ~status.defined) | status.undefined;
    this.note();
  }
  /** The current instruction may continue at instruction `target`. */
  branchTo(target: number): void {
    this.#pendingFlags.set(target, (this.#pendingFlags.get(target) ?? 0) | this.undefinedFlags);
    this.#pendingStatus.set(target, (this.#pendingStatus.get(target) ?? 0) | this.undefinedStatus);
  }
  /** PUSHFQ; AND DWORD [RSP], ~undefined; POPFQ: makes undefined flags zero before something reads them. */
  settleFlags(): void {
    const mask = ~this.undefinedFlags;
    this.emit(0x9c, 0x81, 0x24, 0x24, mask & 0xff, (mask >> 8) & 0xff, (mask >> 16) & 0xff, (mask >> 24) & 0xff, 0x9d);
    this.#settled |= this.undefinedFlags;
    this.undefinedFlags = 0;
    this.note();
  }
  /** A fault in the current instruction may leave some of the stack it was about to write. */
  ignorePartialStack(lengthBytes: number): void {
    this.#partialStack.push({ at: this.starts.at(-1) ?? 0, lengthBytes });
  }
  ignoreMemory(offset: number, lengthBytes: number): void {
    if (offset >= 0 && offset + lengthBytes <= SCRATCH_BYTES) this.#ignoreMemory.push({ offset, lengthBytes });
  }

  emit(...bytes: number[]): void {
    for (const b of bytes) this.code.push(b & 0xff);
  }
  /** Emits a little-endian number. */
  number(value: number, bytes: number): void {
    for (let i = 0; i < bytes; i++) this.code.push(Math.floor(value / 2 ** (8 * i)) & 0xff);
  }
  /** Emits bytes whose value is known once the code has its place. */
  deferred(bytes: 1 | 4 | 8, value: Fixup["value"]): void {
    this.#fixups.push({ at: this.code.length, bytes, value });
    this.number(0, bytes);
  }
  moveStack(): void {
    this.#rspKnown = false;
  }
  /** Puts bytes where an operand lies, as far as that is scratch memory. */
  patch(address: number, bytes: Uint8Array): void {
    const offset = address - SCRATCH_BASE;
    if (offset >= 0 && offset + bytes.length <= SCRATCH_BYTES) this.memory.push({ offset, bytes });
  }

  finish(): TestCase {
    const r = this.#r;
    const end = this.code.length;
    this.#joinBranches(this.starts.length);
    const codeOffset = this.#codeOffset(end);
    const codeAddress = CODE_BASE + codeOffset;
    const starts = [...this.starts, end];
    const code = new Uint8Array(this.code);
    const view = new DataView(code.buffer);
    for (const f of this.#fixups) {
      const value = f.value(codeAddress, starts);
      if (f.bytes === 8) view.setBigInt64(f.at, BigInt(value), true);
      else if (f.bytes === 4) view.setInt32(f.at, value, true);
      else view.setInt8(f.at, value);
    }
    const flags = Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF | Flag.OF;
    let rflags = r.u32() & (flags | (r.chance(20) ? Flag.DF : 0));
    if (r.chance(1)) rflags |= r.pick([Flag.TF, this.#needs.alignmentCheck ? Flag.AC : Flag.TF, Flag.ID, Flag.NT]);
    const ignore = {
      ...(this.#ignoreFlags.length > 0 && { rflags: this.#ignoreFlags }),
      ...(this.#ignoreStatus.length > 0 && { fsw: this.#ignoreStatus }),
      ...(this.#ignoreMemory.length > 0 && { memory: this.#ignoreMemory }),
      ...(this.#partialStack.length > 0 && { partialStack: this.#partialStack }),
    };
    return {
      ...(this.bits === 32 && { bits: 32 as const }),
      gprs: this.gprs,
      rflags: rflags & RFLAGS_MASK,
      ...(this.#needs.fp && { fx: fxState(r) }),
      code,
      codeOffset,
      instructions: this.#instructions,
      ...(this.memory.length > 0 && { memory: this.memory }),
      ...(Object.keys(ignore).length > 0 && { ignore }),
    };
  }

  /** Mostly near the start of the page; sometimes across the pages, or up to the last executable byte. */
  #codeOffset(codeBytes: number): number {
    const r = this.#r;
    if (r.chance(80)) return r.below(64);
    if (r.chance(70)) return CODE_BYTES / 2 - r.below(codeBytes + 1);
    return CODE_BYTES - codeBytes - r.below(3);
  }
  #placeStack(): void {
    const r = this.#r;
    const middle = SCRATCH_BASE + SCRATCH_BYTES / 2 + 16 * r.between(-256, 256);
    const kind = r.below(100);
    const top = SCRATCH_BASE + SCRATCH_BYTES;
    if (kind < 75) this.gprs[4] = BigInt(middle);
    else if (kind < 90) this.gprs[4] = BigInt(middle + r.below(16));
    else if (kind < 97) this.gprs[4] = BigInt(SCRATCH_BASE + 4096 * r.between(2, 14) + r.between(-16, 16));
    else this.gprs[4] = BigInt(r.chance(50) ? top - r.below(32) : SCRATCH_BASE + r.below(32));
    this.pinned |= 1 << 4;
  }
  #pointer(): number {
    const r = this.#r;
    const offset = 0x800 + r.below(SCRATCH_BYTES - 0x4000);
    return SCRATCH_BASE + (r.chance(70) ? offset & ~63 : offset);
  }
  #pin(num: number, value: number, address: boolean): void {
    this.gprs[num] = BigInt.asUintN(this.bits, BigInt(value));
    this.pinned |= 1 << num;
    if (address) this.#known.push({ num, value });
  }
}

const hasEffect = (e: BitEffect): boolean => (e.reads | e.defined | e.undefined) !== 0;
