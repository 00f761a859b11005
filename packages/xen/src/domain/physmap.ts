/** Changing which frame a gfn shows. Every function takes the physmap lock and tells the vcpus. */
import { type Frame, type Gfn, PHYSICAL_BITS } from "@xenoserver/cpu";
import { locked } from "@xenoserver/cpu/memory/lock.ts";
import type { Domain } from "./domain.ts";
import { Field } from "./layout.ts";

/** Guests may map what they are given beyond their RAM too; the real Xen as a guest does so behind the first 4 GiB. */
const GFN_LIMIT = 2 ** (PHYSICAL_BITS - 12);

/** True for a gfn that may be mapped or unmapped. */
export function isUsableGfn(gfn: number): boolean {
  return Number.isInteger(gfn) && gfn >= 0 && gfn < GFN_LIMIT;
}

/**
 * Takes what is at the gfn away; RAM goes back to the free frames. What the guest registered with the hypervisor stays its own as long as
 * it lives, for that is written to; so do pages under Xen while they are referenced.
 */
function vacate(domain: Domain, gfn: Gfn): void {
  const old = domain.memory.frameAt(gfn);
  if (old === -1) return;
  domain.memory.unmapFrame(gfn);
  if (domain.isHypervisorFrame(old) || domain.isRegisteredFrame(old)) return;
  domain.memory.freeFrame(old);
  Atomics.sub(domain.i32, Field.currentPages, 1);
}

/**
 * Shows a hypervisor frame at a gfn and nowhere else; false if the map has no room for that gfn.
 * @param placeField  the field that remembers where the frame is shown
 */
export function showHypervisorFrame(domain: Domain, frame: Frame, gfn: Gfn, placeField: number): boolean {
  const done = locked(domain.i32, Field.physmapLock, () => {
    const before = domain.get(placeField);
    if (before === gfn && domain.memory.frameAt(gfn) === frame) return true;
    vacate(domain, gfn);
    if (!tryMap(domain, gfn, frame)) return false;
    if (before !== -1 && before !== gfn && domain.memory.frameAt(before as Gfn) === frame) {
      domain.memory.unmapFrame(before as Gfn);
    }
    domain.set(placeField, gfn);
    return true;
  });
  domain.physmapChanged();
  return done;
}

/** Moves a page of RAM from one gfn to another; false if there is none, or no room for it. */
export function moveRam(domain: Domain, from: Gfn, to: Gfn): boolean {
  const done = locked(domain.i32, Field.physmapLock, () => {
    const frame = domain.memory.frameAt(from);
    if (frame === -1 || domain.isHypervisorFrame(frame)) return false;
    if (from === to) return true;
    vacate(domain, to);
    if (!tryMap(domain, to, frame)) return false;
    domain.memory.unmapFrame(from);
    return true;
  });
  domain.physmapChanged();
  return done;
}

/** Makes a gfn empty; false if it was. Does not tell the vcpus: call `physmapChanged` after the last one. */
export function depopulate(domain: Domain, gfn: Gfn): boolean {
  return locked(domain.i32, Field.physmapLock, () => {
    if (domain.memory.frameAt(gfn) === -1) return false;
    vacate(domain, gfn);
    return true;
  });
}

/** Puts a zeroed frame of RAM at a gfn; false if the domain may have no more or the host has none. */
export function populate(domain: Domain, gfn: Gfn): boolean {
  return locked(domain.i32, Field.physmapLock, () => {
    if (domain.get(Field.currentPages) >= domain.get(Field.maxPages)) return false;
    const frame = tryAllocate(domain);
    if (frame === undefined) return false;
    vacate(domain, gfn);
    if (!tryMap(domain, gfn, frame)) {
      domain.memory.freeFrame(frame);
      return false;
    }
    Atomics.add(domain.i32, Field.currentPages, 1);
    return true;
  });
}

/** Maps a frame; false if the map has no room for that part of the address space. */
export function tryMap(domain: Domain, gfn: Gfn, frame: Frame): boolean {
  try {
    domain.memory.mapFrame(gfn, frame);
    if (gfn > domain.get(Field.maxGfn)) domain.set(Field.maxGfn, gfn);
    return true;
  } catch {
    return false;
  }
}

/** A zeroed frame, or undefined if all are used. */
export function tryAllocate(domain: Domain): Frame | undefined {
  try {
    return domain.memory.allocateFrame();
  } catch {
    return undefined;
  }
}
