import type { InstructionDef } from "../semantics/define.ts";
import { instructions } from "../semantics/index.ts";
import { CodeMode } from "../state/layout.ts";
import { type Decoded, type DecodedOperand, type MemoryOperand, Seg } from "./decoded.ts";
import type { Encoding, OperandSpec } from "./encoding.ts";

/** Thrown when the bytes at hand end inside an instruction: the caller fetches the next page and tries again. */
export const NEED_MORE_BYTES = Symbol("need more bytes");

interface Candidate {
  readonly def: InstructionDef;
  readonly encoding: Encoding;
}

/** Instructions are at most this long; longer ones raise #GP. */
export const MAX_INSTRUCTION_BYTES = 15;

const tables: Candidate[][][] = [0, 1, 2, 3].map(() => Array.from({ length: 256 }, () => []));
let built = 0;

/** Enters definitions made since the last call into the opcode tables. */
function build(): void {
  if (built === instructions.length) return;
  for (; built < instructions.length; built++) {
    const def = instructions[built];
    for (const encoding of def.encodings) {
      const last = encoding.opcode + (encoding.plusR ? 7 : 0);
      for (let opcode = encoding.opcode; opcode <= last; opcode++) tables[encoding.map][opcode].push({ def, encoding });
    }
  }
  // The most specific first: an exact rm before a digit before none; a mandatory prefix before none.
  const rank = (c: Candidate) =>
    (c.encoding.options.has("norexb") ? 8 : 0) +
    (c.encoding.rm >= 0 ? 4 : 0) +
    (c.encoding.digit >= 0 ? 2 : 0) +
    (c.encoding.prefix > 1 ? 1 : 0);
  for (const map of tables) for (const list of map) list.sort((a, b) => rank(b) - rank(a));
}

const LEGACY_PREFIX: Readonly<Record<number, number>> = {
  38: Seg.es,
  46: Seg.cs,
  54: Seg.ss,
  62: Seg.ds,
  100: Seg.fs,
  101: Seg.gs,
};

/**
 * Decodes one instruction at a time from a window of bytes.
 * `decode` returns undefined for bytes that are no instruction we offer (#UD).
 */
export class Decoder {
  private bytes: Uint8Array = new Uint8Array(0);
  private at = 0;
  private end = 0;
  private start = 0;
  private mode64 = false;
  private rex = 0;
  private operand66 = false;
  private lock = false;
  private rep = 0;
  private segment = -1;
  private addressSize = 8;

  constructor() {
    build();
  }

  /** @throws NEED_MORE_BYTES if `end` comes before the instruction does. */
  decode(bytes: Uint8Array, start: number, end: number, codeMode: number): Decoded | undefined {
    this.bytes = bytes;
    this.start = start;
    this.at = start;
    this.end = Math.min(end, start + MAX_INSTRUCTION_BYTES);
    const size = codeMode & CodeMode.sizeMask;
    this.mode64 = size === CodeMode.code64;
    const map = this.prefixes(size);
    const opcode = this.opcodeByte;
    const candidates = tables[map][opcode];
    if (candidates.length === 0) return undefined;
    let modrm = -1;
    if (candidates[0].encoding.modrm) modrm = this.u8();
    const chosen = this.choose(candidates, modrm);
    if (!chosen) return undefined;
    return this.finish(chosen, opcode, modrm, size);
  }

  private opcodeByte = 0;
  /** Where the displacement of the memory operand begins, or would. */
  private dispAt = 0;

  private u8(): number {
    if (this.at >= this.end) {
      if (this.end === this.start + MAX_INSTRUCTION_BYTES) throw new RangeError("instruction too long");
      throw NEED_MORE_BYTES;
    }
    return this.bytes[this.at++];
  }
  private u16(): number {
    const low = this.u8();
    return low | (this.u8() << 8);
  }
  private s32(): number {
    const low = this.u16();
    return low | (this.u16() << 16);
  }

  /** Reads prefixes and the opcode; returns the opcode map. */
  private prefixes(size: number): number {
    this.rex = 0;
    this.operand66 = false;
    this.lock = false;
    this.rep = 0;
    this.segment = -1;
    this.addressSize = size === CodeMode.code64 ? 8 : size === CodeMode.code32 ? 4 : 2;
    for (;;) {
      const byte = this.u8();
      if (byte in LEGACY_PREFIX) {
        const segment = LEGACY_PREFIX[byte];
        // In 64-bit mode the other overrides are ignored, even after FS or GS.
        if (!this.mode64 || segment >= Seg.fs) this.segment = segment;
        this.rex = 0;
      } else if (byte === 0x66) {
        this.operand66 = true;
        this.rex = 0;
      } else if (byte === 0x67) {
        this.addressSize = size === CodeMode.code32 ? 2 : 4;
        this.rex = 0;
      } else if (byte === 0xf0) {
        this.lock = true;
        this.rex = 0;
      } else if (byte === 0xf2 || byte === 0xf3) {
        this.rep = byte;
        this.rex = 0;
      } else if (this.mode64 && (byte & 0xf0) === 0x40) this.rex = byte;
      else {
        this.opcodeByte = byte;
        break;
      }
    }
    if (this.opcodeByte !== 0x0f) return 0;
    this.opcodeByte = this.u8();
    if (this.opcodeByte === 0x38) {
      this.opcodeByte = this.u8();
      return 2;
    }
    if (this.opcodeByte === 0x3a) {
      this.opcodeByte = this.u8();
      return 3;
    }
    return 1;
  }

  private choose(candidates: readonly Candidate[], modrm: number): Candidate | undefined {
    for (const candidate of candidates) if (this.fits(candidate.encoding, modrm)) return candidate;
    return undefined;
  }

  private fits(e: Encoding, modrm: number): boolean {
    if (e.digit >= 0 && ((modrm >> 3) & 7) !== e.digit) return false;
    if (e.modrm) {
      const register = modrm >= 0xc0;
      if (register ? e.options.has("mem") : e.options.has("reg")) return false;
      if (e.rm >= 0 && (modrm & 7) !== e.rm) return false;
    }
    if (e.prefix) {
      // F2 and F3 win over 66.
      const has = this.rep || (this.operand66 ? 0x66 : 1);
      if (has !== e.prefix && !(e.prefix === 0x66 && this.operand66 && e.options.has("norep"))) return false;
    }
    if (e.options.has("i64") && this.mode64) return false;
    if (e.options.has("o64") && !this.mode64) return false;
    if (e.options.has("norexb") && this.rex & 1) return false;
    if (e.options.has("w1") && !(this.rex & 8)) return false;
    if (e.options.has("w0") && this.rex & 8) return false;
    return true;
  }

  private finish(chosen: Candidate, opcode: number, modrm: number, size: number): Decoded | undefined {
    const { def, encoding } = chosen;
    const rexW = (this.rex & 8) !== 0;
    let operandSize = size === CodeMode.code16 ? 2 : 4;
    if (this.operand66 && encoding.prefix !== 0x66) operandSize = operandSize === 4 ? 2 : 4;
    if (this.mode64) {
      if (encoding.options.has("f64")) operandSize = 8;
      else if (rexW) operandSize = 8;
      else if (encoding.options.has("d64")) operandSize = operandSize === 2 ? 2 : 8;
    }
    const memory = modrm >= 0 && modrm < 0xc0 && encoding.modrm ? this.modrmMemory(modrm) : undefined;
    const decoded: Decoded = {
      def,
      encoding,
      operandSize,
      addressSize: this.addressSize,
      lengthBytes: 0,
      fixedBytes: (memory ? this.dispAt : this.at) - this.start,
      dispBytes: memory ? this.at - this.dispAt : 0,
      lock: this.lock,
      rep: this.rep,
      rexW,
      rexR: (this.rex & 4) !== 0,
      rexB: (this.rex & 1) !== 0,
      segmentOverride: this.segment,
      operands: [],
      memory,
      immLo: 0,
      immHi: 0,
      imm2: 0,
      modrm,
      farSelector: 0,
    };
    let immediates = 0;
    for (const spec of encoding.operands)
      decoded.operands.push(this.operand(decoded, spec, opcode, modrm, immediates++));
    if (this.lock && !(def.lockable && decoded.operands[0]?.kind === "mem")) return undefined;
    decoded.lengthBytes = this.at - this.start;
    return decoded;
  }

  private width(size: string, operandSize: number): number {
    switch (size[0]) {
      case "b":
        return size === "bs" ? operandSize : 1;
      case "w":
        return 2;
      case "d":
        return 4;
      case "q":
        return 8;
      case "x":
        return 16;
      case "t":
        return 10;
      case "z":
        return Math.min(operandSize, 4);
      case "y":
        return operandSize === 8 ? 8 : 4;
      default:
        return operandSize;
    }
  }

  private gpr(number: number, width: number): DecodedOperand {
    const high = width === 1 && this.rex === 0 && number >= 4 && number < 8;
    return { kind: "gpr", reg: high ? number - 4 : number, width, high };
  }

  private operand(d: Decoded, spec: OperandSpec, opcode: number, modrm: number, position: number): DecodedOperand {
    const width = this.width(spec.size, d.operandSize);
    const rm = (modrm & 7) | ((this.rex & 1) << 3);
    const reg = ((modrm >> 3) & 7) | ((this.rex & 4) << 1);
    switch (spec.kind) {
      case "E":
      case "R":
        return d.memory ? { kind: "mem", width } : this.gpr(rm, width);
      case "M":
        return { kind: "mem", width };
      case "G":
        return this.gpr(reg, width);
      case "Z":
        return this.gpr((opcode & 7) | ((this.rex & 1) << 3), width);
      case "fixed":
        return { kind: "gpr", reg: spec.text === "AH" ? 0 : spec.fixed, width, high: spec.text === "AH" };
      case "one":
        d.immLo = 1;
        return { kind: "imm", width: 1 };
      case "V":
        return { kind: "xmm", reg, width };
      case "W":
      case "U":
        return d.memory ? { kind: "mem", width } : { kind: "xmm", reg: rm, width };
      case "P":
        return { kind: "mmx", reg: reg & 7, width };
      case "Q":
      case "N":
        return d.memory ? { kind: "mem", width } : { kind: "mmx", reg: rm & 7, width };
      case "A":
        d.immLo = d.operandSize === 2 ? this.u16() : this.s32();
        d.farSelector = this.u16();
        return { kind: "none", width: 0 };
      case "STi":
        return { kind: "st", reg: modrm & 7, width };
      case "S":
        return { kind: "sreg", reg: reg & 7, width: 2 };
      case "C":
        return { kind: "creg", reg, width: this.mode64 ? 8 : 4 };
      case "D":
        return { kind: "dreg", reg, width: this.mode64 ? 8 : 4 };
      case "O":
        d.memory = this.absolute();
        return { kind: "mem", width };
      case "J":
        this.immediate(d, spec.size === "b" ? 1 : this.mode64 ? 4 : Math.min(d.operandSize, 4), true);
        return { kind: "rel", width: d.operandSize };
      default:
        return this.immediateOperand(d, spec, width, position);
    }
  }

  private immediateOperand(d: Decoded, spec: OperandSpec, width: number, position: number): DecodedOperand {
    if (position > 0 && d.operands.some((o) => o.kind === "imm")) {
      d.imm2 = this.u8();
      return { kind: "imm", width: 1 };
    }
    if (spec.size === "bs") this.immediate(d, 1, true);
    else if (spec.size === "z") this.immediate(d, Math.min(d.operandSize, 4), true);
    else this.immediate(d, width, false);
    return { kind: "imm", width: spec.size === "z" || spec.size === "bs" ? d.operandSize : width };
  }

  private immediate(d: Decoded, bytes: number, signed: boolean): void {
    if (bytes === 1) d.immLo = signed ? (this.u8() << 24) >> 24 : this.u8();
    else if (bytes === 2) d.immLo = signed ? (this.u16() << 16) >> 16 : this.u16();
    else d.immLo = this.s32();
    d.immHi = bytes === 8 ? this.s32() : bytes === 4 && !signed ? 0 : d.immLo >> 31;
  }

  private absolute(): MemoryOperand {
    const disp = this.addressSize === 2 ? this.u16() : this.s32();
    const dispHi = this.addressSize === 8 ? this.s32() : 0;
    const segment = this.segment < 0 ? Seg.ds : this.segment;
    return { base: -1, index: -1, scale: 0, disp, dispHi, segment, ripRelative: false };
  }

  private modrmMemory(modrm: number): MemoryOperand {
    if (this.addressSize === 2) return this.memory16(modrm);
    const mod = modrm >> 6;
    let base = (modrm & 7) | ((this.rex & 1) << 3);
    let index = -1;
    let scale = 0;
    let ripRelative = false;
    let disp = 0;
    this.dispAt = this.at;
    if ((modrm & 7) === 4) {
      const sib = this.u8();
      this.dispAt = this.at;
      scale = sib >> 6;
      index = ((sib >> 3) & 7) | ((this.rex & 2) << 2);
      if (index === 4) index = -1;
      base = (sib & 7) | ((this.rex & 1) << 3);
      if ((sib & 7) === 5 && mod === 0) {
        base = -1;
        disp = this.s32();
      }
    } else if ((modrm & 7) === 5 && mod === 0) {
      base = -1;
      ripRelative = this.mode64;
      disp = this.s32();
    }
    if (mod === 1) disp = (this.u8() << 24) >> 24;
    else if (mod === 2) disp = this.s32();
    const natural = base === 4 || base === 5 ? Seg.ss : Seg.ds;
    return {
      base,
      index,
      scale,
      disp,
      dispHi: disp >> 31,
      segment: this.segment < 0 ? natural : this.segment,
      ripRelative,
    };
  }

  private memory16(modrm: number): MemoryOperand {
    this.dispAt = this.at;
    const mod = modrm >> 6;
    const rm = modrm & 7;
    // BX+SI BX+DI BP+SI BP+DI SI DI BP BX
    let base = [3, 3, 5, 5, 6, 7, 5, 3][rm];
    const index = [6, 7, 6, 7, -1, -1, -1, -1][rm];
    let disp = 0;
    if (mod === 0 && rm === 6) {
      base = -1;
      disp = (this.u16() << 16) >> 16;
    } else if (mod === 1) disp = (this.u8() << 24) >> 24;
    else if (mod === 2) disp = (this.u16() << 16) >> 16;
    const natural = base === 5 ? Seg.ss : Seg.ds;
    return {
      base,
      index,
      scale: 0,
      disp,
      dispHi: disp >> 31,
      segment: this.segment < 0 ? natural : this.segment,
      ripRelative: false,
    };
  }
}
