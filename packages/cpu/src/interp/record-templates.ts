import type { Decoded } from "../decode/decoded.ts";
import { Slot } from "../state/layout.ts";
import { Field } from "./record.ts";

/** A template, by its number. */
export type RecordTemplate = number;

/** Entries of a node: one for each half of a byte, since few bytes follow any one. */
const NODE_ENTRIES = 16;
/** Words of a template: a record of the kind, and `Shape`. */
const TEMPLATE_WORDS = 5;
const SHAPE = 4;
/** Bits of a template's last word: lengths in bytes, and what it is besides. */
const Shape = {
  length: 0,
  fixed: 4,
  disp: 8,
  imm: 12,
  relative: 1 << 16,
  ripRelative: 1 << 17,
  ends: 1 << 18,
} as const;
const NONE = -1;
/** A guest may make up any number of instructions. */
const MAX_TEMPLATES = 1 << 16;

/**
 * Records of instructions that differ only in displacement and immediate are alike in everything else: what a record is like whatever
 * numbers its instruction has in it. They are found by the bytes that choose the rest, through a tree with two levels for each byte: no instruction's bytes
 * begin another's. A boot meets some ten thousand, which as objects, in a tree with a level for each byte, took 6 MiB of each vcpu's thread.
 */
export class RecordTemplates {
  private templates = new Int32Array(256 * TEMPLATE_WORDS);
  private count = 0;
  /** 0 nothing, n > 0 the node n, −1 − k the template k. */
  private nodes = new Int32Array(256 * NODE_ENTRIES);
  private nodeCount = 1;

  /** The template of the instruction at `bytes[at]`, if one like it was met and all of it lies before `end`; otherwise −1. */
  find(bytes: Uint8Array, at: number, end: number): RecordTemplate {
    const { nodes } = this;
    let node = 0;
    for (let k = at; k < end; k++) {
      const byte = bytes[k];
      const half = nodes[node * NODE_ENTRIES + (byte >> 4)];
      if (half === 0) return NONE;
      const next = nodes[half * NODE_ENTRIES + (byte & 15)];
      if (next === 0) return NONE;
      if (next < 0) return at + this.lengthOf(-1 - next) <= end ? -1 - next : NONE;
      node = next;
    }
    return NONE;
  }
  lengthOf(template: RecordTemplate): number {
    return this.templates[template * TEMPLATE_WORDS + SHAPE] & 15;
  }
  ends(template: RecordTemplate): boolean {
    return (this.templates[template * TEMPLATE_WORDS + SHAPE] & Shape.ends) !== 0;
  }

  /**
   * Remembers the one record that an instruction without system semantics became.
   * @param view where the record is
   */
  learn(bytes: Uint8Array, at: number, d: Decoded, view: DataView, record: number): void {
    const immBytes = d.lengthBytes - d.fixedBytes - d.dispBytes;
    const relative = d.operands[0]?.kind === "rel";
    const immediates = d.operands.filter((o) => o.kind === "imm").length;
    // Numbers of other shapes (absolute addresses, two immediates, far pointers) are left to the decoder.
    if (d.imm2 !== 0 || immediates > 1 || ![0, 1, 2, 4].includes(immBytes)) return;
    if (immBytes > 0 && immediates === 0 && !relative) return;
    if (d.encoding.operands.some(({ kind }) => kind === "O")) return;
    const entry = this.entryFor(bytes, at, d.fixedBytes);
    if (entry === NONE || this.count === MAX_TEMPLATES) return;
    const shape =
      (d.lengthBytes << Shape.length) |
      (d.fixedBytes << Shape.fixed) |
      (d.dispBytes << Shape.disp) |
      (immBytes << Shape.imm) |
      (relative ? Shape.relative : 0) |
      (view.getUint8(record + Field.base) === Slot.pageVa ? Shape.ripRelative : 0) |
      (d.def.ends ? Shape.ends : 0);
    this.nodes[entry] = -1 - this.add(view, record, shape);
  }
  private add(view: DataView, record: number, shape: number): RecordTemplate {
    const at = this.count * TEMPLATE_WORDS;
    if (at === this.templates.length) this.templates = doubled(this.templates);
    for (let word = 0; word < SHAPE; word++) this.templates[at + word] = view.getInt32(record + word * 4, true);
    this.templates[at + SHAPE] = shape;
    return this.count++;
  }

  /** The entry that bytes lead to, if nothing is known of them. */
  private entryFor(bytes: Uint8Array, at: number, length: number): number {
    let entry = 0;
    for (let k = 0; k < 2 * length; k++) {
      const byte = bytes[at + (k >> 1)];
      const half = k & 1 ? byte & 15 : byte >> 4;
      if (k === 0) entry = half;
      else {
        let next = this.nodes[entry];
        if (next < 0) return NONE;
        if (next === 0) {
          next = this.newNode();
          this.nodes[entry] = next;
        }
        entry = next * NODE_ENTRIES + half;
      }
    }
    return this.nodes[entry] === 0 ? entry : NONE;
  }
  private newNode(): number {
    if ((this.nodeCount + 1) * NODE_ENTRIES > this.nodes.length) this.nodes = doubled(this.nodes);
    return this.nodeCount++;
  }

  /**
   * Writes the record of the instruction at `page[place]`.
   * @returns false if its numbers do not fit the template's shape
   */
  write(template: RecordTemplate, page: Uint8Array, place: number, view: DataView, at: number): boolean {
    const t = template * TEMPLATE_WORDS;
    const { templates } = this;
    const shape = templates[t + SHAPE];
    const lengthBytes = shape & 15;
    const numbersAt = place + ((shape >> Shape.fixed) & 15);
    const dispBytes = (shape >> Shape.disp) & 15;
    const immBytes = (shape >> Shape.imm) & 15;
    let third = templates[t + 2];
    let fourth = templates[t + 3];
    let flags = 0;
    if (shape & Shape.relative) {
      const target = place + lengthBytes + signed(page, numbersAt, immBytes);
      flags = target >= 0 && target < 4096 ? 0 : 1 << 13;
      third = target;
      fourth = 0;
    } else {
      if (shape & Shape.ripRelative) {
        const sum = signed(page, numbersAt, dispBytes) + place + lengthBytes;
        third = sum | 0;
        if (third !== sum) return false;
      } else if (dispBytes > 0) third = signed(page, numbersAt, dispBytes);
      if (immBytes > 0) fourth = signed(page, numbersAt + dispBytes, immBytes);
    }
    const second = (templates[t + 1] & ~(PLACE_MASK << 16)) | ((place | flags) << 16);
    view.setInt32(at, templates[t], true);
    view.setInt32(at + 4, second, true);
    view.setInt32(at + 8, third, true);
    view.setInt32(at + 12, fourth, true);
    return true;
  }
}

const PLACE_MASK = 0x3fff;

function doubled(words: Int32Array): Int32Array<ArrayBuffer> {
  const bigger = new Int32Array(words.length * 2);
  bigger.set(words);
  return bigger;
}

/** A little-endian signed number of 0, 1, 2 or 4 bytes. */
function signed(bytes: Uint8Array, at: number, size: number): number {
  if (size === 0) return 0;
  if (size === 1) return (bytes[at] << 24) >> 24;
  if (size === 2) return ((bytes[at] << 16) | (bytes[at + 1] << 24)) >> 16;
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}
