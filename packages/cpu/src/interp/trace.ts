import { type Decoded, Seg } from "../decode/decoded.ts";
import { type Decoder, NEED_MORE_BYTES } from "../decode/decoder.ts";
import { CodeMode, RECORD_BYTES, Slot } from "../state/layout.ts";
import type { DecodeView } from "../system/code-window.ts";
import { Vector } from "../system/faults.ts";
import { type AddressForm, addressForm, ignoresSegment, SCRATCH_FORM, segmentSlot } from "./address.ts";
import { isWideImmediate } from "./interp-ops.ts";
import { AddressRecord, Builtin, Field, SCALE_SHIFT } from "./record.ts";
import { RecordTemplates } from "./record-templates.ts";

/** Longest trace, in instructions. */
const MAX_TRACE = 128;

/** Where the record encoder asks for handler numbers and remembers system instructions. */
export interface HandlerDirectory {
  /** Number of the handler for an instruction; makes it if need be. */
  handlerFor(d: Decoded, codeMode: number, form: AddressForm | undefined, bytes: () => Uint8Array): number;
  /** Remembers an instruction that the host program will execute; returns its number. */
  rememberSystem(d: Decoded): number;
}

/** What became of an attempt to decode a trace. */
export type TraceResult =
  /** Records were written; `endOffset` is behind the last instruction's last byte. */
  | { readonly kind: "trace"; readonly endOffset: number; readonly recordEnd: number }
  /** The first instruction goes on in the next page. */
  | { readonly kind: "crossing" };

/** Writes records of traces. */
export class TraceWriter {
  private readonly view: DataView;
  private readonly decoder: Decoder;
  private readonly directory: HandlerDirectory;
  /** By decoding mode. */
  private readonly templates = new Map<number, RecordTemplates>();
  private at = 0;
  private page: Uint8Array = new Uint8Array(0);

  constructor(memory: WebAssembly.Memory, decoder: Decoder, directory: HandlerDirectory) {
    this.view = new DataView(memory.buffer);
    this.decoder = decoder;
    this.directory = directory;
  }

  /**
   * Decodes from `page[offset]` and writes records from address `recordAt` on.
   * @param page        the page's bytes; longer than 4096 if the bytes of the following page are there too
   * @param limit       how many records there is room for; a trace needs up to 2 per instruction and 1 more
   * @param known       record of the trace that starts at an offset, 0 if none does: there this one ends, and goes on in that one
   */
  write(
    page: Uint8Array,
    offset: number,
    view: DecodeView,
    recordAt: number,
    limit: number,
    known: (offset: number) => number = () => 0,
  ): TraceResult {
    const { codeMode, window } = view;
    this.at = recordAt;
    this.page = page;
    const stop = Math.min(page.length, window.end);
    const most = codeMode & CodeMode.singleStep ? 1 : Math.min(MAX_TRACE, (limit - 1) >> 1);
    let place = offset;
    const templates = this.templatesOf(codeMode);
    for (let count = 0; count < most && place < 4096; count++) {
      if (place < window.start || place >= stop) return this.fault(place, Vector.gp);
      const joined = count === 0 ? 0 : known(place);
      if (joined !== 0) return this.finish(place, joined);
      const template = templates.find(page, place, stop);
      if (template >= 0 && templates.write(template, page, place, this.view, this.at)) {
        this.at += RECORD_BYTES;
        place += templates.lengthOf(template);
        if (templates.ends(template)) return this.finish(place);
        continue;
      }
      const d = this.decodeOne(page, place, stop, codeMode);
      if (d === "crossing") {
        // The limit of CS ends the instruction before its last byte.
        if (window.end <= page.length) return this.fault(place, Vector.gp);
        if (count === 0) return { kind: "crossing" };
        break;
      }
      if (typeof d === "number") return this.fault(place, d);
      const record = this.at;
      this.instruction(d, place, codeMode);
      if (this.at === record + RECORD_BYTES && d.def.semantics && !d.def.system && !isWideImmediate(d))
        templates.learn(page, place, d, this.view, record);
      place += d.lengthBytes;
      if (d.def.ends) return this.finish(place);
    }
    return this.finish(place);
  }

  /**
   * Writes the trace of one instruction that goes on in the next page.
   * @param both  the page's 4096 bytes and the first of the next
   */
  writeCrossing(both: Uint8Array, offset: number, view: DecodeView, recordAt: number, nextFrame: number): TraceResult {
    this.at = recordAt;
    this.page = both;
    this.builtin(Builtin.crossing, offset, nextFrame);
    const single = { ...view, codeMode: view.codeMode | CodeMode.singleStep };
    return this.write(both, offset, single, this.at, 4);
  }

  private templatesOf(codeMode: number): RecordTemplates {
    const mode = codeMode & ~CodeMode.singleStep;
    let found = this.templates.get(mode);
    if (!found) this.templates.set(mode, (found = new RecordTemplates()));
    return found;
  }

  /** Ends the trace with an instruction that raises an exception. */
  private fault(place: number, vector: number): TraceResult {
    this.builtin(Builtin.undefined, place, vector);
    return { kind: "trace", endOffset: Math.min(place + 1, 4096), recordEnd: this.at };
  }

  /**
   * Every trace is closed by a record for the address behind it, from which return addresses are taken too.
   * @param joined  record of the trace there, if it is known
   */
  private finish(place: number, joined = 0): TraceResult {
    this.builtin(joined === 0 ? Builtin.relook : Builtin.link, place, joined);
    return { kind: "trace", endOffset: place, recordEnd: this.at };
  }

  /** The instruction, or the vector of the exception that its bytes raise. */
  private decodeOne(page: Uint8Array, place: number, stop: number, codeMode: number): Decoded | "crossing" | number {
    try {
      return this.decoder.decode(page, place, stop, codeMode) ?? Vector.ud;
    } catch (thrown) {
      if (thrown === NEED_MORE_BYTES) return "crossing";
      if (thrown instanceof RangeError) return Vector.gp;
      throw thrown;
    }
  }

  private builtin(handler: number, place: number, imm: number): void {
    this.put({ handler, place, imm });
  }

  private put(r: {
    handler: number;
    place: number;
    dst?: number;
    src?: number;
    base?: number;
    index?: number;
    scale?: number;
    disp?: number;
    imm?: number;
    flags?: number;
  }): void {
    const { view, at } = this;
    view.setUint16(at + Field.handler, r.handler, true);
    view.setUint8(at + Field.dst, r.dst ?? 0);
    view.setUint8(at + Field.src, r.src ?? 0);
    view.setUint8(at + Field.base, r.base ?? Slot.zero);
    view.setUint8(at + Field.index, r.index ?? Slot.zero);
    view.setUint16(at + Field.place, r.place | (r.flags ?? 0) | ((r.scale ?? 0) << SCALE_SHIFT), true);
    view.setInt32(at + Field.disp, r.disp ?? 0, true);
    view.setInt32(at + Field.imm, r.imm ?? 0, true);
    this.at += RECORD_BYTES;
  }

  private instruction(d: Decoded, place: number, codeMode: number): void {
    if (!d.def.semantics) return this.builtin(Builtin.system, place, this.directory.rememberSystem(d));
    const form = addressForm(d, codeMode, place + d.lengthBytes);
    if (form && form.prefix !== "none") this.prefix(d, form, place, codeMode);
    const handler = this.directory.handlerFor(d, codeMode, form, () =>
      this.page.subarray(place, place + d.lengthBytes),
    );
    const registers = registerFields(d);
    const fields = { handler, place, dst: registers[0], src: registers[1], ...immediates(d) };
    if (d.def.system) fields.imm = this.directory.rememberSystem(d);
    if (form) {
      const inMain = form.prefix === "none" ? form : SCRATCH_FORM;
      this.put({ ...fields, base: inMain.base, index: inMain.index, scale: inMain.scale, disp: inMain.disp });
    } else if (d.operands[0]?.kind === "rel") this.branch(fields, d, place);
    else this.put({ ...fields, base: impliedSegment(d, codeMode) });
  }

  private branch(fields: { handler: number; place: number }, d: Decoded, place: number): void {
    const target = place + d.lengthBytes + d.immLo;
    const inPage = target >= 0 && target < 4096;
    this.put({ ...fields, disp: target, imm: 0, flags: inPage ? 0 : 1 << 13 });
  }

  private prefix(d: Decoded, form: AddressForm, place: number, codeMode: number): void {
    const m = d.memory!;
    const is64 = (codeMode & CodeMode.sizeMask) === CodeMode.code64;
    const usesSegment = !ignoresSegment(d) && (!is64 || m.segment >= Seg.fs);
    const segment = usesSegment ? segmentSlot(m.segment) : Slot.zero;
    if (form.prefix === "absolute") {
      this.put({ handler: Builtin.absolute, place, dst: segment, disp: m.disp, imm: m.dispHi });
      return;
    }
    const inFlat = m.segment < Seg.fs && m.segment !== Seg.cs && codeMode & CodeMode.flat;
    const checks = usesSegment && !is64 && !inFlat;
    const wraps = !is64 && !ignoresSegment(d) ? AddressRecord.wrap32 : 0;
    const width = d.operands.find((o) => o.kind === "mem")?.width ?? 1;
    const more = Math.max(0, width - 1) << AddressRecord.moreShift;
    const imm = (usesSegment ? m.segment : 0) | (checks ? 0 : AddressRecord.noCheck) | wraps | more;
    // RIP-relative operands count from the next instruction; the page's address is a slot.
    const base = m.ripRelative ? Slot.pageVa : m.base < 0 ? Slot.zero : m.base * 8;
    // POP forms its address with the stack pointer already moved.
    const popped = d.def.name === "POP" && m.base === 4 ? d.operandSize : 0;
    const relative = m.disp + popped + (m.ripRelative ? place + d.lengthBytes : 0);
    const disp = relative | 0;
    // What does not fit 32 bits is carried by a second prefix record through the scratch slot.
    if (disp !== relative) {
      this.put({
        handler: Builtin.absolute,
        place,
        dst: Slot.pageVa,
        disp: relative >>> 0,
        imm: Math.floor(relative / 2 ** 32),
      });
      this.put({ handler: Builtin.address, place, dst: segment, src: d.addressSize, base: Slot.scratch, imm });
      return;
    }
    const index = m.index < 0 ? Slot.zero : m.index * 8;
    this.put({
      handler: Builtin.address,
      place,
      dst: segment,
      src: d.addressSize,
      base,
      index,
      scale: m.scale,
      disp,
      imm,
    });
  }
}

function registerFields(d: Decoded): number[] {
  const fields: number[] = [];
  d.operands.forEach((operand, position) => {
    if (operand.kind === "gpr" && d.encoding.operands[position].kind !== "fixed")
      fields.push(operand.reg * 8 + (operand.high ? 1 : 0));
    else if (operand.kind === "xmm" || operand.kind === "mmx") fields.push(operand.reg * 16);
  });
  return fields;
}

/** Immediates, sign-extended from their own width. */
function immediates(d: Decoded): { imm: number; disp: number } {
  if (isWideImmediate(d)) return { disp: d.immLo, imm: d.immHi };
  const numbered = d.operands.find((o) => o.kind === "sreg" || o.kind === "st");
  if (numbered && "reg" in numbered) return { imm: numbered.reg, disp: 0 };
  const immediate = d.operands.find((o) => o.kind === "imm");
  const width = immediate?.width ?? 4;
  const imm = width === 1 ? (d.immLo << 24) >> 24 : width === 2 ? (d.immLo << 16) >> 16 : d.immLo;
  return { imm, disp: d.imm2 };
}

/** Slot of the segment base of an implied DS operand. */
function impliedSegment(d: Decoded, codeMode: number): number {
  if (!d.encoding.options.has("a")) return Slot.zero;
  const is64 = (codeMode & CodeMode.sizeMask) === CodeMode.code64;
  if (is64) return d.segmentOverride >= Seg.fs ? segmentSlot(d.segmentOverride) : Slot.zero;
  return segmentSlot(d.segmentOverride < 0 ? Seg.ds : d.segmentOverride);
}
