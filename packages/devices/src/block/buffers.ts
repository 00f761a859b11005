/** The guest's pages behind a request: mapped while it is served, or for longer if the guest uses the same ones again. */
import type { HostGrants, MappedGrant } from "@xenoserver/xen";
import { GrantError, gntstName } from "../ring/index.ts";
import { SECTOR_BYTES, type Segment } from "./protocol.ts";

export interface GuestBuffers {
  /** The sectors in order; neighbours in memory are one array. */
  readonly parts: readonly Uint8Array[];
  /** Gives the pages back; `written` says that we stored into them. To be done before the guest sees the response. */
  release(written: boolean): void;
}

export interface BufferMapper {
  /**
   * Maps what segments name.
   * @param writable  whether we will store into the pages
   * @throws GrantError  after unmapping what was mapped
   */
  map(segments: readonly Segment[], writable: boolean): GuestBuffers;
  /** Unmaps all that is kept; nothing may be in use. */
  close(): void;
}

/** Maps for each request, unmaps behind it. */
export class TransientMapper implements BufferMapper {
  readonly #grants: HostGrants;

  constructor(grants: HostGrants) {
    this.#grants = grants;
  }

  map(segments: readonly Segment[], writable: boolean): GuestBuffers {
    const mapped: MappedGrant[] = [];
    const release = (): void => {
      for (const grant of mapped) grant.unmap();
    };
    for (const { ref } of segments) {
      const grant = this.#grants.map(ref, writable);
      if (typeof grant === "number") {
        release();
        throw grantError(ref, grant);
      }
      mapped.push(grant);
    }
    return { parts: partsOf(segments, mapped), release };
  }

  close(): void {}
}

interface Kept {
  readonly grant: MappedGrant;
  users: number;
}

/**
 * Keeps mappings for guests that use the same pages for all their requests, as `feature-persistent` promises. Pages are
 * mapped for writing, whatever the first request does with them; the longest unused go when there are too many.
 */
export class PersistentMapper implements BufferMapper {
  readonly #grants: HostGrants;
  readonly #limit: number;
  /** In order of last use. */
  readonly #kept = new Map<number, Kept>();

  constructor(grants: HostGrants, limit: number) {
    this.#grants = grants;
    this.#limit = limit;
  }

  map(segments: readonly Segment[], writable: boolean): GuestBuffers {
    const used: Kept[] = [];
    for (const { ref } of segments) {
      const kept = this.#use(ref);
      if (typeof kept === "number") {
        for (const other of used) other.users--;
        this.#trim();
        throw grantError(ref, kept);
      }
      used.push(kept);
    }
    const mapped = used.map(({ grant }) => grant);
    return {
      parts: partsOf(segments, mapped),
      release: (written) => {
        for (const kept of used) {
          kept.users--;
          if (written && writable) kept.grant.markWritten();
        }
        this.#trim();
      },
    };
  }

  #use(ref: number): Kept | number {
    let kept = this.#kept.get(ref);
    if (kept === undefined) {
      const grant = this.#grants.map(ref, true);
      if (typeof grant === "number") return grant;
      kept = { grant, users: 0 };
    } else {
      this.#kept.delete(ref);
    }
    this.#kept.set(ref, kept);
    kept.users++;
    return kept;
  }

  #trim(): void {
    let excess = this.#kept.size - this.#limit;
    for (const [ref, { grant, users }] of this.#kept) {
      if (excess <= 0) return;
      if (users > 0) continue;
      grant.unmap();
      this.#kept.delete(ref);
      excess--;
    }
  }

  close(): void {
    for (const { grant } of this.#kept.values()) grant.unmap();
    this.#kept.clear();
  }
}

const grantError = (ref: number, status: number): GrantError =>
  new GrantError(`grant ${ref} cannot be mapped: ${gntstName(status)}`);

/** Fewer, longer arrays make cheaper system calls; a guest's buffers are often consecutive frames. */
function partsOf(segments: readonly Segment[], mapped: readonly MappedGrant[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let last: Uint8Array | undefined;
  segments.forEach(({ firstSector, lastSector }, n) => {
    const page = mapped[n]!.bytes;
    const start = page.byteOffset + firstSector * SECTOR_BYTES;
    const length = (lastSector + 1 - firstSector) * SECTOR_BYTES;
    if (last !== undefined && last.buffer === page.buffer && last.byteOffset + last.length === start) {
      last = new Uint8Array(page.buffer, last.byteOffset, last.length + length);
      parts[parts.length - 1] = last;
    } else {
      last = new Uint8Array(page.buffer, start, length);
      parts.push(last);
    }
  });
  return parts;
}
