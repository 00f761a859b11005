import type { DomainMemory } from "../memory/domain-memory.ts";
import type { CompiledRegion, CompiledRegions, Reach } from "./region-compiler.ts";
import { keyOf, type Spot } from "./spot.ts";

/** Modules that are kept for other vcpus; the oldest go first. */
const MAX_KEPT = 1024;

interface Kept {
  readonly compiled: CompiledRegions;
  /** Numbers of the vcpus that have it. */
  readonly vcpus: Set<number>;
}

/**
 * What was compiled for one vcpu of a domain, for the others: they run the same kernel and programs, and a region's function works for
 * any of them.
 */
export class CompiledBefore {
  readonly #memory: DomainMemory;
  readonly #kept = new Set<Kept>();
  /** By place of an entry and how far the region reaches. */
  readonly #byEntry = new Map<string, { readonly kept: Kept; readonly region: CompiledRegion }>();

  constructor(memory: DomainMemory) {
    this.#memory = memory;
  }

  /** @param vcpuId  whom it was compiled for */
  note(compiled: CompiledRegions, vcpuId: number): void {
    if (this.#memory.layout.vcpuCount === 1 || compiled.module === undefined) return;
    if (this.#kept.size >= MAX_KEPT) this.#forget(this.#kept.values().next().value!);
    const kept = { compiled, vcpus: new Set([vcpuId]) };
    this.#kept.add(kept);
    for (const region of compiled.regions)
      for (const entry of region.entries) this.#byEntry.set(nameOf(entry, region.reach), { kept, region });
  }

  /** What another vcpu has with a region that is entered at a spot, as the code is now; the vcpu that asks has it from now on. */
  find(spot: Spot, reach: Reach, vcpuId: number): CompiledRegions | undefined {
    const found = this.#byEntry.get(nameOf(spot, reach));
    if (!found || found.kept.vcpus.has(vcpuId)) return undefined;
    if (!this.#isCurrent(found.region)) {
      this.#byEntry.delete(nameOf(spot, reach));
      return undefined;
    }
    found.kept.vcpus.add(vcpuId);
    return found.kept.compiled;
  }

  #isCurrent({ pieces }: CompiledRegion): boolean {
    return pieces.every(({ frame, start, bytes }) => {
      const now = this.#memory.frameBytes(frame as never);
      return bytes.every((byte, k) => now[start + k] === byte);
    });
  }

  #forget(kept: Kept): void {
    this.#kept.delete(kept);
    for (const region of kept.compiled.regions)
      for (const entry of region.entries) {
        const name = nameOf(entry, region.reach);
        if (this.#byEntry.get(name)?.kept === kept) this.#byEntry.delete(name);
      }
  }
}

const nameOf = (place: { readonly frame: number; readonly offset: number }, reach: Reach): string =>
  `${reach} ${keyOf(place)}`;
