import type { Decoded } from "../decode/decoded.ts";
import { Slot } from "../state/layout.ts";
import { Field } from "./record.ts";

/** What a record is like whatever numbers its instruction has in it. */
export interface RecordTemplate {
  readonly lengthBytes: number;
  readonly fixedBytes: number;
  readonly dispBytes: number;
  readonly immBytes: number;
  /** A record of the kind, as four words. */
  readonly words: readonly [number, number, number, number];
  readonly target: "none" | "relative";
  readonly ripRelative: boolean;
  readonly ends: boolean;
}

const NODE_ENTRIES = 256;

/**
 * Records of instructions that differ only in displacement and immediate are alike in everything else. They are found by the bytes
 * that choose the rest, through a tree with a level for each byte: no instruction's bytes begin another's.
 */
export class RecordTemplates {
  private readonly templates: RecordTemplate[] = [];
  /** Nodes of 256 entries: 0 nothing, n > 0 the node n, −1 − k the template k. */
  private nodes = new Int32Array(64 * NODE_ENTRIES);
  private nodeCount = 1;

  /** The template of the instruction at `bytes[at]`, if one like it was met and all of it lies before `end`. */
  find(bytes: Uint8Array, at: number, end: number): RecordTemplate | undefined {
    const { nodes } = this;
    let node = 0;
    for (let k = at; k < end; k++) {
      const next = nodes[node * NODE_ENTRIES + bytes[k]];
      if (next === 0) return undefined;
      if (next < 0) {
        const found = this.templates[-1 - next];
        return at + found.lengthBytes <= end ? found : undefined;
      }
      node = next;
    }
    return undefined;
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
    const word = (field: number) => view.getInt32(record + field, true);
    this.enter(bytes, at, d.fixedBytes, {
      lengthBytes: d.lengthBytes,
      fixedBytes: d.fixedBytes,
      dispBytes: d.dispBytes,
      immBytes,
      words: [word(0), word(4), word(8), word(12)],
      target: relative ? "relative" : "none",
      ripRelative: view.getUint8(record + Field.base) === Slot.pageVa,
      ends: d.def.ends,
    });
  }

  private enter(bytes: Uint8Array, at: number, length: number, template: RecordTemplate): void {
    let node = 0;
    for (let k = 0; k < length - 1; k++) {
      const entry = node * NODE_ENTRIES + bytes[at + k];
      let next = this.nodes[entry];
      if (next < 0) return;
      if (next === 0) {
        next = this.newNode();
        this.nodes[entry] = next;
      }
      node = next;
    }
    const entry = node * NODE_ENTRIES + bytes[at + length - 1];
    if (this.nodes[entry] === 0) this.nodes[entry] = -this.templates.push(template);
  }
  private newNode(): number {
    if ((this.nodeCount + 1) * NODE_ENTRIES > this.nodes.length) {
      const bigger = new Int32Array(this.nodes.length * 2);
      bigger.set(this.nodes);
      this.nodes = bigger;
    }
    return this.nodeCount++;
  }
}

/** A little-endian signed number of 0, 1, 2 or 4 bytes. */
function signed(bytes: Uint8Array, at: number, size: number): number {
  if (size === 0) return 0;
  if (size === 1) return (bytes[at] << 24) >> 24;
  if (size === 2) return ((bytes[at] << 16) | (bytes[at + 1] << 24)) >> 16;
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}

const PLACE_MASK = 0x3fff;

/**
 * Writes the record of the instruction at `page[place]`.
 * @returns false if its numbers do not fit the template's shape
 */
export function writeFromTemplate(
  t: RecordTemplate,
  page: Uint8Array,
  place: number,
  view: DataView,
  at: number,
): boolean {
  let [first, second, third, fourth] = t.words;
  let flags = 0;
  if (t.target === "relative") {
    const target = place + t.lengthBytes + signed(page, place + t.fixedBytes, t.immBytes);
    flags = target >= 0 && target < 4096 ? 0 : 1 << 13;
    third = target;
    fourth = 0;
  } else {
    if (t.ripRelative) {
      const sum = signed(page, place + t.fixedBytes, t.dispBytes) + place + t.lengthBytes;
      third = sum | 0;
      if (third !== sum) return false;
    } else if (t.dispBytes > 0) third = signed(page, place + t.fixedBytes, t.dispBytes);
    if (t.immBytes > 0) fourth = signed(page, place + t.fixedBytes + t.dispBytes, t.immBytes);
  }
  second = (second & ~(PLACE_MASK << 16)) | ((place | flags) << 16);
  view.setInt32(at, first, true);
  view.setInt32(at + 4, second, true);
  view.setInt32(at + 8, third, true);
  view.setInt32(at + 12, fourth, true);
  return true;
}
