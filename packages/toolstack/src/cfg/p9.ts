/**
 * Folders of the host that a guest mounts, as xl's configuration has them: `tag=NAME,path=FOLDER`. Beside xl's keys there is
 * `access=ro`, for a guest that may look and not write.
 * @see xl.cfg(5), "p9"
 */
import { Complaint, listOf, type Reader } from "./readers.ts";

export interface P9Spec {
  /** By which the guest mounts it. */
  readonly tag: string;
  readonly path: string;
  readonly readOnly: boolean;
}

const KEYS = ["tag", "path", "access", "security_model", "backend", "type"];
const ACCESS: Readonly<Record<string, boolean>> = { ro: true, r: true, rw: false, w: false };
/** Linux cuts longer ones off. */
const MAX_TAG_BYTES = 31;

/** @throws Complaint */
export function parseP9(text: string): P9Spec {
  const values = new Map<string, string>();
  for (const part of text.split(",")) {
    const [key = "", ...rest] = part.trim().split("=");
    if (!KEYS.includes(key))
      throw new Complaint(`has ${JSON.stringify(part.trim())}, expected one of ${KEYS.join("=, ")}=`);
    if (values.has(key)) throw new Complaint(`has two values for ${key}, expected one`);
    values.set(key, rest.join("="));
  }
  const [tag = "", path = "", access = "rw"] = ["tag", "path", "access"].map((key) => values.get(key));
  if (!/^[\w.-]+$/.test(tag) || tag.length > MAX_TAG_BYTES)
    throw new Complaint(
      `has tag ${JSON.stringify(tag)}, expected up to ${MAX_TAG_BYTES} letters, digits or any of _.-`,
    );
  if (path === "" || path.includes("\0")) throw new Complaint("has no path, expected that of a folder");
  if (!Object.hasOwn(ACCESS, access)) throw new Complaint(`has access ${JSON.stringify(access)}, expected ro or rw`);
  for (const [key, only] of [
    ["security_model", "none"],
    ["backend", "0"],
  ]) {
    const value = values.get(key!);
    if (value !== undefined && value !== only && value !== "Domain-0")
      throw new Complaint(`has ${key}=${value}, which is not supported yet`);
  }
  return { tag, path, readOnly: ACCESS[access]! };
}

/** The folder in the words of xl.cfg. */
export const describeP9 = ({ tag, path, readOnly }: P9Spec): string =>
  `tag=${tag},access=${readOnly ? "ro" : "rw"},path=${path}`;

const readEach = listOf("a string", parseP9);

export const readP9s: Reader<P9Spec[]> = (value) => {
  const shares = readEach(value);
  const twice = shares.find(({ tag }, n) => shares.findIndex((other) => other.tag === tag) !== n);
  if (twice !== undefined) throw new Complaint(`has tag ${twice.tag} twice`);
  return shares;
};
