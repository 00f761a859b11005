/**
 * Grants as the host's backends use them: map, unmap, and copy in either direction. A handle is good for one mapping;
 * handles that a backend forgot are released together by `unmapAll`.
 */
import { PAGE_BYTES } from "@xenoserver/cpu";
import { Gntst } from "../abi/grant-table.ts";
import { DOMID_BACKEND } from "../abi/xen.ts";
import type { Domain } from "../domain/domain.ts";
import { grantBytes, type PinnedGrant, pinGrant, unpinGrant } from "./table.ts";

/** A granted page in use by a backend. */
export interface MappedGrant {
  /** The page's 4096 bytes, live: the guest may change them at any time, so copy before you check. */
  readonly bytes: Uint8Array;
  /** Marks the page written, for stores through a mapping that stays. Unmapping does so by itself. */
  markWritten(): void;
  /** Gives the page back; later calls do nothing. */
  unmap(): void;
}

export class HostGrants {
  readonly #domain: Domain;
  readonly #mapped = new Set<PinnedGrant>();

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
    this.#mapped.add(grant);
    return {
      bytes: grantBytes(this.#domain, grant),
      markWritten: () => this.#domain.memory.markWritten(grant.frame),
      unmap: () => this.#unmap(grant),
    };
  }

  #unmap(grant: PinnedGrant): void {
    if (this.#mapped.delete(grant)) unpinGrant(this.#domain, grant);
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
    unpinGrant(this.#domain, grant);
    return Gntst.okay;
  }

  /** Releases every mapping, as when a backend ends. */
  unmapAll(): void {
    for (const grant of [...this.#mapped]) this.#unmap(grant);
  }
}
