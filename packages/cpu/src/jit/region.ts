import type { Decoded } from "../decode/decoded.ts";
import { type Decoder, NEED_MORE_BYTES } from "../decode/decoder.ts";
import { CodeMode } from "../state/layout.ts";

/**
 * Places in a region are byte offsets from the start of the page that it is entered in; they may be negative or beyond that
 * page. A region belongs to the frames of its pages, not to an address.
 */
export type Place = number;

/** Where a region's code is read from. */
export interface CodeSource {
  /** The bytes of a page by its distance from the entry's, undefined if it is not mapped for execution. */
  page(distance: number): Uint8Array | undefined;
  /** Whether control is known to have arrived at a place; what never ran is not worth translating. */
  wasReached(place: Place): boolean;
  /** Whether another region has the code at a place, and is to go on there. */
  isTaken(place: Place): boolean;
}

/** One instruction of a region and where it lies. */
export interface PlacedInstruction {
  readonly d: Decoded;
  readonly place: Place;
}

/** A straight run of instructions, entered at its first only. */
export interface Block {
  readonly start: Place;
  /** Place behind the last instruction. */
  readonly end: Place;
  readonly instructions: readonly PlacedInstruction[];
  /** Target of the last instruction if that is a direct jump or call, otherwise undefined. */
  readonly target: Place | undefined;
  readonly endsIn: "jump" | "call" | "return" | "other";
  /** Whether control can go on behind the last instruction. */
  readonly fallsThrough: boolean;
}

/** Basic blocks that are translated together; a block comes before those it leads to, but for loops. */
export interface Region {
  /**
   * Starts of blocks at which control may arrive from outside. The first is the first block's; the others are where calls return
   * to, where loops begin, and what is called: control comes to such places other than by this region's own jumps.
   */
  readonly entries: readonly Place[];
  readonly blocks: readonly Block[];
  /** Where a block that returns may go on within the region. */
  readonly returns: ReadonlyMap<Block, readonly Place[]>;
}

const MAX_INSTRUCTIONS = 240;
const MAX_BLOCKS = 64;
const MAX_ENTRIES = 32;
/** Pages on either side of the entry's that a region may reach. */
const MAX_DISTANCE = 1 << 18;
/** Comparisons of a return address that are worth their while. */
const MAX_RETURNS = 3;
/** Bytes of the longest instruction, and one more. */
const LONGEST = 16;
const CODE_MODE = CodeMode.code64 | CodeMode.stack32 | CodeMode.flat;

/** What has no semantics that emit code is left to the interpreter: control leaves the region in front of it. */
const isTranslatable = (d: Decoded): boolean => d.def.semantics !== undefined && d.def.name !== "ENTER";

const isDirect = (d: Decoded): boolean => d.operands[0]?.kind === "rel";
const isConditional = (d: Decoded): boolean => isDirect(d) && !d.def.ends;
const isCall = (d: Decoded): boolean => d.def.name === "CALL" || d.def.name === "CALL indirect";
const targetOf = ({ d, place }: PlacedInstruction): Place => place + d.lengthBytes + d.immLo;

/** Decodes instructions of a region, each once. */
class Scanner {
  private readonly source: CodeSource;
  private readonly decoder: Decoder;
  private readonly decoded = new Map<Place, Decoded | undefined>();

  constructor(source: CodeSource, decoder: Decoder) {
    this.source = source;
    this.decoder = decoder;
  }
  /** The instruction at a place if it can be translated. */
  at(place: Place): Decoded | undefined {
    if (this.decoded.has(place)) return this.decoded.get(place);
    const d = this.decode(place);
    this.decoded.set(place, d);
    return d;
  }
  private decode(place: Place): Decoded | undefined {
    const distance = Math.floor(place / 4096);
    if (Math.abs(distance) > MAX_DISTANCE) return undefined;
    const offset = place - distance * 4096;
    const page = this.source.page(distance);
    if (!page) return undefined;
    let d = this.decodeIn(page, offset);
    if (d === "more") {
      const next = this.source.page(distance + 1);
      if (!next) return undefined;
      const both = new Uint8Array(2 * LONGEST);
      both.set(page.subarray(4096 - LONGEST));
      both.set(next.subarray(0, LONGEST), LONGEST);
      d = this.decodeIn(both, offset - (4096 - LONGEST));
    }
    return typeof d === "object" && isTranslatable(d) ? d : undefined;
  }
  private decodeIn(bytes: Uint8Array, offset: number): Decoded | "more" | undefined {
    try {
      return this.decoder.decode(bytes, offset, bytes.length, CODE_MODE);
    } catch (thrown) {
      if (thrown === NEED_MORE_BYTES) return "more";
      if (thrown instanceof RangeError) return undefined;
      throw thrown;
    }
  }
  /** Whether a jump to a place may be followed. */
  follows(place: Place): boolean {
    return this.source.wasReached(place) && this.at(place) !== undefined && !this.source.isTaken(place);
  }
  /** The instruction at a place if straight code may go on with it. */
  after(place: Place): Decoded | undefined {
    return this.source.isTaken(place) ? undefined : this.at(place);
  }
}

/**
 * Finds the blocks that are reached from an entry by direct jumps, calls and falling through, breadth first.
 * @param entry offset in its page
 * @returns undefined if the entry cannot be translated
 */
export function findRegion(source: CodeSource, entry: Place, decoder: Decoder): Region | undefined {
  const scanner = new Scanner(source, decoder);
  if (!scanner.at(entry)) return undefined;
  const leaders = collectLeaders(scanner, entry);
  const byStart = new Map([...leaders].map((start) => [start, cutBlock(scanner, start, leaders)]));
  const returns = findReturns(byStart);
  const blocks = reversePostorder(entry, byStart, returns);
  return { entries: entriesOf(blocks, scanner), blocks, returns };
}

/** Where control is likely to arrive from outside. */
function entriesOf(blocks: readonly Block[], scanner: Scanner): Place[] {
  const indexOf = new Map(blocks.map(({ start }, index) => [start, index]));
  const others = new Set<Place>();
  blocks.forEach(({ target, endsIn, end }, index) => {
    const to = target === undefined ? undefined : indexOf.get(target);
    if (to !== undefined && (endsIn === "call" || to <= index)) others.add(target!);
    if (endsIn === "call" && indexOf.has(end)) others.add(end);
  });
  const entry = blocks[0].start;
  others.delete(entry);
  return [entry, ...[...others].filter((place) => scanner.follows(place))].slice(0, MAX_ENTRIES);
}

/** Places at which blocks start. */
function collectLeaders(scanner: Scanner, entry: Place): Set<Place> {
  const leaders = new Set([entry]);
  const queue = [entry];
  const seen = new Set<Place>();
  const lead = (place: Place): void => {
    if (leaders.has(place) || leaders.size >= MAX_BLOCKS || !scanner.after(place)) return;
    leaders.add(place);
    queue.push(place);
  };
  for (let k = 0; k < queue.length; k++) {
    let d = scanner.at(queue[k]);
    for (let at = queue[k]; d && !seen.has(at) && seen.size < MAX_INSTRUCTIONS; ) {
      seen.add(at);
      const next = at + d.lengthBytes;
      const target = isDirect(d) ? targetOf({ d, place: at }) : undefined;
      const followed = target !== undefined && scanner.follows(target);
      if (isConditional(d)) lead(next);
      if (followed) lead(target);
      if (isCall(d) && (followed || scanner.follows(next))) lead(next);
      if (d.def.ends || isConditional(d)) break;
      at = next;
      d = scanner.after(at);
    }
  }
  return leaders;
}

function cutBlock(scanner: Scanner, start: Place, leaders: ReadonlySet<Place>): Block {
  const instructions: PlacedInstruction[] = [];
  let at = start;
  for (let d = scanner.at(at); d && instructions.length < MAX_INSTRUCTIONS; d = scanner.after(at)) {
    const last = { d, place: at };
    instructions.push(last);
    at += d.lengthBytes;
    if (d.def.ends || isDirect(d)) {
      const target = isDirect(d) ? targetOf(last) : undefined;
      return { start, end: at, instructions, target, endsIn: kindOfEnd(d), fallsThrough: !d.def.ends };
    }
    if (leaders.has(at)) break;
  }
  return { start, end: at, instructions, target: undefined, endsIn: "other", fallsThrough: true };
}
function kindOfEnd(d: Decoded): Block["endsIn"] {
  if (isCall(d)) return "call";
  if (isDirect(d)) return "jump";
  return d.def.name.startsWith("RET") ? "return" : "other";
}

/** For each function called within the region, the blocks that return from it go on behind its calls. */
function findReturns(byStart: ReadonlyMap<Place, Block>): Map<Block, Place[]> {
  const returns = new Map<Block, Place[]>();
  const behind = new Map<Place, Place[]>();
  for (const block of byStart.values()) {
    if (block.endsIn !== "call" || !byStart.has(block.target!) || !byStart.has(block.end)) continue;
    behind.set(block.target!, [...(behind.get(block.target!) ?? []), block.end]);
  }
  for (const [callee, places] of behind) {
    for (const block of blocksOf(callee, byStart)) {
      if (block.endsIn !== "return") continue;
      const all = new Set([...(returns.get(block) ?? []), ...places]);
      returns.set(block, [...all].slice(0, MAX_RETURNS));
    }
  }
  return returns;
}

/** Blocks of the function that starts at a place; its calls are stepped over. */
function blocksOf(callee: Place, byStart: ReadonlyMap<Place, Block>): Set<Block> {
  const found = new Set<Block>();
  const queue = [callee];
  for (let k = 0; k < queue.length; k++) {
    const block = byStart.get(queue[k]);
    if (!block || found.has(block)) continue;
    found.add(block);
    if (block.target !== undefined && block.endsIn !== "call") queue.push(block.target);
    if (block.fallsThrough || block.endsIn === "call") queue.push(block.end);
  }
  return found;
}

/** Blocks reached from the entry; where it can be, the block that another falls through to comes right behind it. */
function reversePostorder(
  entry: Place,
  byStart: ReadonlyMap<Place, Block>,
  returns: ReadonlyMap<Block, readonly Place[]>,
): Block[] {
  const order: Block[] = [];
  const visited = new Set<Place>();
  const visit = (start: Place): void => {
    const block = byStart.get(start);
    if (!block || visited.has(start)) return;
    visited.add(start);
    for (const place of returns.get(block) ?? []) visit(place);
    // Whoever is called may leave the region and return to it.
    if (block.endsIn === "call") visit(block.end);
    if (block.target !== undefined) visit(block.target);
    if (block.fallsThrough) visit(block.end);
    order.push(block);
  };
  visit(entry);
  return order.reverse();
}

const STRING = /^(MOVS|STOS|LODS|CMPS|SCAS)( wide)?$/;
/** True for an instruction that repeats itself: its registers change between its accesses. */
export const isRepeated = (d: Decoded): boolean => d.rep !== 0 && STRING.test(d.def.name);

/** General registers that an instruction may write, as far as its encoding tells; a guess is good enough. */
export function likelyWritten(d: Decoded): number[] {
  const { name } = d.def;
  if (STRING.test(name)) return [0, 1, 6, 7];
  const first = d.operands[0];
  const written = first?.kind === "gpr" && !/^(CMP|TEST|BT|PUSH)$/.test(name) ? [first.reg] : [];
  const second = d.operands[1];
  if (/^(XCHG|XADD)/.test(name) && second?.kind === "gpr") written.push(second.reg);
  if (/^(MUL|IMUL|DIV|IDIV|CWD|CMPXCHG)/.test(name)) written.push(0, 2);
  if (/^(PUSH|POP|CALL|RET|LEAVE)/.test(name)) written.push(4);
  return written;
}

/** The same of those that it may read or write. */
export function likelyUsed(d: Decoded): number[] {
  const read = d.operands.flatMap((operand) => (operand.kind === "gpr" ? [operand.reg] : []));
  const { memory } = d;
  if (memory) read.push(...[memory.base, memory.index].filter((reg) => reg >= 0));
  if (/^(MUL|IMUL|DIV|IDIV|CWD|CBW|CMPXCHG)/.test(d.def.name)) read.push(0, 2);
  return [...read, ...likelyWritten(d)];
}
