/**
 * A domain's grant table, version 1. The guest writes entries; the hypervisor sets their reading and writing flags and
 * counts pins, so that a frame cannot be taken back while a backend uses it.
 */
import { type Frame, type Gfn, PAGE_BYTES } from "@xenoserver/cpu";
import { locked } from "@xenoserver/cpu/memory/lock.ts";
import {
  Gntst,
  GRANT_ENTRIES_PER_FRAME,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_type_mask,
  GTF_writing,
} from "../abi/grant-table.ts";
import type { Domain } from "../domain/domain.ts";
import { Field, GRANT_PINS_AT, MAX_GRANT_FRAMES } from "../domain/layout.ts";
import { isUsableGfn, tryAllocate } from "../domain/physmap.ts";

/** Pins of each kind that one grant can bear. */
const MAX_PINS = 0x7fff;

/** Makes the table at least `frames` long; false if it may not become so long. */
export function growGrantTable(domain: Domain, frames: number): boolean {
  if (frames > MAX_GRANT_FRAMES) return false;
  return locked(domain.i32, Field.grantLock, () => {
    for (let n = domain.get(Field.nrGrantFrames); n < frames; n++) {
      const frame = tryAllocate(domain);
      if (frame === undefined) return false;
      domain.set(Field.grantFrames + n, frame);
      domain.set(Field.nrGrantFrames, n + 1);
    }
    return true;
  });
}

/** Finds entries in guest memory; those that are asked for one after the other mostly lie in one page of the table. */
class TableWords {
  readonly #domain: Domain;
  #page = -1;
  #pageWord = 0;

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  /** Index of an entry's first word (flags and domid), or −1 if the table is shorter. */
  entry(ref: number): number {
    const domain = this.#domain;
    if (ref < 0 || ref >= domain.get(Field.nrGrantFrames) * GRANT_ENTRIES_PER_FRAME) return -1;
    const page = Math.floor(ref / GRANT_ENTRIES_PER_FRAME);
    if (page !== this.#page) {
      this.#page = page;
      this.#pageWord = domain.guest.wordOf(domain.get(Field.grantFrames + page) as Frame);
    }
    return this.#pageWord + (ref % GRANT_ENTRIES_PER_FRAME) * 2;
  }
}

/** Writes an entry on the guest's behalf, as the toolstack does for console and store. */
export function presetGrant(domain: Domain, ref: number, toDomid: number, gfn: Gfn): void {
  growGrantTable(domain, Math.floor(ref / GRANT_ENTRIES_PER_FRAME) + 1);
  const at = new TableWords(domain).entry(ref);
  const words = domain.guest.words;
  Atomics.store(words, at + 1, gfn);
  Atomics.store(words, at, (toDomid << 16) | GTF_permit_access);
  markEntry(domain, ref);
}

function markEntry(domain: Domain, ref: number): void {
  domain.memory.markWritten(domain.get(Field.grantFrames + Math.floor(ref / GRANT_ENTRIES_PER_FRAME)) as Frame);
}

export interface PinnedGrant {
  readonly ref: number;
  readonly writable: boolean;
  readonly frame: Frame;
}

/** A grant that could not be pinned. */
export interface RefusedGrant {
  readonly ref: number;
  readonly status: Gntst;
}

/**
 * Pins a grant for use by another domain.
 * @param ref       index into this domain's table
 * @param byDomid   the domain that wants to use it
 * @param writable  whether it will store into the page
 * @returns         the frame, to be given to `unpinGrants`, or a GNTST_* status
 * @throws          nothing
 * @see             xen/include/public/grant_table.h, "GRANT TABLE REPRESENTATION"
 */
export function pinGrant(domain: Domain, ref: number, byDomid: number, writable: boolean): PinnedGrant | Gntst {
  return locked(domain.i32, Field.grantLock, () => pinEntry(domain, new TableWords(domain), ref, byDomid, writable));
}

/** As `pinGrant`, all or none; many at a time cost a fraction of as many calls. @param refs  at most some hundreds */
export function pinGrants(
  domain: Domain,
  refs: readonly number[],
  byDomid: number,
  writable: boolean,
): readonly PinnedGrant[] | RefusedGrant {
  return locked(domain.i32, Field.grantLock, () => {
    const table = new TableWords(domain);
    const pinned: PinnedGrant[] = [];
    for (const ref of refs) {
      const grant = pinEntry(domain, table, ref, byDomid, writable);
      if (typeof grant === "number") {
        for (const other of pinned) unpinEntry(domain, table, other);
        return { ref, status: grant };
      }
      pinned.push(grant);
    }
    return pinned;
  });
}

/** The lock is held. */
function pinEntry(
  domain: Domain,
  table: TableWords,
  ref: number,
  byDomid: number,
  writable: boolean,
): PinnedGrant | Gntst {
  const at = table.entry(ref);
  if (at < 0) return Gntst.bad_gntref;
  const pins = Atomics.load(domain.i32, GRANT_PINS_AT + ref);
  if ((pins & 0xffff) >= MAX_PINS || pins >>> 16 >= MAX_PINS) return Gntst.no_space;
  if (!activate(domain, at, byDomid, writable)) return Gntst.general_error;
  const gfn = Atomics.load(domain.guest.words, at + 1) >>> 0;
  const frame = isUsableGfn(gfn) ? domain.memory.frameAt(gfn as Gfn) : -1;
  if (frame === -1) {
    if (pins === 0) clearUse(domain, at, GTF_reading | GTF_writing);
    return Gntst.bad_page;
  }
  Atomics.store(domain.i32, GRANT_PINS_AT + ref, pins + (writable ? 0x10000 : 1));
  markEntry(domain, ref);
  return { ref, writable, frame };
}

/** Sets the use flags of an entry that permits the access; false if it does not. The guest may race, so it is a loop. */
function activate(domain: Domain, at: number, byDomid: number, writable: boolean): boolean {
  const words = domain.guest.words;
  const use = writable ? GTF_reading | GTF_writing : GTF_reading;
  for (let attempt = 0; attempt < 5; attempt++) {
    const entry = Atomics.load(words, at);
    if ((entry & GTF_type_mask) !== GTF_permit_access || (entry & GTF_sub_page) !== 0) return false;
    if (entry >>> 16 !== byDomid || (writable && (entry & GTF_readonly) !== 0)) return false;
    if (Atomics.compareExchange(words, at, entry, entry | use) === entry) return true;
  }
  return false;
}

function clearUse(domain: Domain, at: number, flags: number): void {
  Atomics.and(domain.guest.words, at, ~flags);
}

/** Undoes `pinGrant`; the flags go with the last pin of their kind. */
export function unpinGrants(domain: Domain, grants: readonly PinnedGrant[]): void {
  locked(domain.i32, Field.grantLock, () => {
    const table = new TableWords(domain);
    for (const grant of grants) unpinEntry(domain, table, grant);
  });
}

/** The lock is held. */
function unpinEntry(domain: Domain, table: TableWords, grant: PinnedGrant): void {
  const pins = Atomics.load(domain.i32, GRANT_PINS_AT + grant.ref) - (grant.writable ? 0x10000 : 1);
  Atomics.store(domain.i32, GRANT_PINS_AT + grant.ref, pins);
  const at = table.entry(grant.ref);
  if (at < 0) return;
  if (grant.writable) domain.memory.markWritten(grant.frame);
  if (pins >>> 16 === 0) clearUse(domain, at, GTF_writing);
  if (pins === 0) clearUse(domain, at, GTF_reading);
  markEntry(domain, grant.ref);
}

/** True if some grant of the domain is in use. */
export function hasPins(domain: Domain): boolean {
  const count = domain.get(Field.nrGrantFrames) * GRANT_ENTRIES_PER_FRAME;
  for (let ref = 0; ref < count; ref++) if (domain.i32[GRANT_PINS_AT + ref] !== 0) return true;
  return false;
}

/** The bytes of a pinned page from `offset`; the caller stays inside the page. */
export function grantBytes(
  domain: Domain,
  grant: PinnedGrant,
  offset = 0,
  lengthBytes = PAGE_BYTES - offset,
): Uint8Array {
  return domain.memory.frameBytes(grant.frame).subarray(offset, offset + lengthBytes);
}
