/** A transaction: an overlay over the tree, and what it relied on. */
import type { Node, Tree, View } from "./tree.ts";

/** What became of a path inside the overlay; undefined as node: deleted. */
interface Change {
  readonly node: Omit<Node, "generation"> | undefined;
}

/** A change that the tree's watchers must hear of when the transaction commits. */
export interface Effect {
  readonly path: string;
  /** Only watches on exactly this path: it went with a directory above. */
  readonly exact: boolean;
  /** The permissions that decide who may hear of it. */
  readonly permissions: Node["permissions"];
}

export class Transaction implements View {
  readonly id: number;
  readonly #tree: Tree;
  /** Generation of each node when first looked at; undefined: it was not there. */
  readonly #seen = new Map<string, number | undefined>();
  readonly #changes = new Map<string, Change>();
  readonly #ownedChange = new Map<number, number>();
  /** By path: a node that changed several times is told of once. */
  readonly #effects = new Map<string, Effect>();

  constructor(id: number, tree: Tree) {
    this.id = id;
    this.#tree = tree;
  }

  /** How many nodes the transaction has looked at. */
  get size(): number {
    return this.#seen.size;
  }

  get(path: string): Node | undefined {
    const change = this.#changes.get(path);
    if (change !== undefined) return change.node === undefined ? undefined : { ...change.node, generation: 0 };
    const node = this.#tree.get(path);
    if (!this.#seen.has(path)) this.#seen.set(path, node?.generation);
    return node;
  }

  set(path: string, node: Omit<Node, "generation">): void {
    this.#count(this.get(path), -1);
    this.#count(node, 1);
    this.#changes.set(path, { node });
  }

  delete(path: string): void {
    this.#count(this.get(path), -1);
    this.#changes.set(path, { node: undefined });
  }

  #count(node: Omit<Node, "generation"> | undefined, change: number): void {
    if (node === undefined) return;
    const owner = node.permissions[0].domid;
    this.#ownedChange.set(owner, (this.#ownedChange.get(owner) ?? 0) + change);
  }

  ownedBy(domid: number): number {
    return this.#tree.ownedBy(domid) + (this.#ownedChange.get(domid) ?? 0);
  }

  addEffect(effect: Effect): void {
    this.#effects.delete(effect.path);
    this.#effects.set(effect.path, effect);
  }

  get effects(): Iterable<Effect> {
    return this.#effects.values();
  }

  /** True if nothing that the transaction looked at has changed since. */
  isCurrent(): boolean {
    for (const [path, generation] of this.#seen) {
      if (this.#tree.get(path)?.generation !== generation) return false;
    }
    return true;
  }

  /** Puts the changes into the tree; only after `isCurrent`. */
  apply(): void {
    for (const [path, { node }] of this.#changes) {
      if (node === undefined) {
        if (this.#tree.get(path) !== undefined) this.#tree.delete(path);
      } else this.#tree.set(path, node);
    }
  }
}
