/** Names of nodes. */
import { XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX } from "@xenoserver/xen/abi/xs-wire.ts";
import { XsError } from "./error.ts";

const VALID = /^[A-Za-z0-9\-/_@]+$/;

/** The directory that a domain's relative paths start in. */
export const domainPath = (domid: number): string => `/local/domain/${domid}`;

/** True for the names of events that are no nodes: @introduceDomain, @releaseDomain. */
export const isSpecial = (path: string): boolean => path.startsWith("@");

/**
 * The absolute path that a client means.
 * @throws XsError  EINVAL for a malformed or overlong path
 */
export function absolutePath(path: string, domid: number): string {
  const isAbsolute = path.startsWith("/");
  const limit = isAbsolute ? XENSTORE_ABS_PATH_MAX : XENSTORE_REL_PATH_MAX;
  const malformed = path.length > limit || !VALID.test(path) || path.includes("//");
  if (malformed || (path.length > 1 && path.endsWith("/"))) throw new XsError("EINVAL", "malformed path");
  return isAbsolute ? path : `${domainPath(domid)}/${path}`;
}

/** The directory above; "/" is above itself. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** The last part of the path. */
export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function childOf(path: string, name: string): string {
  return path === "/" ? `/${name}` : `${path}/${name}`;
}

/** True if `path` is `top` or lies below it. */
export function isAtOrBelow(path: string, top: string): boolean {
  return top === "/" || path === top || (path.startsWith(top) && path[top.length] === "/");
}
