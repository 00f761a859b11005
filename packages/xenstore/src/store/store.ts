/**
 * The store's operations on nodes, for a caller, in the tree or in a transaction. Watches are told by way of `onEffect`
 * when a change becomes visible to everybody.
 */
import { XsError } from "./error.ts";
import { childOf, nameOf, parentOf } from "./path.ts";
import { type Access, type Caller, isOwner, type Permissions, permits } from "./permissions.ts";
import { DEFAULT_QUOTA, type Quota } from "./quota.ts";
import type { Effect, Transaction } from "./transaction.ts";
import { type Node, Tree } from "./tree.ts";

const EMPTY = new Uint8Array();

/** Whose request, and where it reads and writes. Paths are absolute and well-formed. */
export interface Request {
  readonly caller: Caller;
  readonly transaction?: Transaction;
}

export class Store {
  readonly tree = new Tree();
  readonly quota: Quota;
  /** Called for every change that becomes visible, in order. */
  onEffect: (effect: Effect) => void = () => {};

  constructor(quota: Quota = DEFAULT_QUOTA) {
    this.quota = quota;
  }

  #view(request: Request): Tree | Transaction {
    const { transaction, caller } = request;
    if (transaction === undefined) return this.tree;
    if (!caller.privileged && transaction.size > this.quota.transactionNodes) {
      throw new XsError("ENOSPC", "the transaction touches too many nodes");
    }
    return transaction;
  }

  /** @throws XsError  ENOENT, or EACCES where even absence is none of the caller's business */
  #node(request: Request, path: string, access: Access): Node {
    const node = this.#view(request).get(path);
    if (node === undefined) throw this.#absent(request, path);
    if (!permits(node.permissions, request.caller, access)) throw new XsError("EACCES", "not permitted");
    return node;
  }

  #absent(request: Request, path: string): XsError {
    const { node } = this.#closest(request, parentOf(path));
    const mayKnow = permits(node.permissions, request.caller, "read");
    return mayKnow ? new XsError("ENOENT", "no such node") : new XsError("EACCES", "not permitted");
  }

  /** The path itself or the nearest directory above it that exists. */
  #closest(request: Request, path: string): { path: string; node: Node } {
    const view = this.#view(request);
    for (let at = path; ; at = parentOf(at)) {
      const node = view.get(at);
      if (node !== undefined) return { path: at, node };
    }
  }

  /** Makes a change heard: at once, or when the transaction commits. */
  #effect(request: Request, path: string, permissions: Permissions, exact = false): void {
    const effect = { path, exact, permissions };
    if (request.transaction === undefined) this.onEffect(effect);
    else request.transaction.addEffect(effect);
  }

  read(request: Request, path: string): Uint8Array {
    return this.#node(request, path, "read").value;
  }

  /** Names of the children, in the order of their creation, and the directory's generation. */
  directory(request: Request, path: string): { names: readonly string[]; generation: number } {
    const node = this.#node(request, path, "read");
    return { names: [...node.children], generation: node.generation };
  }

  getPermissions(request: Request, path: string): Permissions {
    return this.#node(request, path, "read").permissions;
  }

  setPermissions(request: Request, path: string, permissions: Permissions): void {
    const { caller } = request;
    const node = this.#node(request, path, "write");
    if (!caller.privileged) {
      if (!isOwner(node.permissions, caller)) throw new XsError("EACCES", "only the owner may");
      if (permissions[0].domid !== caller.domid) throw new XsError("EPERM", "a node cannot be given away");
      if (permissions.length > this.quota.permissionsPerNode) throw new XsError("ENOSPC", "too many permissions");
    }
    this.#view(request).set(path, { ...node, permissions });
    this.#effect(request, path, permissions);
  }

  write(request: Request, path: string, value: Uint8Array): void {
    this.#checkSize(request.caller, path, value);
    const view = this.#view(request);
    const node = view.get(path);
    if (node === undefined) {
      this.#create(request, path, value);
      return;
    }
    if (!permits(node.permissions, request.caller, "write")) throw new XsError("EACCES", "not permitted");
    view.set(path, { ...node, value });
    this.#effect(request, path, node.permissions);
  }

  #checkSize(caller: Caller, path: string, value: Uint8Array): void {
    if (caller.privileged) return;
    if (path.length + value.length > this.quota.nodeBytes) throw new XsError("ENOSPC", "the node is too large");
  }

  /** Makes an empty node; nothing happens if it exists. */
  mkdir(request: Request, path: string): void {
    const node = this.#view(request).get(path);
    if (node === undefined) {
      this.#create(request, path, EMPTY);
      return;
    }
    if (!permits(node.permissions, request.caller, "write")) throw new XsError("EACCES", "not permitted");
  }

  /** Creates a node and the directories that are missing above it. */
  #create(request: Request, path: string, value: Uint8Array): void {
    const { caller } = request;
    const view = this.#view(request);
    const base = this.#closest(request, path);
    if (!permits(base.node.permissions, caller, "write")) throw new XsError("EACCES", "not permitted");
    const names = path.slice(base.path === "/" ? 1 : base.path.length + 1).split("/");
    if (!caller.privileged && view.ownedBy(caller.domid) + names.length > this.quota.nodes) {
      throw new XsError("ENOSPC", "the domain has too many nodes");
    }
    const permissions = inherit(base.node.permissions, caller);
    view.set(base.path, { ...base.node, children: new Set(base.node.children).add(names[0]) });
    let at = base.path;
    names.forEach((name, n) => {
      at = childOf(at, name);
      const next = names[n + 1];
      const children = next === undefined ? new Set<string>() : new Set([next]);
      view.set(at, { value: next === undefined ? value : EMPTY, permissions, children });
    });
    this.#effect(request, path, permissions);
  }

  /** Removes a node and all below; nothing happens if it does not exist but its directory does. */
  rm(request: Request, path: string): void {
    const view = this.#view(request);
    if (path === "/") throw new XsError("EINVAL", "the root stays");
    const parent = view.get(parentOf(path));
    const node = view.get(path);
    if (node === undefined) {
      if (parent === undefined) throw this.#absent(request, path);
      return;
    }
    if (!permits(node.permissions, request.caller, "write")) throw new XsError("EACCES", "not permitted");
    if (parent !== undefined) {
      const children = new Set(parent.children);
      children.delete(nameOf(path));
      view.set(parentOf(path), { ...parent, children });
    }
    const removed = this.#removeBelow(view, path);
    this.#effect(request, path, node.permissions);
    for (const [below, gone] of removed) {
      if (below !== path) this.#effect(request, below, gone.permissions, true);
    }
  }

  /** The nodes that went, the top one first. */
  #removeBelow(view: Tree | Transaction, top: string): [string, Node][] {
    const removed: [string, Node][] = [];
    const waiting = [top];
    for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
      const node = view.get(path);
      if (node === undefined) continue;
      view.delete(path);
      removed.push([path, node]);
      for (const name of node.children) waiting.push(childOf(path, name));
    }
    return removed;
  }

  /** @throws XsError  EAGAIN if something that the transaction looked at has changed: the client tries again */
  commit(transaction: Transaction, caller: Caller): void {
    // Several transactions, each within the quota, may exceed it together.
    if (!caller.privileged && transaction.ownedBy(caller.domid) > this.quota.nodes) {
      throw new XsError("ENOSPC", "the domain has too many nodes");
    }
    if (!transaction.isCurrent()) throw new XsError("EAGAIN", "the transaction is out of date");
    transaction.apply();
    for (const effect of transaction.effects) this.onEffect(effect);
  }
}

/** A new node has its directory's permissions, but belongs to who made it. */
function inherit(permissions: Permissions, caller: Caller): Permissions {
  if (caller.privileged) return permissions;
  return [{ ...permissions[0], domid: caller.domid }, ...permissions.slice(1)];
}
