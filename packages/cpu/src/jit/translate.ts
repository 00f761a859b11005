import { type Callee, type Fn, type I32, type I64, i32, i64, type Label, type ModuleBuilder } from "@xenoserver/wasm";
import { ARRIVAL_BITS, REGION_SIGNATURE, RegionStatus } from "../interp/record.ts";
import { emitFindRegion } from "../mmu/region-cache.ts";
import type { Helpers } from "../semantics/ops.ts";
import { Slot, State } from "../state/layout.ts";
import { groupAccesses } from "./access-groups.ts";
import { deadFlags } from "./dead-flags.ts";
import type { Exits } from "./exits.ts";
import { JitOps, type LoopRegisters } from "./jit-ops.ts";
import { type FlagKind, MEMORY, sameKind } from "./lazy-flags.ts";
import { type Block, likelyUsed, likelyWritten, type Place, type Region } from "./region.ts";

/** Blocks `from` to `to` (indices, inclusive): one block, or a loop around several. */
interface Item {
  readonly from: number;
  readonly to: number;
  readonly isLoop: boolean;
}

/** Parameter: the arrival; then the number of the entry that control is on its way to, 0 once it is there. */
const ARRIVING = 1;

/** Emits one region as a function (vb, number of the entry) → `RegionStatus`. */
class RegionTranslator {
  readonly func: ReturnType<ModuleBuilder["func"]>;
  private readonly f: Fn;
  private readonly ops: JitOps;
  private readonly region: Region;
  private readonly regionType: number;
  private readonly indexOf = new Map<Place, number>();
  /** Labels that a forward jump to a block can use, and those that repeat a loop from its head. */
  private readonly forward = new Map<number, Label>();
  private readonly backward = new Map<number, Label>();
  /** What the flags are when control arrives at a block, as far as jumps to it were emitted. */
  private readonly kinds = new Map<number, FlagKind>();
  private readonly loops: Item[];
  /** By index of a block: the number of the entry there. The first entry is not among them. */
  private readonly entryAt = new Map<number, number>();
  private readonly exits: Exits;
  private current = 0;

  constructor(m: ModuleBuilder, helpers: Helpers, region: Region) {
    this.regionType = m.type(REGION_SIGNATURE);
    this.func = m.func(REGION_SIGNATURE.params, REGION_SIGNATURE.results);
    this.f = this.func.fn;
    this.region = region;
    region.blocks.forEach((block, index) => this.indexOf.set(block.start, index));
    this.loops = findLoops(region, this.indexOf, true);
    region.entries.forEach((place, number) => {
      if (number > 0) this.entryAt.set(this.indexOf.get(place)!, number);
    });
    this.exits = {
      leave: { level: 2 },
      leaveAny: { level: 3 },
      interpret: { level: 4 },
      target: this.f.var("i64"),
      status: this.f.var("i32"),
      place: this.f.var("i32"),
      branch: (condition) => this.branch(condition),
      indirect: (ip) => this.indirect(ip),
    };
    this.ops = new JitOps(this.f, helpers, this.exits, registersOfLoops(region, this.indexOf));
  }

  emit(): void {
    const { f, ops, exits } = this;
    for (const place of this.region.entries) this.kinds.set(this.indexOf.get(place)!, MEMORY);
    f.block((chain) => {
      f.block(() => {
        f.block(() => {
          f.block(() => {
            this.emitItems(this.itemsOf(0, this.region.blocks.length - 1, undefined));
            f.unreachable();
          });
          exits.status.set(i32(RegionStatus.interpret));
        });
        this.leaveAny(chain);
      });
      ops.storeState();
    });
    this.chain();
    f.prepend(() => {
      ops.loadState(this.pageOfEntry());
    });
  }

  /** Address of the page that places count from. `Slot.rip` is an entry's. */
  private pageOfEntry(): I64 {
    const { f } = this;
    const { entries } = this.region;
    const rip = f.load<"i64">("i64.load", f.param(0), Slot.rip);
    if (entries.length === 1) return rip.sub(entries[0]);
    const page = rip.and(i64(-4096));
    if (entries.every((place) => place >= 0 && place < 4096)) return page;
    const arrival = f.param<"i32">(ARRIVING);
    const first = f.let(page.sub(arrival.shrS(ARRIVAL_BITS).extS().shl(12)));
    f.setLocal(ARRIVING, arrival.and((1 << ARRIVAL_BITS) - 1));
    return first;
  }

  /**
   * Goes on at `target`: in the region that starts there, in this one's place, if the limit is not reached; otherwise by way of
   * the dispatch loop.
   */
  private chain(): void {
    const { f, ops } = this;
    const vb = f.param<"i32">(0);
    const target = this.exits.target.get();
    // Loaded before the store: what is compared behind it V8 cannot take for an operand in memory, which it would load twice.
    const limit = f.let(f.load<"i32">("i32.load", vb, State.instructionLimit));
    const found = emitFindRegion(f, vb, target);
    const address = f.let(found.address);
    f.store("i64.store", vb, target, Slot.rip);
    f.block((toLoop) => {
      f.brIf(toLoop, ops.count.get().geU(limit), false);
      f.brIf(toLoop, address.ne(target), false);
      f.returnCallIndirect(this.regionType, 0, found.place, vb, found.arrival);
    });
    f.return(i32(RegionStatus.redirect));
    f.unreachable();
  }

  /** The way out for all that is rare, once for all of the region: what it calls makes the flags. */
  private leaveAny(chain: Label): void {
    const { f, ops, exits } = this;
    ops.storeState();
    ops.storeAnyFlags();
    f.brIf(chain, exits.status.get().eq(RegionStatus.redirect));
    f.store("i64.store", f.param<"i32">(0), ops.addressOf(0).add(exits.place.get().extS()), Slot.rip);
    f.return(exits.status.get());
  }

  /** Splits a range of blocks into loops and single blocks. */
  private itemsOf(from: number, to: number, inside: Item | undefined): Item[] {
    const items: Item[] = [];
    for (let at = from; at <= to; ) {
      const loop = this.loops.find(
        (l) => l.from === at && l.to <= to && l !== inside && (!inside || l.to < inside.to || l.from > inside.from),
      );
      items.push(loop ?? { from: at, to: at, isLoop: false });
      at = (loop?.to ?? at) + 1;
    }
    return items;
  }

  /** Emits items one behind the other, each but the first with a label in front that a jump from those before can use. */
  private emitItems(items: readonly Item[]): void {
    const { f } = this;
    const open = (k: number): void => {
      if (k === 0) return this.emitArrivals(items);
      f.block((label) => {
        this.forward.set(items[k].from, label);
        open(k - 1);
        this.emitItem(items[k - 1]);
      });
    };
    open(items.length - 1);
    this.emitItem(items.at(-1)!);
  }

  /** Goes to the item with the entry that control is on its way to; the first comes next anyway. */
  private emitArrivals(items: readonly Item[]): void {
    const { f } = this;
    const arriving = f.param<"i32">(ARRIVING);
    const targets = new Map<number, Label>();
    for (const [index, number] of this.entryAt) {
      const item = items.slice(1).find(({ from, to }) => from <= index && index <= to);
      if (item) targets.set(number, this.forward.get(item.from)!);
    }
    if (targets.size === 0) return;
    f.if(arriving, () =>
      f.block((next) => {
        const last = Math.max(...targets.keys());
        const labels = Array.from({ length: last + 1 }, (_, number) => targets.get(number) ?? next);
        f.brTable(arriving, labels, next);
      }),
    );
  }

  private emitItem(item: Item): void {
    this.forward.delete(item.from);
    if (!item.isLoop) return this.emitBlock(item.from);
    // Jumps to the head from within the loop are not known yet.
    this.kinds.set(item.from, "dynamic");
    this.f.loop((again) => {
      this.backward.set(item.from, again);
      this.emitItems(this.itemsOf(item.from, item.to, item));
      this.backward.delete(item.from);
    });
  }

  private emitBlock(index: number): void {
    const { ops, f } = this;
    const block = this.region.blocks[index];
    this.current = index;
    if (this.entryAt.has(index) && this.loops.length > 0) f.setLocal(ARRIVING, i32(0));
    const accesses = groupAccesses(block.instructions);
    ops.beginBlock(block.instructions, this.kinds.get(index) ?? "dynamic", accesses);
    const dead = deadFlags(block.instructions);
    block.instructions.forEach((placed, k) => {
      f.scope(() => placed.d.def.semantics!(ops, ops.begin(placed, dead[k], accesses[k])));
    });
    if (!block.fallsThrough) return;
    ops.endBlock();
    this.goTo(block.end, index + 1);
  }

  /** Jumps to the target of the current block's last instruction. */
  private branch(condition: I32 | undefined): void {
    const go = () => this.goTo(this.region.blocks[this.current].target!, -1);
    if (condition) this.f.if(condition, go);
    else go();
  }

  /** Goes on at an address: behind a call of the region if it is one of those, or elsewhere. */
  private indirect(ip: I64): void {
    const { f, ops } = this;
    for (const place of this.region.returns.get(this.region.blocks[this.current]) ?? []) {
      f.if(ip.eq(ops.addressOf(place)), () => this.goTo(place, -1));
    }
    ops.leaveTo(ip);
  }

  /**
   * Goes on at a place.
   * @param next the block that comes behind the current one in the code, reached by doing nothing; −1 for a real jump
   */
  private goTo(place: Place, next: number): void {
    const { f, ops } = this;
    const target = this.indexOf.get(place);
    if (target === undefined) return ops.leaveTo(ops.addressOf(place));
    if (target === next) return this.arrive(target);
    const back = this.backward.get(target);
    if (back) {
      const limit = f.load<"i32">("i32.load", f.param(0), State.instructionLimit);
      f.brIf(back, ops.count.get().ltU(limit), true);
      return ops.leaveTo(ops.addressOf(place));
    }
    const forward = this.forward.get(target);
    if (!forward) return ops.leaveTo(ops.addressOf(place));
    this.arrive(target);
    f.br(forward);
  }
  /** Notes with which flags control arrives at a block. */
  private arrive(target: number): void {
    const before = this.kinds.get(target);
    const { kind } = this.ops;
    this.kinds.set(target, before === undefined || sameKind(before, kind) ? kind : "dynamic");
  }
}

/** Where control may go within the region when it leaves a block. */
function successorsOf(block: Block, returns: Region["returns"], throughCalls: boolean): Place[] {
  const places: Place[] = [];
  if (block.target !== undefined && (throughCalls || block.endsIn !== "call")) places.push(block.target);
  if (block.fallsThrough) places.push(block.end);
  if (throughCalls) places.push(...(returns.get(block) ?? []));
  return places;
}

/** Registers that loops of the region use, but for those that only calls make loops. */
function registersOfLoops(region: Region, indexOf: ReadonlyMap<Place, number>): LoopRegisters {
  const written = new Set<number>();
  const used = new Set<number>();
  for (const { from, to } of findLoops(region, indexOf, false)) {
    for (const { d } of region.blocks.slice(from, to + 1).flatMap(({ instructions }) => instructions)) {
      for (const reg of likelyWritten(d)) written.add(reg);
      for (const reg of likelyUsed(d)) used.add(reg);
    }
  }
  return { used, written };
}

/** Loops of a region: from the target of a backward jump to the last block that jumps there, nested or apart. */
function findLoops(region: Region, indexOf: ReadonlyMap<Place, number>, throughCalls: boolean): Item[] {
  const ends = new Map<number, number>();
  region.blocks.forEach((block, index) => {
    for (const successor of successorsOf(block, region.returns, throughCalls)) {
      const target = indexOf.get(successor);
      if (target !== undefined && target <= index) ends.set(target, Math.max(ends.get(target) ?? 0, index));
    }
  });
  const loops = [...ends].map(([from, to]) => ({ from, to, isLoop: true }));
  // Loops that overlap without nesting: the outer one is extended until it holds the other.
  for (let changed = true; changed; ) {
    changed = false;
    for (const a of loops) {
      for (const b of loops) {
        if (a.from < b.from && b.from <= a.to && a.to < b.to) {
          a.to = b.to;
          changed = true;
        }
      }
    }
  }
  return loops;
}

/** Adds a region's function to a module. */
export function translateRegion(m: ModuleBuilder, helpers: Helpers, region: Region): Callee {
  const translator = new RegionTranslator(m, helpers, region);
  translator.emit();
  return translator.func;
}
