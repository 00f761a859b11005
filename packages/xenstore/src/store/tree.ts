/**
 * The nodes, and views on them. A `View` is where requests read and write: the tree itself, or a transaction's overlay
 * that remembers the generation of every node it looked at.
 */
import { nameOf, parentOf } from "./path.ts";
import { ownedBy, type Permissions } from "./permissions.ts";

/** Never changed in place: a change puts a new node into the map. */
export interface Node {
  readonly value: Uint8Array;
  readonly permissions: Permissions;
  readonly children: ReadonlySet<string>;
  /** Number of the change that made the node what it is. */
  readonly generation: number;
}

export interface View {
  get(path: string): Node | undefined;
  set(path: string, node: Omit<Node, "generation">): void;
  delete(path: string): void;
}

const EMPTY = new Uint8Array();

export class Tree implements View {
  readonly #nodes = new Map<string, Node>();
  readonly #owned = new Map<number, number>();
  #generation = 0;

  constructor() {
    this.set("/", { value: EMPTY, permissions: ownedBy(0), children: new Set() });
  }

  get generation(): number {
    return this.#generation;
  }

  get(path: string): Node | undefined {
    return this.#nodes.get(path);
  }

  set(path: string, node: Omit<Node, "generation">): void {
    this.#count(this.#nodes.get(path), -1);
    const stored = { ...node, generation: ++this.#generation };
    this.#nodes.set(path, stored);
    this.#count(stored, 1);
  }

  delete(path: string): void {
    this.#count(this.#nodes.get(path), -1);
    this.#nodes.delete(path);
    this.#generation++;
  }

  #count(node: Node | undefined, change: number): void {
    if (node === undefined) return;
    const owner = node.permissions[0].domid;
    const count = (this.#owned.get(owner) ?? 0) + change;
    if (count === 0) this.#owned.delete(owner);
    else this.#owned.set(owner, count);
  }

  /** How many nodes a domain owns. */
  ownedBy(domid: number): number {
    return this.#owned.get(domid) ?? 0;
  }

  entries(): IterableIterator<[string, Node]> {
    return this.#nodes.entries();
  }

  /** Replaces everything, as after a restore. */
  replaceAll(nodes: Iterable<[string, Omit<Node, "generation" | "children">]>): void {
    this.#nodes.clear();
    this.#owned.clear();
    const children = new Map<string, Set<string>>();
    const list = [...nodes];
    for (const [path] of list) {
      if (path === "/") continue;
      const parent = parentOf(path);
      let names = children.get(parent);
      if (names === undefined) children.set(parent, (names = new Set()));
      names.add(nameOf(path));
    }
    for (const [path, node] of list) this.set(path, { ...node, children: children.get(path) ?? new Set() });
    if (!this.#nodes.has("/")) {
      this.set("/", { value: EMPTY, permissions: ownedBy(0), children: children.get("/") ?? new Set() });
    }
  }
}
