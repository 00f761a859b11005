/**
 * A file system's tree in memory: names and what belongs to them, with contents elsewhere. Whatever paths an archive names,
 * nothing of the host's file system is looked at or changed: links are followed within the tree, and ".." at its root stays there.
 */
import { StorageError } from "../error.ts";
import type { Content } from "./content.ts";

export interface FileOwner {
  /** Permission bits, e.g. 0o755. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  /** By full names such as "security.capability". */
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
}

export interface DirectoryNode {
  readonly type: "directory";
  owner: FileOwner;
  readonly entries: Map<string, FileNode>;
}

/** A file with several names is one node in several directories. */
export type LeafNode =
  | { readonly type: "file"; owner: FileOwner; readonly content: Content }
  | { readonly type: "symlink"; owner: FileOwner; readonly target: string }
  | {
      readonly type: "char-device" | "block-device";
      owner: FileOwner;
      readonly major: number;
      readonly minor: number;
    }
  | { readonly type: "fifo" | "socket"; owner: FileOwner };

export type FileNode = DirectoryNode | LeafNode;

export const ROOT_OWNED: FileOwner = { mode: 0o755, uid: 0, gid: 0, mtime: 0 };
/** As the kernel counts them. */
const MAX_LINKS_FOLLOWED = 40;
const MAX_NAME_BYTES = 255;
/** Deeper trees have no use, and walking them takes stack. */
const MAX_DEPTH = 1000;

export class FileTree {
  readonly root: DirectoryNode = { type: "directory", owner: ROOT_OWNED, entries: new Map() };

  /**
   * What a path leads to, with links followed.
   * @returns undefined if there is nothing, or its links lead nowhere
   */
  find(path: string): FileNode | undefined {
    return this.#walk(partsOf(path), { followLast: true, make: false, budget: { links: MAX_LINKS_FOLLOWED } });
  }

  /** What has this very name, a link if it is one. */
  get(path: string): FileNode | undefined {
    return this.#walk(partsOf(path), { followLast: false, make: false, budget: { links: MAX_LINKS_FOLLOWED } });
  }

  /** The regular file at a path. */
  file(path: string): Extract<FileNode, { type: "file" }> | undefined {
    const node = this.find(path);
    return node?.type === "file" ? node : undefined;
  }

  /**
   * Gives a node a name, in place of what has it. A directory that takes the place of a directory keeps what is in it.
   * @returns the node that has the name now
   * @throws  StorageError  the path is no name for a file
   */
  put(path: string, node: FileNode): FileNode {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) {
      if (node.type !== "directory") throw new StorageError(`${path}: is the root, expected a directory`);
      this.root.owner = node.owner;
      return this.root;
    }
    if (name === "..") throw new StorageError(`${path}: ends in "..", expected a name`);
    if (Buffer.byteLength(name) > MAX_NAME_BYTES)
      throw new StorageError(`${path.slice(0, 80)}…: has a name of more than ${MAX_NAME_BYTES} bytes`);
    const parent = this.directory(parts.join("/"));
    const before = parent.entries.get(name);
    if (node.type === "directory" && before?.type === "directory") {
      before.owner = node.owner;
      return before;
    }
    parent.entries.set(name, node);
    return node;
  }

  /**
   * The directory at a path, made with its parents if there is none; links to directories are followed.
   * @throws StorageError  something else is in the way
   */
  directory(path: string): DirectoryNode {
    const budget = { links: MAX_LINKS_FOLLOWED };
    const found = this.#walk(partsOf(path), { followLast: true, make: true, budget });
    if (found?.type !== "directory") throw new StorageError(`${path}: is no directory, expected one`);
    return found;
  }

  /** Removes a name with what is below it. @returns whether it was there */
  remove(path: string): boolean {
    const parts = partsOf(path);
    const name = parts.pop();
    const parent = this.find(parts.join("/"));
    return name !== undefined && parent?.type === "directory" && parent.entries.delete(name);
  }

  #walk(
    parts: string[],
    options: { followLast: boolean; make: boolean; budget: { links: number } },
    from: readonly DirectoryNode[] = [this.root],
  ): FileNode | undefined {
    /** The directories from the root to where the walk is. */
    let trail = [...from];
    for (let n = 0; n < parts.length; n++) {
      const part = parts[n]!;
      if (part === "..") {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const here = trail.at(-1)!;
      let node = here.entries.get(part);
      if (node === undefined) {
        if (!options.make) return undefined;
        node = { type: "directory", owner: ROOT_OWNED, entries: new Map() };
        here.entries.set(part, node);
      }
      const isLast = n === parts.length - 1;
      if (node.type === "symlink" && (!isLast || options.followLast)) {
        if (--options.budget.links < 0) return undefined;
        const base = node.target.startsWith("/") ? [this.root] : trail;
        return this.#walk([...partsOf(node.target), ...parts.slice(n + 1)], options, base);
      }
      if (isLast) return node;
      if (node.type !== "directory") return undefined;
      trail = [...trail, node];
      if (trail.length > MAX_DEPTH)
        throw new StorageError(`${parts.slice(0, 8).join("/")}…: is more than ${MAX_DEPTH} directories deep`);
    }
    return trail.at(-1);
  }
}

/** The names in a path, without empty ones and ".". */
export function partsOf(path: string): string[] {
  if (path.includes("\0")) throw new StorageError(`${JSON.stringify(path.slice(0, 80))}: has a NUL in it`);
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

/** Every name below a directory with its node, parents first. */
export function* walkTree(directory: DirectoryNode, prefix = ""): Generator<readonly [path: string, node: FileNode]> {
  for (const [name, node] of directory.entries) {
    yield [`${prefix}${name}`, node];
    if (node.type === "directory") yield* walkTree(node, `${prefix}${name}/`);
  }
}
