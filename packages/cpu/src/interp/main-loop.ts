import {
  type Callee,
  type Func,
  type I32,
  type I64,
  i32,
  i64,
  type Label,
  type ModuleBuilder,
  type Var,
} from "@xenoserver/wasm";
import type { Decoded } from "../decode/decoded.ts";
import { emitItlbEntry } from "../mmu/emit.ts";
import { EntryInfo } from "../mmu/link.ts";
import { Itlb, PROFILE_OFFSET, RECORD_BYTES, Slot, State } from "../state/layout.ts";
import type { AccessHelpers } from "./calling-ops.ts";
import { emitFindCached, emitFindRecord, emitNoteCached } from "./code-index.ts";
import { functionExits, type HandlerExits, InterpOps } from "./interp-ops.ts";

import {
  AddressRecord,
  Field,
  HandlerStatus,
  INTERPRETED_WORK,
  LoopExit,
  OFFSET_MASK,
  REGION_SIGNATURE,
  RegionStatus,
  SCALE_SHIFT,
} from "./record.ts";

/** A handler to build: one sample instruction stands for all with the same key. */
export interface HandlerSample {
  readonly key: string;
  readonly decoded: Decoded;
  readonly codeMode: number;
  readonly indexed: boolean;
  /** An encoding of the sample, for profiles. */
  readonly bytes: Uint8Array;
}

/** What the loop needs of the memory-management unit. */
export interface LoopMmu {
  readonly fillItlb: Callee;
  readonly linkRegion: Callee;
  /** See deliver-page-fault.ts. */
  readonly deliverPageFault: Callee;
}

/** Builds the dispatch loop `run(vb)`: executes from `Slot.rip` until something needs the host program. */
export class MainLoop {
  private readonly func: Func;
  private readonly helpers: AccessHelpers;
  private readonly handlerType: number;
  private readonly pc: Var<"i32">;
  /** Not 0 when the next region is to be interpreted. */
  private readonly once: Var<"i32">;
  private readonly regionType: number;
  /** Such that (progress + pc) / 16 is the number of instructions retired. */
  private readonly progress: Var<"i32">;
  private readonly target: Var<"i64">;
  private readonly linkFrom: Var<"i32">;
  private nextLabel!: Label;
  private lookupLabel!: Label;
  private faultLabel!: Label;
  private faultedLabel!: Label;
  private tickLabel!: Label;
  private systemLabel!: Label;

  private readonly counting: boolean;
  private readonly mmu: LoopMmu;

  /** @param counting counts executions by handler, for a profile: 32-bit words from `PROFILE_OFFSET` of the vcpu's area */
  constructor(m: ModuleBuilder, helpers: AccessHelpers, mmu: LoopMmu, counting = false) {
    this.mmu = mmu;
    this.counting = counting;
    this.func = m.func(["i32"], ["i32"], "run");
    this.helpers = helpers;
    this.handlerType = m.type({ params: ["i32", "i32"], results: ["i32"] });
    const { fn } = this.func;
    this.pc = fn.var("i32");
    this.progress = fn.var("i32");
    this.target = fn.var("i64");
    this.linkFrom = fn.var("i32");
    this.once = fn.var("i32");
    this.regionType = m.type(REGION_SIGNATURE);
  }

  private get vb(): I32 {
    return this.func.fn.param(0);
  }

  emit(inline: readonly HandlerSample[]): void {
    const f = this.func.fn;
    const { vb, pc, progress } = this;
    pc.set(i32(0));
    progress.set(i32(0));
    this.once.set(i32(0));
    f.store("i32.store", vb, i32(0), State.jitInstructions);
    this.linkFrom.set(i32(0));
    this.target.set(f.load("i64.load", vb, Slot.rip));
    f.loop((again) => {
      f.block((faulted) => {
        this.faultedLabel = faulted;
        f.block((fault) => {
          this.faultLabel = fault;
          this.execute(inline);
        });
        f.store("i64.store", vb, this.addressOf(pc.get()), Slot.rip);
      });
      f.if(f.call<"i32">(this.mmu.deliverPageFault, vb).eqz(), () => {
        f.store("i32.store", vb, this.retired(), State.instructions);
        f.return(i32(LoopExit.fault));
      });
      this.target.set(f.load("i64.load", vb, Slot.rip));
      f.br(again);
    });
    f.unreachable();
  }

  /** Executes from `target` until something leaves; a fault leaves by its label. */
  private execute(inline: readonly HandlerSample[]): void {
    const f = this.func.fn;
    const { vb, pc } = this;
    f.block((system) => {
      this.systemLabel = system;
      f.block((tick) => {
        this.tickLabel = tick;
        f.loop((lookup) => {
          this.lookupLabel = lookup;
          this.lookup();
          f.loop((next) => {
            this.nextLabel = next;
            this.dispatch(inline);
          });
        });
      });
      this.leaveAt(pc.get(), LoopExit.tick);
    });
    f.store("i32.store", vb, pc.get(), State.result);
    this.leaveAt(pc.get(), LoopExit.system);
  }

  /** Returns with RIP at a record's instruction. */
  private leaveAt(record: I32, exit: number): void {
    const f = this.func.fn;
    f.store("i64.store", this.vb, this.addressOf(record), Slot.rip);
    f.store("i32.store", this.vb, this.retired(), State.instructions);
    f.return(i32(exit));
  }
  private leaveTo(target: I64, exit: number): void {
    const f = this.func.fn;
    f.store("i64.store", this.vb, target, Slot.rip);
    f.store("i32.store", this.vb, this.retired(), State.instructions);
    f.return(i32(exit));
  }
  private addressOf(record: I32): I64 {
    const f = this.func.fn;
    const offset = f.load<"i32">("i32.load16_u", record, Field.place).and(OFFSET_MASK).extU();
    return f.load<"i64">("i64.load", this.vb, Slot.pageVa).add(offset);
  }

  /** Finds the trace of `target`. */
  private lookup(): void {
    const f = this.func.fn;
    const { vb, pc, progress, target, linkFrom } = this;
    f.if(this.spent(), () => this.leaveTo(target.get(), LoopExit.tick));
    const page = f.let(target.get().and(i64(-4096)));
    const itlbEntry = emitItlbEntry(f, vb, page);
    const cached = emitFindCached(f, vb, { target: target.get(), page, itlbEntry });
    const found = f.var("i32", cached.record);
    f.if(
      cached.isKnown.eqz(),
      () => {
        f.if(f.load<"i64">("i64.load", itlbEntry, Itlb.tag).ne(page), () =>
          f.if(f.call<"i32">(this.mmu.fillItlb, vb, page).eqz(), () => this.leaveTo(target.get(), LoopExit.miss)),
        );
        const heads = f.let(f.load<"i32">("i32.load", itlbEntry, Itlb.heads));
        found.set(emitFindRecord(f, vb, heads, f.let(target.get().wrap().and(4095))));
        f.if(found.get().eqz(), () => this.leaveTo(target.get(), LoopExit.miss));
        emitNoteCached(f, cached.entry, target.get(), found.get(), heads);
      },
      undefined,
      false,
    );
    f.if(linkFrom.get(), () => {
      f.store("i32.store", linkFrom.get(), found.get(), Field.imm);
      f.store("i32.store", linkFrom.get(), f.load<"i32">("i32.load", itlbEntry, Itlb.heads), Field.heads);
      linkFrom.set(i32(0));
    });
    f.store("i64.store", vb, page, Slot.pageVa);
    progress.set(progress.get().add(pc.get()).sub(found.get()));
    pc.set(found.get());
  }

  /** Instructions since the entry, interpreted and translated ones. */
  private retired(): I32 {
    const translated = this.func.fn.load<"i32">("i32.load", this.vb, State.jitInstructions);
    return this.progress.get().add(this.pc.get()).shrU(4).add(translated);
  }
  /** True when the limit of work is reached. */
  private spent(): I32 {
    const f = this.func.fn;
    const translated = f.load<"i32">("i32.load", this.vb, State.jitInstructions);
    const interpreted = this.progress.get().add(this.pc.get());
    const work = interpreted.shrU(Math.log2(RECORD_BYTES / INTERPRETED_WORK)).add(translated);
    return work.geU(f.load<"i32">("i32.load", this.vb, State.instructionLimit));
  }
  /** Counts the instruction at `pc` as retired although control does not reach the next record. */
  private retire(): void {
    this.progress.set(this.progress.get().add(16));
  }

  private arrive(record: I32): void {
    const f = this.func.fn;
    this.retire();
    this.progress.set(this.progress.get().add(this.pc.get()).sub(record));
    this.pc.set(record);
    f.brIf(this.tickLabel, this.spent());
    f.br(this.nextLabel);
  }
  private redirect(linear: I64): void {
    const f = this.func.fn;
    this.target.set(linear);
    this.retire();
    f.br(this.lookupLabel);
  }

  private inlineExits(): HandlerExits {
    const f = this.func.fn;
    return {
      fault: () => f.br(this.faultLabel),
      redirect: (linear) => this.redirect(linear),
      follow: () => this.follow(),
      toHost: () => f.br(this.systemLabel),
    };
  }
  private follow(): void {
    const f = this.func.fn;
    const { pc, vb } = this;
    const target = (): I64 => {
      const distance = f.load<"i32">("i32.load", pc.get(), Field.disp).extS();
      return f.let(f.load<"i64">("i64.load", vb, Slot.pageVa).add(distance));
    };
    const link = f.let(f.load<"i32">("i32.load", pc.get(), Field.imm));
    f.if(link, () => {
      const leavesPage = f.load<"i32">("i32.load16_u", pc.get(), Field.place).and(1 << 13);
      // A target in the same page moves with it.
      f.if(leavesPage.eqz(), () => this.arrive(link));
      const page = f.let(target().and(i64(-4096)));
      const entry = emitItlbEntry(f, vb, page);
      const isThere = f.load<"i64">("i64.load", entry, Itlb.tag).eq(page);
      const heads = f.load<"i32">("i32.load", pc.get(), Field.heads);
      f.if(isThere.and(f.load<"i32">("i32.load", entry, Itlb.heads).eq(heads)), () => {
        f.store("i64.store", vb, page, Slot.pageVa);
        this.arrive(link);
      });
    });
    this.linkFrom.set(pc.get());
    this.redirect(target());
  }

  private next(): void {
    const f = this.func.fn;
    this.pc.set(this.pc.get().add(16));
    f.br(this.nextLabel);
  }

  private dispatch(inline: readonly HandlerSample[]): void {
    const f = this.func.fn;
    const bodies: (() => void)[] = [
      () => this.relook(),
      () => this.arriveWithoutRetiring(f.load("i32.load", this.pc.get(), Field.imm)),
      () => f.br(this.systemLabel),
      () => this.address(),
      () => this.absolute(),
      () => this.undefinedInstruction(),
      () => this.crossing(),
      () => this.region(),
      ...inline.map((sample) => () => {
        const ops = new InterpOps(
          f,
          this.vb,
          this.helpers,
          this.pc,
          this.inlineExits(),
          sample.decoded,
          sample.codeMode,
        );
        emitSemantics(ops, sample);
        this.next();
      }),
    ];
    const labels: Label[] = [];
    const nest = (k: number): void => {
      f.block((label) => {
        labels[k] = label;
        if (k + 1 < bodies.length) nest(k + 1);
        else
          f.block((other) => {
            if (this.counting) this.count();
            f.brTable(f.load("i32.load16_u", this.pc.get(), Field.handler), labels, other);
          });
        if (k + 1 === bodies.length) this.callHandler();
      });
      f.scope(bodies[k]);
    };
    nest(0);
  }

  private count(): void {
    const f = this.func.fn;
    const at = f.let(f.load<"i32">("i32.load16_u", this.pc.get(), Field.handler).shl(2).add(this.vb));
    f.store("i32.store", at, f.load<"i32">("i32.load", at, PROFILE_OFFSET).add(1), PROFILE_OFFSET);
  }

  private arriveWithoutRetiring(record: I32): void {
    const f = this.func.fn;
    const to = f.let(record);
    this.progress.set(this.progress.get().add(this.pc.get()).sub(to));
    this.pc.set(to);
    f.br(this.nextLabel);
  }

  private relook(): void {
    const f = this.func.fn;
    this.target.set(this.addressOf(this.pc.get()));
    f.br(this.lookupLabel);
  }

  private address(): void {
    const f = this.func.fn;
    const { vb, pc } = this;
    const field = (name: string, offset: number) => f.load<"i32">(name, pc.get(), offset);
    const slot = (at: number) => f.load<"i64">("i64.load", vb.add(field("i32.load8_u", at)));
    const scale = field("i32.load16_u", Field.place).shrU(SCALE_SHIFT).extU();
    const sum = slot(Field.base).add(slot(Field.index).shl(scale)).add(field("i32.load", Field.disp).extS());
    const size = f.let(field("i32.load8_u", Field.src));
    const mask = f.select(size.eq(8), i64(-1), f.select(size.eq(4), i64(0xffffffff), i64(0xffff)));
    const offset = f.let(sum.and(mask));
    const flags = f.let(field("i32.load", Field.imm));
    f.if(flags.and(AddressRecord.noCheck).eqz(), () => {
      const segment = flags.and(AddressRecord.segmentMask);
      const more = flags.shrU(AddressRecord.moreShift);
      const check = this.helpers.named("segmentFault");
      const vector = f.let(f.call<"i32">(check, vb, segment, offset, more, i32(0)));
      f.if(vector, () => {
        f.store("i32.store", vb, vector, State.faultVector);
        f.store("i32.store", vb, i32(0), State.faultErrorCode);
        f.br(this.faultLabel);
      });
    });
    const linear = f.let(offset.add(slot(Field.dst)));
    const wrapped = f.select(flags.and(AddressRecord.wrap32), linear.and(i64(0xffffffff)), linear);
    f.store("i64.store", vb, wrapped, Slot.scratch);
    this.prefixDone();
  }

  private absolute(): void {
    const f = this.func.fn;
    const base = f.load<"i64">("i64.load", this.vb.add(f.load("i32.load8_u", this.pc.get(), Field.dst)));
    f.store("i64.store", this.vb, f.load<"i64">("i64.load", this.pc.get(), Field.disp).add(base), Slot.scratch);
    this.prefixDone();
  }
  /** Prefix records are no instructions. */
  private prefixDone(): void {
    this.progress.set(this.progress.get().sub(16));
    this.next();
  }

  private crossing(): void {
    const f = this.func.fn;
    const { vb, pc } = this;
    const next = f.let(f.load<"i64">("i64.load", vb, Slot.pageVa).add(4096));
    const entry = emitItlbEntry(f, vb, next);
    const same = f.load<"i64">("i64.load", entry, Itlb.tag).eq(next);
    const frame = f
      .load<"i32">("i32.load", entry, Itlb.frame)
      .and(0x7fffffff)
      .eq(f.load("i32.load", pc.get(), Field.imm));
    f.if(same.and(frame).eqz(), () => this.leaveAt(pc.get(), LoopExit.miss));
    this.prefixDone();
  }

  private region(): void {
    const f = this.func.fn;
    const { vb, pc, target } = this;
    target.set(this.addressOf(pc.get()));
    const place = f.var("i32", i32(0));
    f.if(this.once.get().eqz(), () => place.set(f.call<"i32">(this.mmu.linkRegion, vb, target.get(), pc.get())));
    f.if(place.get().eqz(), () => {
      // The interpreter runs what the record was before.
      this.once.set(i32(0));
      const shadow = f.let(f.load<"i32">("i32.load", pc.get(), Field.disp));
      this.progress.set(this.progress.get().add(pc.get()).sub(shadow));
      pc.set(shadow);
      f.br(this.nextLabel);
    });
    f.store("i64.store", vb, target.get(), Slot.rip);
    const arrival = f.load<"i32">("i32.load", f.load<"i32">("i32.load", pc.get(), Field.disp), EntryInfo.arrival);
    const status = f.let(f.callIndirect(this.regionType, "i32", 0, place.get(), vb, arrival));
    f.brIf(this.faultedLabel, status.eq(RegionStatus.fault));
    this.once.set(status);
    target.set(f.load("i64.load", vb, Slot.rip));
    f.br(this.lookupLabel);
  }

  private undefinedInstruction(): void {
    const f = this.func.fn;
    f.store("i32.store", this.vb, f.load("i32.load", this.pc.get(), Field.imm), State.faultVector);
    f.store("i32.store", this.vb, i32(0), State.faultErrorCode);
    f.br(this.faultLabel);
  }

  private callHandler(): void {
    const f = this.func.fn;
    const id = f.load<"i32">("i32.load16_u", this.pc.get(), Field.handler);
    const status = f.let(f.callIndirect(this.handlerType, "i32", 0, id, this.vb, this.pc.get()));
    f.if(status.eqz(), () => this.next());
    f.brIf(this.faultLabel, status.eq(HandlerStatus.fault));
    f.brIf(this.systemLabel, status.eq(HandlerStatus.system));
    this.redirect(f.load("i64.load", this.vb, Slot.rip));
  }
}

/** @throws Error naming the handler if the instruction's definition is at fault */
function emitSemantics(ops: InterpOps, sample: HandlerSample): void {
  try {
    sample.decoded.def.semantics!(ops, ops.bind(sample.decoded, sample.codeMode, sample.indexed));
  } catch (cause) {
    throw new Error(`handler ${sample.key}: ${(cause as Error).message}`, { cause });
  }
}

/** Builds one handler as a function (vb, pc) → status. */
export function emitHandlerFunction(m: ModuleBuilder, helpers: AccessHelpers, sample: HandlerSample): Func {
  const func = m.func(["i32", "i32"], ["i32"]);
  const f = func.fn;
  const pc = f.param<"i32">(1);
  const ops = new InterpOps(
    f,
    f.param(0),
    helpers,
    { get: () => pc },
    functionExits(f, f.param(0), pc),
    sample.decoded,
    sample.codeMode,
  );
  emitSemantics(ops, sample);
  f.return(i32(HandlerStatus.next));
  return func;
}
