import { type Fn, type I32, type I64, i32 } from "@xenoserver/wasm";
import {
  CODE_GRANULE_BYTES,
  CODE_NODES,
  CODE_NODES_OFFSET,
  CODE_PAGES,
  CODE_PAGES_OFFSET,
  CodeNode,
  Itlb,
  JUMP_CACHE_BITS,
  JUMP_CACHE_BYTES,
  JUMP_CACHE_OFFSET,
  JumpCache,
  PAGE_HEADS_BYTES,
} from "../state/layout.ts";
import { Builtin, Field } from "./record.ts";

/** Host address of the heads of a page with code: for each granule of it the first of its nodes, 0 if there is none. */
export type Heads = number & { readonly __brand: "Heads" };
/** Names an offset of a page with code, among all of the domain's: no other page's numbers are near. */
export type CodeKey = number & { readonly __brand: "CodeKey" };

const GRANULE_SHIFT = Math.log2(CODE_GRANULE_BYTES);
const OFFSET_BITS = 12;
const KEY_SHIFT = OFFSET_BITS - Math.log2(PAGE_HEADS_BYTES);
/** Whoever looks from another thread may meet nodes that are being changed. */
const MAX_STEPS = 64;

export const codeKey = (heads: Heads, offset: number): CodeKey => ((heads << KEY_SHIFT) | offset) as CodeKey;
export const isSamePage = (a: CodeKey, b: CodeKey): boolean => a >>> OFFSET_BITS === b >>> OFFSET_BITS;
const headsOf = (key: CodeKey): Heads => ((key >>> OFFSET_BITS) * PAGE_HEADS_BYTES) as Heads;
const offsetOf = (key: CodeKey): number => key & ((1 << OFFSET_BITS) - 1);
const headWord = (heads: Heads, offset: number): number => (heads >>> 2) + (offset >>> GRANULE_SHIFT);
const nodeWord = (vb: number, node: number): number => (vb + CODE_NODES_OFFSET + node * CodeNode.bytes) >>> 2;

/** The record of the trace that starts at an offset of a page, 0 if there is none. */
export function findRecord(words: Int32Array, vb: number, heads: Heads, offset: number): number {
  let node = words[headWord(heads, offset)];
  for (let steps = 0; node !== 0 && steps < MAX_STEPS; steps++) {
    const at = nodeWord(vb, node);
    const link = words[at + CodeNode.link / 4];
    if ((link & ((1 << OFFSET_BITS) - 1)) === offset) return words[at + CodeNode.record / 4];
    node = link >>> OFFSET_BITS;
  }
  return 0;
}

/**
 * Where a vcpu finds the traces that it has decoded: pages with code, and for each granule of such a page a list of the offsets at
 * which traces start. In front of it stands a small cache of what was found lately, for most look-ups go to few places.
 */
export class CodeIndex {
  readonly #words: Int32Array;
  readonly #vb: number;
  #pages = 0;
  #nodes = 1;
  #freeNode = 0;
  /** Memory that nobody used yet is zero, and stays the host's until it is used. */
  #isFresh = true;

  constructor(words: Int32Array, vb: number) {
    this.#words = words;
    this.#vb = vb;
  }

  /** Heads for one more page; undefined if there are none left. */
  addPage(): Heads | undefined {
    if (this.#pages === CODE_PAGES) return undefined;
    const heads = this.#vb + CODE_PAGES_OFFSET + this.#pages++ * PAGE_HEADS_BYTES;
    if (!this.#isFresh) this.#words.fill(0, heads >>> 2, (heads + PAGE_HEADS_BYTES) >>> 2);
    return heads as Heads;
  }

  /** Whether another trace can be entered. */
  get hasRoom(): boolean {
    return this.#freeNode !== 0 || this.#nodes < CODE_NODES;
  }

  find(heads: Heads, offset: number): number {
    return findRecord(this.#words, this.#vb, heads, offset);
  }

  /** Only while there is room, and where nothing is entered. */
  enter(heads: Heads, offset: number, record: number): void {
    const words = this.#words;
    const head = headWord(heads, offset);
    const node = this.#takeNode();
    const at = nodeWord(this.#vb, node);
    words[at + CodeNode.record / 4] = record;
    words[at + CodeNode.link / 4] = (words[head] << OFFSET_BITS) | offset;
    words[head] = node;
  }
  #takeNode(): number {
    const node = this.#freeNode;
    if (node === 0) return this.#nodes++;
    this.#freeNode = this.#words[nodeWord(this.#vb, node) + CodeNode.link / 4] >>> OFFSET_BITS;
    return node;
  }

  /** Forgets what is entered there, if anything is. */
  remove(key: CodeKey): void {
    const words = this.#words;
    const offset = offsetOf(key);
    const head = headWord(headsOf(key), offset);
    let before = -1;
    for (let node = words[head]; node !== 0; ) {
      const link = nodeWord(this.#vb, node) + CodeNode.link / 4;
      const next = words[link] >>> OFFSET_BITS;
      if ((words[link] & ((1 << OFFSET_BITS) - 1)) === offset) {
        if (before < 0) words[head] = next;
        else words[before] = (next << OFFSET_BITS) | (words[before] & ((1 << OFFSET_BITS) - 1));
        words[link] = this.#freeNode << OFFSET_BITS;
        this.#freeNode = node;
        return;
      }
      before = link;
      node = next;
    }
  }

  /** Forgets everything. */
  reset(): void {
    const cache = (this.#vb + JUMP_CACHE_OFFSET) >>> 2;
    this.#words.fill(0, cache, cache + JUMP_CACHE_BYTES / 4);
    this.#pages = 0;
    this.#nodes = 1;
    this.#freeNode = 0;
    this.#isFresh = false;
  }
}

/** Neighbours of the same sixteen bytes of code share a line of the host's cache. */
const CACHE_UNIT_BITS = 2;

/** What control looks up: an address, the page that it lies in, and the page's entry in the ITLB, which may be another page's. */
export interface SoughtCode {
  readonly target: I64;
  readonly page: I64;
  readonly itlbEntry: I32;
}

/**
 * Emits the look-up of a linear address in the cache.
 * @returns the record there, which is known to be right if `isKnown`; and the entry's address
 */
export function emitFindCached(f: Fn, vb: I32, { target, page, itlbEntry }: SoughtCode) {
  const low = f.let(target.wrap());
  const hash = low.shrU(CACHE_UNIT_BITS).xor(low.shrU(CACHE_UNIT_BITS + JUMP_CACHE_BITS));
  const entry = f.let(
    hash
      .and((1 << JUMP_CACHE_BITS) - 1)
      .mul(i32(JumpCache.bytes))
      .add(vb),
  );
  const field = (at: number): I32 => f.load<"i32">("i32.load", entry, JUMP_CACHE_OFFSET + at);
  const record = f.let(field(JumpCache.record));
  const isKnown = f
    .load<"i64">("i64.load", entry, JUMP_CACHE_OFFSET + JumpCache.address)
    .eq(target)
    .and(f.load<"i64">("i64.load", itlbEntry, Itlb.tag).eq(page))
    .and(f.load<"i32">("i32.load", itlbEntry, Itlb.heads).eq(field(JumpCache.heads)))
    // What was overwritten is to be looked for anew, and not where it was.
    .and(f.load<"i32">("i32.load16_u", record, Field.handler).ne(Builtin.relook));
  return { entry, record, isKnown };
}

/** Emits that an address leads to a record. @param entry  as of `emitFindCached` */
export function emitNoteCached(f: Fn, entry: I32, target: I64, record: I32, heads: I32): void {
  f.store("i64.store", entry, target, JUMP_CACHE_OFFSET + JumpCache.address);
  f.store("i32.store", entry, record, JUMP_CACHE_OFFSET + JumpCache.record);
  f.store("i32.store", entry, heads, JUMP_CACHE_OFFSET + JumpCache.heads);
}

/** Emits the look-up of an offset of a page by its heads; 0 if no trace starts there. */
export function emitFindRecord(f: Fn, vb: I32, heads: I32, offset: I32): I32 {
  const found = f.var("i32", i32(0));
  const node = f.var("i32", f.load("i32.load", heads.add(offset.shrU(GRANULE_SHIFT).shl(2))));
  f.block((end) =>
    f.loop((again) => {
      f.brIf(end, node.get().eqz());
      const at = f.let(node.get().mul(i32(CodeNode.bytes)).add(vb));
      const link = f.let(f.load<"i32">("i32.load", at, CODE_NODES_OFFSET + CodeNode.link));
      f.if(link.and((1 << OFFSET_BITS) - 1).eq(offset), () => {
        found.set(f.load("i32.load", at, CODE_NODES_OFFSET + CodeNode.record));
        f.br(end);
      });
      node.set(link.shrU(OFFSET_BITS));
      f.br(again);
    }),
  );
  return found.get();
}
