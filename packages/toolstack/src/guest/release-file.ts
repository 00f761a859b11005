/** Debian's InRelease file: the signed root of everything that an archive serves. */
import { readFileSync } from "node:fs";
import { readCleartextMessage, readKey, readKeys, verify } from "openpgp";
import { PackageError, parseStanzas } from "./package-source.ts";

type Keys = Awaited<ReturnType<typeof readKeys>>;

/** Keys that this project ships: Debian's own. */
const SHIPPED_KEYS = new URL("./debian-archive-keys.asc", import.meta.url);

/**
 * Reads OpenPGP public keys, armoured or binary.
 * @param path  default: Debian's archive keys, which come with this project
 * @throws PackageError  the file cannot be read or holds no keys
 */
export async function readKeyring(path?: string): Promise<Keys> {
  try {
    const bytes = readFileSync(path ?? SHIPPED_KEYS);
    const armor = bytes.indexOf("-----BEGIN PGP PUBLIC KEY BLOCK-----");
    if (armor !== -1) return await readKeys({ armoredKeys: bytes.subarray(armor).toString("latin1") });
    const keys = await readKeys({ binaryKeys: new Uint8Array(bytes) });
    if (keys.length === 0) keys.push(await readKey({ binaryKey: new Uint8Array(bytes) }));
    return keys;
  } catch (cause) {
    throw new PackageError(`keyring ${path ?? "of the project"}: holds no OpenPGP public keys that can be read`, {
      cause,
    });
  }
}

export interface Release {
  readonly codename: string;
  /** SHA-256 in hex and size by path below the suite's folder, e.g. "main/binary-amd64/Packages.xz". */
  readonly files: ReadonlyMap<string, { readonly sha256: string; readonly sizeBytes: number }>;
}

/**
 * Checks an InRelease file's signature and its age, then reads it.
 * @param name  what messages call it
 * @throws PackageError  no signature by one of the keys, expired, or malformed
 */
export async function readRelease(text: string, keys: Keys, name: string, now = new Date()): Promise<Release> {
  const signed = await signedText(text, keys, name, now);
  const [stanza] = parseStanzas(signed);
  const validUntil = stanza?.get("Valid-Until");
  if (validUntil !== undefined && !(Date.parse(validUntil) > now.getTime())) {
    throw new PackageError(`${name}: is valid until ${validUntil}, expected later than now (${now.toUTCString()})`);
  }
  const codename = stanza?.get("Codename");
  const hashes = stanza?.get("SHA256");
  if (codename === undefined || hashes === undefined)
    throw new PackageError(`${name}: has no Codename and SHA256 fields`);
  const files = new Map<string, { sha256: string; sizeBytes: number }>();
  for (const line of hashes.split("\n")) {
    const [sha256, size, path] = line.trim().split(/\s+/);
    if (path !== undefined) files.set(path, { sha256: sha256!.toLowerCase(), sizeBytes: Number(size) });
  }
  return { codename, files };
}

/** The text that a valid signature covers; what stands around it is not returned. */
async function signedText(text: string, keys: Keys, name: string, now: Date): Promise<string> {
  let message: Awaited<ReturnType<typeof readCleartextMessage>>;
  try {
    message = await readCleartextMessage({ cleartextMessage: text });
  } catch (cause) {
    throw new PackageError(`${name}: is no clear-signed message`, { cause });
  }
  const { data, signatures } = await verify({ message, verificationKeys: keys, date: now });
  const outcomes = await Promise.allSettled(signatures.map((signature) => signature.verified));
  if (outcomes.some((outcome) => outcome.status === "fulfilled")) return data;
  const signers = signatures.map((signature) => signature.keyID.toHex()).join(", ") || "nobody";
  throw new PackageError(
    `${name}: is signed by ${signers}, expected a valid signature by one of the keyring's ${keys.length} keys`,
    {
      cause: outcomes.find((outcome) => outcome.status === "rejected")?.reason,
    },
  );
}
