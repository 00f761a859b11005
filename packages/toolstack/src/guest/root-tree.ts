/** A root file system in memory, laid out as Debian does: /bin, /sbin and /lib are links into /usr. */
import { type CpioEntry, writeNewc } from "../cpio/newc.ts";
import type { TarEntry } from "../deb/tar.ts";

type Node = CpioEntry extends infer E ? (E extends CpioEntry ? Omit<E, "path"> : never) : never;

const MERGED = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

export class RootTree {
  readonly #nodes = new Map<string, Node>();

  constructor() {
    for (const name of MERGED.slice(0, 3).concat("lib64")) {
      this.directory(`usr/${name}`);
      this.#nodes.set(name, { type: "symlink", mode: 0o777, target: `usr/${name}` });
    }
  }

  /** Paths are relative to the root, without "/" in front. Parents are made as needed; what was there is replaced. */
  directory(path: string, mode = 0o755): void {
    const at = merged(path);
    if (at === "") return;
    this.#makeParents(at);
    if (this.#nodes.get(at)?.type !== "directory") this.#nodes.set(at, { type: "directory", mode });
  }

  file(path: string, data: Uint8Array | string, mode = 0o644): void {
    this.#put(path, { type: "file", mode, data: typeof data === "string" ? Buffer.from(data) : data });
  }

  symlink(path: string, target: string): void {
    this.#put(path, { type: "symlink", mode: 0o777, target });
  }

  charDevice(path: string, major: number, minor: number, mode = 0o600): void {
    this.#put(path, { type: "char-device", mode, major, minor });
  }

  /** Adds what a package installs. Hard links become copies, which cpio's sharing of inodes is not worth here. */
  addPackage(entries: Iterable<TarEntry>): void {
    for (const entry of entries) {
      if (entry.path === "" || MERGED.includes(entry.path)) continue;
      if (entry.type === "directory") this.directory(entry.path, entry.mode);
      else if (entry.type === "file") this.file(entry.path, entry.data, entry.mode);
      else if (entry.type === "symlink") this.symlink(entry.path, entry.target);
      else if (entry.type === "hardlink") {
        const original = this.#nodes.get(merged(entry.target));
        if (original === undefined)
          throw new Error(`hard link ${entry.path} names ${entry.target}, which is not there`);
        this.#put(entry.path, original);
      }
    }
  }

  has(path: string): boolean {
    return this.#nodes.has(merged(path));
  }

  /** The file's bytes; undefined if there is no such regular file. */
  read(path: string): Uint8Array | undefined {
    const node = this.#nodes.get(merged(path));
    return node?.type === "file" ? node.data : undefined;
  }

  /** Drops what lies below these folders, and the folders, e.g. "usr/share/doc". */
  remove(...paths: readonly string[]): void {
    for (const path of this.#nodes.keys()) {
      if (paths.some((prefix) => path === prefix || path.startsWith(`${prefix}/`))) this.#nodes.delete(path);
    }
  }

  /** The tree as a newc archive. */
  toNewc(): Uint8Array {
    const sorted = [...this.#nodes].sort(([a], [b]) => (a < b ? -1 : 1));
    return writeNewc(sorted.map(([path, node]) => ({ path, ...node }) as CpioEntry));
  }

  #put(path: string, node: Node): void {
    const at = merged(path);
    this.#makeParents(at);
    this.#nodes.set(at, node);
  }

  #makeParents(path: string): void {
    for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1)) {
      const parent = path.slice(0, slash);
      if (!this.#nodes.has(parent)) this.#nodes.set(parent, { type: "directory", mode: 0o755 });
    }
  }
}

/** Where a path really lies when /bin, /sbin and /lib are links into /usr. */
function merged(path: string): string {
  const [first] = path.split("/", 1);
  return path.includes("/") && MERGED.includes(first!) ? `usr/${path}` : path;
}
