/** The guest's pages behind a request, mapped while it is served. */
import type { HostGrants, MappedPages } from "@xenoserver/xen";
import { GrantError, gntstName } from "../ring/index.ts";
import { SECTOR_BYTES, type Segment } from "./protocol.ts";

export interface GuestBuffers {
  /** The sectors in order; neighbours in memory are one array. */
  readonly parts: readonly Uint8Array[];
  /** Gives the pages back. To be done before the guest sees the response. */
  release(): void;
}

/**
 * Maps what segments name.
 * @param writable  whether we will store into the pages
 * @throws GrantError  nothing stays mapped then
 */
export function mapSegments(grants: HostGrants, segments: readonly Segment[], writable: boolean): GuestBuffers {
  const pages = grants.mapPages(
    segments.map(({ ref }) => ref),
    writable,
  );
  if ("status" in pages) throw new GrantError(`grant ${pages.ref} cannot be mapped: ${gntstName(pages.status)}`);
  return { parts: partsOf(segments, pages), release: () => pages.unmap() };
}

/** Fewer, longer arrays make cheaper system calls; a guest's buffers are often consecutive frames. */
function partsOf(segments: readonly Segment[], pages: MappedPages): Uint8Array[] {
  const { frames } = pages;
  const parts: Uint8Array[] = [];
  for (let first = 0, next: number; first < segments.length; first = next) {
    let lengthBytes = 0;
    for (next = first; ; ) {
      const { firstSector, lastSector } = segments[next]!;
      lengthBytes += (lastSector + 1 - firstSector) * SECTOR_BYTES;
      next++;
      const goesOn = lastSector === LAST_SECTOR && segments[next]?.firstSector === 0;
      if (!goesOn || frames[next]! !== frames[next - 1]! + 1) break;
    }
    parts.push(pages.bytes(first, segments[first]!.firstSector * SECTOR_BYTES, lengthBytes));
  }
  return parts;
}

/** Of a page. */
const LAST_SECTOR = 4096 / SECTOR_BYTES - 1;
