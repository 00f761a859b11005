import { type Address, type AddressType, type I32, type I64, i32, i64, type Var } from "@xenoserver/wasm";
import { emitTlbEntry, hostOfEntry, isInPage, leavesPage, type TlbEmitter } from "../mmu/tlb.ts";
import { Tlb } from "../state/layout.ts";
import { type AccessGroup, type GroupedAccess, MAX_SPAN_BYTES } from "./access-groups.ts";

/** Where a group's bytes are, once that was looked up. */
interface GroupVars {
  /** Host address of its lowest byte. */
  readonly host: Var<AddressType>;
  /** The same as seen from its second page, if it has one: bytes from `split` on lie at their distance from here. */
  readonly second: Var<AddressType>;
  /** How many of its bytes lie on its first page. */
  readonly split: Var<"i32">;
}
/** Where an access is; what lies `offset` behind `base`, which V8 adds for nothing. */
export interface GroupedHost {
  readonly base: Address;
  readonly offset: number;
}
/** More than any group spans: all of it lies on one page. */
const NOT_SPLIT = 2 * MAX_SPAN_BYTES;

/**
 * Where the accesses of a block are that share a look into the TLB. That happens at a group's first access. A group may lie on two pages, of which
 * both are looked up then, so that the others need no way of their own for that: each chooses between two addresses.
 */
export class GroupHosts {
  private readonly e: TlbEmitter;
  /** By number of the group. */
  private readonly vars: GroupVars[] = [];
  private readonly open = new Set<number>();

  constructor(e: TlbEmitter) {
    this.e = e;
  }

  /** To be called outside of scopes: variables that are made here last for the function. */
  beginBlock(accesses: readonly (GroupedAccess | undefined)[]): void {
    const { f } = this.e;
    this.open.clear();
    for (const access of accesses)
      if (access)
        this.vars[access.group.id] ??= {
          host: f.var(f.addressType),
          second: f.var(f.addressType),
          split: f.var("i32"),
        };
  }

  isOpen({ group }: GroupedAccess): boolean {
    return this.open.has(group.id);
  }

  /**
   * Looks a group up.
   * @param at    linear address of one of its accesses; a local
   * @param leave emits a way out, for what the TLB does not allow directly, or an access may lie on both pages
   */
  look(at: I64, { group, offset }: GroupedAccess, leave: () => void): void {
    const { f } = this.e;
    const { host, second, split } = this.vars[group.id];
    const low = f.let(at.sub(offset));
    const { entry, distance } = emitTlbEntry(this.e, low, group.isWrite ? Tlb.write : Tlb.read);
    const known = f.let(distance);
    host.set(hostOfEntry(f, entry, low));
    second.set(host.get());
    split.set(i32(NOT_SPLIT));
    f.if(
      leavesPage(known, group.spanBytes),
      () => this.lookAtSecond(low, isInPage(known, 1), group, leave),
      undefined,
      false,
    );
    this.open.add(group.id);
  }
  /** Of the first page, nothing but whether the group begins there is known. */
  private lookAtSecond(
    low: I64,
    isInFirst: I32,
    { id, spanBytes, isWrite, alignment }: AccessGroup,
    leave: () => void,
  ): void {
    const { f } = this.e;
    const { second, split } = this.vars[id];
    if (!alignment) return leave();
    const page = f.let(low.add(spanBytes - 1).and(i64(-4096)));
    const { entry, distance } = emitTlbEntry(this.e, page, isWrite ? Tlb.write : Tlb.read);
    const isAligned = low
      .wrap()
      .and(alignment.bytes - 1)
      .eq(alignment.rest);
    f.if(isInFirst.and(isInPage(distance, 4096)).and(isAligned).eqz(), leave, undefined, false);
    split.set(page.wrap().sub(low.wrap()));
    second.set(hostOfEntry(f, entry, low));
  }

  /** Of an access whose group was looked up. */
  hostOf({ group, offset }: GroupedAccess): GroupedHost {
    const { f } = this.e;
    const { host, second, split } = this.vars[group.id];
    if (offset === 0) return { base: host.get(), offset };
    return { base: f.select(split.get().gtU(offset), host.get(), second.get()), offset };
  }
}
