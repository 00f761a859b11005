import type { Decoded } from "../decode/decoded.ts";
import { type Decoder, NEED_MORE_BYTES } from "../decode/decoder.ts";
import { CodeMode } from "../state/layout.ts";

/** One instruction of a region and where it lies in its page. */
export interface PlacedInstruction {
  readonly d: Decoded;
  readonly offset: number;
}

/** A straight run of instructions, entered at its first only. */
export interface Block {
  readonly start: number;
  /** Offset of the byte behind the last instruction. */
  readonly end: number;
  readonly instructions: readonly PlacedInstruction[];
  /** Target of the last instruction if that is a direct jump within the page, otherwise −1. */
  readonly target: number;
  /** Whether control can go on behind the last instruction. */
  readonly fallsThrough: boolean;
}

/** Basic blocks of one page that are translated together, the entry first; a block comes before those it leads to, but for loops. */
export interface Region {
  readonly blocks: readonly Block[];
}

const MAX_INSTRUCTIONS = 300;
const MAX_BLOCKS = 64;
const CODE_MODE = CodeMode.code64 | CodeMode.stack32 | CodeMode.flat;

/** An instruction that the translator leaves to the interpreter: control leaves the region in front of it. */
export function isTranslatable(d: Decoded): boolean {
  if (!d.def.semantics) return false;
  return !LEFT_TO_INTERPRETER.test(d.def.name);
}
/** Long semantics whose speed is not in their dispatch. */
const LEFT_TO_INTERPRETER = /^(F[A-Z0-9 ]|PCMP.STR.$|CRC32$|PCLMULQDQ$|CMPXCHG16B$|ENTER$)/;

/**
 * Whether a region is worth its entry and exit, which load and store registers: if it loops, or if it is long.
 */
export function isWorthwhile(region: Region): boolean {
  const seen = new Set<number>();
  for (const block of region.blocks) {
    seen.add(block.start);
    if (seen.has(block.target) || (block.fallsThrough && seen.has(block.end))) return true;
  }
  return region.blocks[0].instructions.length >= LONG_BLOCK;
}
const LONG_BLOCK = 24;

const isConditional = (d: Decoded): boolean => d.operands[0]?.kind === "rel" && !d.def.ends;
const isCall = (d: Decoded): boolean => d.def.name === "CALL";

interface Scan {
  readonly page: Uint8Array;
  readonly decoder: Decoder;
  readonly decoded: Map<number, Decoded | undefined>;
}

function decodeAt(scan: Scan, offset: number): Decoded | undefined {
  if (scan.decoded.has(offset)) return scan.decoded.get(offset);
  let d: Decoded | undefined;
  try {
    d = scan.decoder.decode(scan.page, offset, 4096, CODE_MODE);
  } catch (thrown) {
    if (thrown !== NEED_MORE_BYTES && !(thrown instanceof RangeError)) throw thrown;
  }
  if (d && !isTranslatable(d)) d = undefined;
  scan.decoded.set(offset, d);
  return d;
}

const targetOf = (d: Decoded, offset: number): number => {
  const target = offset + d.lengthBytes + d.immLo;
  return target >= 0 && target < 4096 ? target : -1;
};

/**
 * Finds the blocks that are reached from an entry by direct jumps and by falling through, within one page.
 * @returns undefined if the entry cannot be translated
 */
export function findRegion(page: Uint8Array, entry: number, decoder: Decoder): Region | undefined {
  const scan: Scan = { page, decoder, decoded: new Map() };
  if (!decodeAt(scan, entry)) return undefined;
  const leaders = collectLeaders(scan, entry);
  const blocks = [...leaders].sort((a, b) => a - b).map((start) => cutBlock(scan, start, leaders));
  const byStart = new Map(blocks.filter((b) => b.instructions.length > 0).map((b) => [b.start, b]));
  return { blocks: reversePostorder(entry, byStart) };
}

/** Blocks reached from the entry; where it can be, the block that another falls through to comes right behind it. */
function reversePostorder(entry: number, byStart: ReadonlyMap<number, Block>): Block[] {
  const order: Block[] = [];
  const visited = new Set<number>();
  const visit = (start: number): void => {
    const block = byStart.get(start);
    if (!block || visited.has(start)) return;
    visited.add(start);
    if (block.target >= 0) visit(block.target);
    if (block.fallsThrough) visit(block.end);
    order.push(block);
  };
  visit(entry);
  return order.reverse();
}

/** Offsets at which blocks start, breadth first until the limits are reached. */
function collectLeaders(scan: Scan, entry: number): Set<number> {
  const leaders = new Set([entry]);
  const queue = [entry];
  const seen = new Set<number>();
  while (queue.length) {
    let at = queue.shift()!;
    while (at < 4096 && !seen.has(at) && seen.size < MAX_INSTRUCTIONS) {
      const d = decodeAt(scan, at);
      if (!d) break;
      seen.add(at);
      const next = at + d.lengthBytes;
      const conditional = isConditional(d);
      if (d.operands[0]?.kind === "rel" && !isCall(d)) {
        const target = targetOf(d, at);
        if (target >= 0 && leaders.size < MAX_BLOCKS && decodeAt(scan, target)) {
          if (!leaders.has(target)) queue.push(target);
          leaders.add(target);
        }
      }
      if (d.def.ends) break;
      if (conditional && next < 4096 && leaders.size < MAX_BLOCKS) {
        if (!leaders.has(next)) queue.push(next);
        leaders.add(next);
        break;
      }
      at = next;
    }
  }
  return leaders;
}

function cutBlock(scan: Scan, start: number, leaders: ReadonlySet<number>): Block {
  const instructions: PlacedInstruction[] = [];
  let at = start;
  while (at < 4096 && instructions.length < MAX_INSTRUCTIONS) {
    const d = decodeAt(scan, at);
    if (!d) break;
    instructions.push({ d, offset: at });
    at += d.lengthBytes;
    const relative = d.operands[0]?.kind === "rel";
    if (d.def.ends || relative) {
      const target = relative && !isCall(d) ? targetOf(d, instructions.at(-1)!.offset) : -1;
      return { start, end: at, instructions, target, fallsThrough: !d.def.ends };
    }
    if (leaders.has(at)) break;
  }
  return { start, end: at, instructions, target: -1, fallsThrough: true };
}
