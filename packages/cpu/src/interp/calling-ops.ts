import {
  type Address,
  type AddressType,
  type Callee,
  type Fn,
  type I32,
  type I64,
  i32,
  type ModuleBuilder,
} from "@xenoserver/wasm";
import { emitTlbLookup } from "../mmu/tlb.ts";
import { importedHelpers } from "../semantics/helpers.ts";
import { type Helpers, Ops, type UseHost } from "../semantics/ops.ts";
import { Tlb } from "../state/layout.ts";

/** Functions of the engine that see to accesses which the TLB does not allow directly. */
export interface AccessHelpers extends Helpers {
  /** (vb, va, size) → host address for reading, 0 after a fault. */
  readonly slowRead: Callee;
  /** (vb, va, size) → host address for reading and writing (perhaps the bounce buffer), 0 after a fault. */
  readonly slowWrite: Callee;
  /** (vb, va, value, size) → 1 after a fault. */
  readonly slowStore: Callee;
  /** (vb, host): stores what was put into the bounce buffer. */
  readonly commitBounce: Callee;
  /** (vb, host, width): before a locked operand that is not aligned is looked at. */
  readonly beginSplit: Callee;
  /** (vb, host, width, old, new) → 1 if the operand changed and is to be looked at again. */
  readonly changeSplit: Callee;
}

/** Imports them from the engine's own module into another. */
export function importEngine(m: ModuleBuilder): AccessHelpers {
  const address = m.addressType;
  const helper = (name: string, params: readonly AddressType[], results: readonly AddressType[] = []) =>
    m.importFunc("engine", name, { params, results });
  return {
    slowRead: helper("slowRead", ["i32", "i64", "i32"], [address]),
    slowWrite: helper("slowWrite", ["i32", "i64", "i32"], [address]),
    slowStore: helper("slowStore", ["i32", "i64", "i64", "i32"], ["i32"]),
    readTime: helper("readTime", ["i32"]),
    commitBounce: helper("commitBounce", ["i32", address]),
    beginSplit: helper("beginSplit", ["i32", address, "i32"]),
    changeSplit: helper("changeSplit", ["i32", address, "i32", "i64", "i64"], ["i32"]),
    named: importedHelpers(m, "engine"),
  };
}

/** `Ops` whose accesses call the engine where the TLB does not allow them directly. */
export abstract class CallingOps extends Ops {
  private readonly access: AccessHelpers;

  constructor(f: Fn, vb: I32, helpers: AccessHelpers) {
    super(f, vb, helpers);
    this.access = helpers;
  }

  protected override findReadable(va: I64, size: number, use: UseHost): void {
    const { f } = this;
    const at = f.let(va);
    const hit = emitTlbLookup(this, at, size, Tlb.read);
    f.if(
      hit.matches,
      () => use(hit.host, 0),
      () => {
        const slow = f.let(f.call<AddressType>(this.access.slowRead, this.vb, at, i32(size)));
        f.if(slow.eqz(), () => this.leaveFaulted(), undefined, false);
        use(slow, 0);
      },
      true,
    );
  }

  override store(va: I64, width: number, value: I64): void {
    const { f } = this;
    const at = f.let(va);
    const data = f.let(value);
    const hit = emitTlbLookup(this, at, width, Tlb.write);
    f.if(
      hit.matches,
      () => this.storeHost(hit.host, width, data),
      () =>
        f.if(
          f.call<"i32">(this.access.slowStore, this.vb, at, data, i32(width)),
          () => this.leaveFaulted(),
          undefined,
          false,
        ),
      true,
    );
  }

  override update(va: I64, size: number, body: (host: Address) => void): void {
    const { f } = this;
    const at = f.let(va);
    const host = f.var(f.addressType);
    const slow = f.var(f.addressType);
    const hit = emitTlbLookup(this, at, size, Tlb.write);
    f.if(
      hit.matches,
      () => {
        host.set(hit.host);
        slow.set(f.addressAt(0));
      },
      () => {
        slow.set(f.call<AddressType>(this.access.slowWrite, this.vb, at, i32(size)));
        f.if(slow.get().eqz(), () => this.leaveFaulted(), undefined, false);
        host.set(slow.get());
      },
      true,
    );
    body(host.get());
    const commit = () => f.callVoid(this.access.commitBounce, this.vb, slow.get());
    f.if(f.isSet(slow.get()), commit, undefined, false);
  }

  /** A misaligned place takes the detour of mmu/split-lock.ts. */
  override lockedChange(va: I64, width: number, change: (old: I64) => I64): void {
    const at = this.f.let(va);
    // Of the linear address: the bounce buffer is aligned, what it stands for is not.
    const split = width === 1 ? undefined : this.f.let(at.wrap().and(width - 1));
    this.update(at, width, (host) => this.changeAt(host, width, split, change));
  }
  private changeAt(host: Address, width: number, split: I32 | undefined, change: (old: I64) => I64): void {
    const { f } = this;
    const { beginSplit, changeSplit } = this.access;
    const size = i32(width);
    if (split) f.if(split, () => f.callVoid(beginSplit, this.vb, host, size), undefined, false);
    f.loop((again) => {
      const old = this.loadHost(host, width);
      const next = f.let(change(old));
      const exchange = () => this.exchange(again, host, width, old, next);
      if (!split) return exchange();
      f.if(split, () => f.brIf(again, f.call<"i32">(changeSplit, this.vb, host, size, old, next)), exchange, false);
    });
  }
}
