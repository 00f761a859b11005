/** The watches of one connection. */
import { XsError } from "../store/error.ts";
import { domainPath, isAtOrBelow, isSpecial } from "../store/path.ts";
import { type Caller, permits } from "../store/permissions.ts";
import type { Effect } from "../store/transaction.ts";

export interface Watch {
  /** As the client wrote it, perhaps relative to its directory. */
  readonly path: string;
  readonly token: string;
  readonly absolute: string;
}

/** `@introduceDomain` and `@releaseDomain` are for the privileged. */
export type SpecialEvent = "@introduceDomain" | "@releaseDomain";

export class Watches {
  readonly #watches: Watch[] = [];
  readonly #caller: Caller;
  readonly #fire: (path: string, token: string) => void;

  constructor(caller: Caller, fire: (path: string, token: string) => void) {
    this.#caller = caller;
    this.#fire = fire;
  }

  get list(): readonly Watch[] {
    return this.#watches;
  }

  #find(path: string, token: string): number {
    return this.#watches.findIndex((watch) => watch.path === path && watch.token === token);
  }

  /** @throws XsError  EEXIST, or E2BIG beyond the limit */
  add(watch: Watch, limit: number): void {
    if (this.#find(watch.path, watch.token) >= 0) throw new XsError("EEXIST", "the watch is set already");
    if (!this.#caller.privileged && this.#watches.length >= limit) throw new XsError("E2BIG", "too many watches");
    this.#watches.push(watch);
  }

  /** @throws XsError  ENOENT */
  remove(path: string, token: string): void {
    const at = this.#find(path, token);
    if (at < 0) throw new XsError("ENOENT", "no such watch");
    this.#watches.splice(at, 1);
  }

  clear(): void {
    this.#watches.length = 0;
  }

  /** Tells the client of a watch that it has just set. */
  fireNow(path: string, token: string): void {
    this.#fire(path, token);
  }

  /** Fires what a change concerns, if the client may see the node. */
  onEffect(effect: Effect): void {
    if (this.#watches.length === 0 || !permits(effect.permissions, this.#caller, "read")) return;
    for (const watch of [...this.#watches]) {
      if (isSpecial(watch.absolute)) continue;
      const concerned = effect.exact ? effect.path === watch.absolute : isAtOrBelow(effect.path, watch.absolute);
      if (concerned) this.#fire(this.#asWritten(watch, effect.path), watch.token);
    }
  }

  /** A relative watch is told relative paths. */
  #asWritten(watch: Watch, path: string): string {
    if (watch.path.startsWith("/")) return path;
    return path.slice(domainPath(this.#caller.domid).length + 1);
  }

  onSpecial(event: SpecialEvent): void {
    if (!this.#caller.privileged) return;
    for (const watch of [...this.#watches]) if (watch.absolute === event) this.#fire(event, watch.token);
  }
}
