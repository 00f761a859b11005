/**
 * Who may do what with a node. The first entry names the owner, who may do everything; its letters are what any domain
 * may do that has no entry of its own.
 */
import { XsError } from "./error.ts";

export interface Permission {
  readonly domid: number;
  readonly read: boolean;
  readonly write: boolean;
}

/** The owner's entry first; never empty. */
export type Permissions = readonly Permission[];

/** Who asks. Domain 0, and whoever acts for it, may do everything. */
export interface Caller {
  readonly domid: number;
  readonly privileged: boolean;
}

export const ownedBy = (domid: number): Permissions => [{ domid, read: false, write: false }];

export type Access = "read" | "write";

export function permits(permissions: Permissions, caller: Caller, access: Access): boolean {
  if (caller.privileged || isOwner(permissions, caller)) return true;
  const own = permissions.slice(1).find(({ domid }) => domid === caller.domid);
  return (own ?? permissions[0])[access];
}

export function isOwner(permissions: Permissions, caller: Caller): boolean {
  return permissions[0].domid === caller.domid;
}

const LETTERS: Readonly<Record<string, readonly [read: boolean, write: boolean]>> = {
  n: [false, false],
  r: [true, false],
  w: [false, true],
  b: [true, true],
};

/** @throws XsError  EINVAL for anything but a letter of n, r, w, b and a domain id */
export function parsePermission(text: string): Permission {
  const match = /^([nrwb])(\d{1,5})$/.exec(text);
  if (match === null) throw new XsError("EINVAL", "malformed permission");
  const domid = Number(match[2]);
  if (domid > 0x7fef) throw new XsError("EINVAL", "no such domain id");
  const [read, write] = LETTERS[match[1]];
  return { domid, read, write };
}

export function formatPermission({ domid, read, write }: Permission): string {
  const letter = read ? (write ? "b" : "r") : write ? "w" : "n";
  return `${letter}${domid}`;
}
