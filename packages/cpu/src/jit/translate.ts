import { type Callee, type Fn, type I32, i32, i64, type Label, type ModuleBuilder } from "@xenoserver/wasm";
import { emitFindRecord } from "../interp/jump-cache.ts";
import { Builtin, Field, REGION_SIGNATURE, RegionStatus } from "../interp/record.ts";
import type { Helpers } from "../semantics/ops.ts";
import { ITLB_ENTRIES, Itlb, Slot, State } from "../state/layout.ts";
import { type Exits, JitOps } from "./jit-ops.ts";
import type { Block, Region } from "./region.ts";

/** Blocks `from` to `to` (indices, inclusive): one block, or a loop around several. */
interface Item {
  readonly from: number;
  readonly to: number;
  readonly isLoop: boolean;
}

/** Emits one region as a function (vb) → `RegionStatus`. */
class RegionTranslator {
  private readonly f: Fn;
  private readonly ops: JitOps;
  private readonly region: Region;
  private readonly regionType: number;
  private readonly indexOf = new Map<number, number>();
  /** Labels that a forward jump to a block can use, and those that repeat a loop from its head. */
  private readonly forward = new Map<number, Label>();
  private readonly backward = new Map<number, Label>();
  private readonly loops: Item[];
  private current = 0;

  constructor(m: ModuleBuilder, helpers: Helpers, region: Region) {
    this.regionType = m.type(REGION_SIGNATURE);
    const func = m.func(REGION_SIGNATURE.params, REGION_SIGNATURE.results);
    this.func = func;
    this.f = func.fn;
    this.region = region;
    region.blocks.forEach((block, index) => this.indexOf.set(block.start, index));
    this.loops = findLoops(region, this.indexOf);
    const exits: Exits = {
      fault: { level: 1 },
      leave: { level: 2 },
      target: this.f.var("i64"),
      faultOffset: this.f.var("i32"),
      branch: (condition) => this.branch(condition),
    };
    this.exits = exits;
    this.ops = new JitOps(this.f, helpers, exits);
  }
  readonly func: ReturnType<ModuleBuilder["func"]>;
  private readonly exits: Exits;

  emit(): void {
    const { f, ops } = this;
    f.block(() => {
      f.block(() => {
        this.emitItems(this.itemsOf(0, this.region.blocks.length - 1, undefined));
      });
      ops.storeState();
      this.chain();
    });
    ops.storeState();
    this.leaveFault();
    f.prepend(() => ops.loadState());
  }

  /**
   * Goes on at `target`: in the region that starts there, in this one's place, if the limit is not reached; otherwise by way of
   * the dispatch loop.
   */
  private chain(): void {
    const { f } = this;
    const vb = f.param<"i32">(0);
    const target = this.exits.target.get();
    const state = (offset: number) => f.load<"i32">("i32.load", vb, offset);
    f.block((toLoop) => {
      f.brIf(toLoop, this.ops.count.get().geU(state(State.instructionLimit)));
      const page = f.let(target.and(i64(-4096)));
      const index = target
        .shrU(8)
        .wrap()
        .and((ITLB_ENTRIES - 1) << 4);
      const entry = f.let(index.add(state(State.itlb)));
      f.brIf(toLoop, f.load<"i64">("i64.load", entry, Itlb.tag).ne(page));
      const inTable = target.wrap().and(4095).shl(2);
      const record = emitFindRecord(f, vb, inTable.add(f.load("i32.load", entry, Itlb.codeTable)));
      f.brIf(toLoop, record.eqz());
      f.brIf(toLoop, f.load<"i32">("i32.load16_u", record, Field.handler).ne(Builtin.region));
      f.store("i64.store", vb, page, Slot.pageVa);
      f.returnCallIndirect(this.regionType, 0, f.load("i32.load", record, Field.imm), vb);
    });
    f.store("i64.store", vb, target, Slot.rip);
    f.return(i32(RegionStatus.redirect));
    f.unreachable();
  }

  private leaveFault(): void {
    const { f } = this;
    const vb = f.param<"i32">(0);
    f.store("i64.store", vb, this.ops.addressOf(0).add(this.exits.faultOffset.get().extU()), Slot.rip);
    f.if(f.load<"i32">("i32.load", vb, State.interpretOnce), () => {
      f.store("i32.store", vb, i32(0), State.interpretOnce);
      f.return(i32(RegionStatus.interpret));
    });
    f.return(i32(RegionStatus.fault));
    f.unreachable();
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
      if (k === 0) return;
      f.block((label) => {
        this.forward.set(items[k].from, label);
        open(k - 1);
        this.emitItem(items[k - 1]);
      });
    };
    open(items.length - 1);
    this.emitItem(items.at(-1)!);
  }

  private emitItem(item: Item): void {
    this.forward.delete(item.from);
    if (!item.isLoop) return this.emitBlock(item.from);
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
    ops.beginBlock(block.instructions.length);
    for (const { d, offset } of block.instructions) {
      f.scope(() => d.def.semantics!(ops, ops.begin(d, offset)));
    }
    ops.endBlock();
    if (block.fallsThrough) this.goTo(block.end, index + 1);
  }

  /** Jumps to the target of the current block's last instruction. */
  private branch(condition: I32 | undefined): void {
    const block = this.region.blocks[this.current];
    const { d, offset } = block.instructions.at(-1)!;
    const target = offset + d.lengthBytes + d.immLo;
    const go = () => this.goTo(target, -1);
    if (condition) this.f.if(condition, go);
    else go();
  }

  /**
   * Goes on at an offset of the page.
   * @param next the block that comes behind the current one in the code, reached by doing nothing; −1 for a real jump
   */
  private goTo(offset: number, next: number): void {
    const { f, ops } = this;
    const target = this.indexOf.get(offset);
    if (target !== undefined && target === next) return;
    const back = target === undefined ? undefined : this.backward.get(target);
    if (back) {
      const limit = f.load<"i32">("i32.load", f.param(0), State.instructionLimit);
      f.brIf(back, ops.count.get().ltU(limit));
      return ops.leaveTo(ops.addressOf(offset));
    }
    const forward = target === undefined ? undefined : this.forward.get(target);
    if (forward) return f.br(forward);
    ops.leaveTo(ops.addressOf(offset));
  }
}

/** Loops of a region: from the target of a backward jump to the last block that jumps there, nested or apart. */
function findLoops(region: Region, indexOf: ReadonlyMap<number, number>): Item[] {
  const ends = new Map<number, number>();
  region.blocks.forEach((block: Block, index) => {
    for (const successor of [block.target, block.fallsThrough ? block.end : -1]) {
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
