/** The xenstore of a domain as its toolstack sees it; watches outlive the guest's reboots, which begin with a new store. */
import { type LocalClient, type WatchHandle, XsError } from "@xenoserver/xenstore";
import { ControlError, type StoreNode } from "./protocol.ts";

interface HostedWatch {
  readonly path: string;
  readonly callback: (path: string) => void;
  handle: WatchHandle;
}

export class HostedStore {
  #client: LocalClient;
  readonly #watches = new Set<HostedWatch>();

  constructor(client: LocalClient) {
    this.#client = client;
  }

  /** Goes on with another store. Every watch fires, as after a reconnection. */
  follow(client: LocalClient): void {
    this.#client = client;
    for (const watch of this.#watches) watch.handle = client.watch(watch.path, watch.callback);
  }

  read(path: string): string | undefined {
    return checked(path, () => this.#client.read(path));
  }

  list(path: string): string[] {
    return checked(path, () => this.#client.list(path));
  }

  write(path: string, value: string): void {
    checked(path, () => this.#client.write(path, value));
  }

  /** @throws ControlError  there is no such node */
  rm(path: string): void {
    if (this.read(path) === undefined) throw new ControlError("not-found", `xenstore ${path}: no such node`);
    checked(path, () => this.#client.rm(path));
  }

  setPermissions(path: string, permissions: readonly string[]): void {
    checked(path, () => this.#client.setPermissions(path, permissions));
  }

  /** A node and all below it, each directory before its children; empty if there is none. */
  tree(path: string): StoreNode[] {
    const value = this.read(path);
    if (value === undefined) return [];
    const node = { path, value, permissions: checked(path, () => this.#client.getPermissions(path)) };
    const below = path === "/" ? "" : path;
    return [node, ...this.list(path).flatMap((name) => this.tree(`${below}/${name}`))];
  }

  watch(path: string, callback: (path: string) => void): () => void {
    const watch: HostedWatch = { path, callback, handle: checked(path, () => this.#client.watch(path, callback)) };
    this.#watches.add(watch);
    return () => {
      if (this.#watches.delete(watch)) watch.handle.unwatch();
    };
  }
}

/** @throws ControlError  for what the store refuses */
function checked<T>(path: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    if (!(error instanceof XsError)) throw error;
    throw new ControlError(error.code === "ENOENT" ? "not-found" : "invalid", `xenstore ${path}: ${error.code}`);
  }
}
