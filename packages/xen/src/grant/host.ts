/**
 * Grants as the host's backends use them: map, unmap, and copy in either direction. A handle is good for one mapping;
 * handles that a backend forgot are released together by `unmapAll`.
 */
import { type Frame, PAGE_BYTES } from "@xenoserver/cpu";
import { Gntst } from "../abi/grant-table.ts";
import { DOMID_BACKEND } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import { grantBytes, type PinnedGrant, pinGrant, pinGrants, type RefusedGrant, unpinGrants } from "./table.ts";

/** A granted page in use by a backend. */
export interface MappedGrant {
  /** The page's 4096 bytes, live: the guest may change them at any time, so copy before you check. */
  readonly bytes: Uint8Array;
  /** Marks the page written, for stores through a mapping that stays. Unmapping does so by itself. */
  markWritten(): void;
  /** Gives the page back; later calls do nothing. */
  unmap(): void;
}

/** Granted pages in use by a backend, in the order in which they were asked for. */
export interface MappedPages {
  /** Where the pages lie: those whose numbers follow one another are one run of bytes. */
  readonly frames: readonly Frame[];
  /**
   * Bytes from a place in a page on, live.
   * @param lengthBytes  may go beyond the page as far as its neighbours in memory are among these pages
   */
  bytes(page: number, offset: number, lengthBytes: number): Uint8Array;
  /** Gives the pages back; later calls do nothing. */
  unmap(): void;
}

export class HostGrants {
  readonly #domain: Domain;
  readonly #mapped = new Set<readonly PinnedGrant[]>();

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  /**
   * Maps a page that the guest granted to the backends.
   * @param ref       index into the guest's table
   * @param writable  whether the backend will store into the page
   * @returns         the page, or a GNTST_* status below zero
   */
  map(ref: number, writable: boolean): MappedGrant | Gntst {
    const grant = pinGrant(this.#domain, ref, DOMID_BACKEND, writable);
    if (typeof grant === "number") return grant;
    const pinned = [grant];
    this.#mapped.add(pinned);
    return {
      bytes: grantBytes(this.#domain, grant),
      markWritten: () => this.#domain.memory.markWritten(grant.frame),
      unmap: () => this.#unmap(pinned),
    };
  }

  /**
   * Maps many pages at once, all or none: made for requests that name some dozens of them.
   * @param refs  any numbers that the guest wrote; the same may come more than once
   */
  mapPages(refs: readonly number[], writable: boolean): MappedPages | RefusedGrant {
    const pinned = pinGrants(this.#domain, refs, DOMID_BACKEND, writable);
    if ("status" in pinned) return pinned;
    this.#mapped.add(pinned);
    return {
      frames: pinned.map(({ frame }) => frame),
      bytes: (page, offset, lengthBytes) => {
        const { buffer, byteOffset } = this.#domain.memory.frameBytes(pinned[page]!.frame);
        return new Uint8Array(buffer, byteOffset + offset, lengthBytes);
      },
      unmap: () => this.#unmap(pinned),
    };
  }

  #unmap(pinned: readonly PinnedGrant[]): void {
    if (this.#mapped.delete(pinned)) unpinGrants(this.#domain, pinned);
  }

  /** Copies from a granted page; `offset` + `into.length` must stay inside the page. */
  copyFrom(ref: number, offset: number, into: Uint8Array): Gntst {
    return this.#copy(ref, offset, into.length, false, (page) => into.set(page));
  }

  /** Copies to a granted page. */
  copyTo(ref: number, offset: number, from: Uint8Array): Gntst {
    return this.#copy(ref, offset, from.length, true, (page) => page.set(from));
  }

  #copy(ref: number, offset: number, lengthBytes: number, writable: boolean, move: (page: Uint8Array) => void): Gntst {
    if (offset < 0 || offset + lengthBytes > PAGE_BYTES) return Gntst.bad_copy_arg;
    const grant = pinGrant(this.#domain, ref, DOMID_BACKEND, writable);
    if (typeof grant === "number") return grant;
    move(grantBytes(this.#domain, grant, offset, lengthBytes));
    unpinGrants(this.#domain, [grant]);
    return Gntst.okay;
  }

  /** Releases every mapping, as when a backend ends. */
  unmapAll(): void {
    for (const pinned of [...this.#mapped]) this.#unmap(pinned);
  }
}
