/** Mapping what a guest granted, all or nothing. */
import type { HostGrants, MappedGrant } from "@xenoserver/xen";
import { Gntst } from "@xenoserver/xen/abi/grant-table.ts";

/** A grant that cannot be mapped: what the guest is told is up to the caller. */
export class GrantError extends Error {
  override readonly name = "GrantError";
}

/** The field's name for a status, as the header has it. */
export function gntstName(status: number): string {
  return Object.entries(Gntst).find(([, value]) => value === status)?.[0] ?? `status ${status}`;
}

/**
 * Maps pages that the guest granted; if one cannot be mapped, none stays mapped.
 * @param refs      any numbers that the guest wrote; the same may come more than once
 * @param writable  whether the backend will store into the pages
 * @throws          GrantError
 */
export function mapGrants(grants: HostGrants, refs: readonly number[], writable: boolean): MappedGrant[] {
  const mapped: MappedGrant[] = [];
  for (const ref of refs) {
    const grant = grants.map(ref, writable);
    if (typeof grant === "number") {
      unmapGrants(mapped);
      throw new GrantError(
        `grant ${ref} cannot be mapped ${writable ? "for writing" : "for reading"}: ${gntstName(grant)}`,
      );
    }
    mapped.push(grant);
  }
  return mapped;
}

export function unmapGrants(mapped: readonly MappedGrant[]): void {
  for (const grant of mapped) grant.unmap();
}
