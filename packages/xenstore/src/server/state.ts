/** The store as plain data, for saving and moving. */
import { formatPermission, type Permissions, parsePermission } from "../store/permissions.ts";
import type { Tree } from "../store/tree.ts";
import type { RingState } from "../wire/ring.ts";

export interface NodeState {
  readonly path: string;
  /** Base64. */
  readonly value: string;
  /** As in SET_PERMS: the owner's first. */
  readonly permissions: readonly string[];
}

export interface ConnectionState {
  readonly domid: number;
  readonly watches: readonly (readonly [path: string, token: string])[];
  readonly ring: RingState;
}

export interface StoreState {
  readonly version: 1;
  readonly nodes: readonly NodeState[];
  readonly connections: readonly ConnectionState[];
}

export function exportNodes(tree: Tree): NodeState[] {
  return [...tree.entries()].map(([path, node]) => ({
    path,
    value: Buffer.from(node.value).toString("base64"),
    permissions: node.permissions.map(formatPermission),
  }));
}

type ImportedNode = [path: string, node: { value: Uint8Array; permissions: Permissions }];

export function importNodes(nodes: readonly NodeState[]): ImportedNode[] {
  return nodes.map(({ path, value, permissions }) => [
    path,
    { value: new Uint8Array(Buffer.from(value, "base64")), permissions: permissions.map(parsePermission) },
  ]);
}
