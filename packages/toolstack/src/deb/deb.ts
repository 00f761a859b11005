/** Debian packages: what they carry, without dpkg. */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { decodeXz } from "@xenoserver/xen/builder/image/xz.ts";
import { readAr } from "./ar.ts";
import { readTar, type TarEntry, TarReader } from "./tar.ts";

/** Bounds what a damaged package makes us allocate. */
const MAX_BYTES = 2 ** 31 - 1;

/**
 * Lists what a package installs.
 * @param bytes  the .deb file
 * @param name   what messages call it
 * @throws Error  not a package, truncated, damaged, or of an unknown compression
 */
export function* debEntries(bytes: Uint8Array, name: string): Generator<TarEntry> {
  const { member, compression } = dataMember(bytes, name);
  try {
    yield* readTar(unpack[compression](member));
  } catch (cause) {
    throw new Error(`package ${name}: ${compression} data does not unpack`, { cause });
  }
}

/**
 * Finds one regular file of a package; xz data behind it is not unpacked, which makes the kernel quick to get out of
 * a package that is mostly modules.
 * @returns the first file whose path matches, or undefined
 */
export function findInDeb(bytes: Uint8Array, name: string, path: RegExp): TarEntry | undefined {
  const { member, compression } = dataMember(bytes, name);
  const reader = new TarReader();
  let found: TarEntry | undefined;
  const look = (archive: Uint8Array): boolean => {
    for (let entry = reader.next(archive); entry !== undefined; entry = reader.next(archive)) {
      if (entry.type !== "file" || !path.test(entry.path)) continue;
      found = entry;
      return true;
    }
    return false;
  };
  try {
    if (compression === "xz") {
      const archive = decodeXz(member, { enough: look, maxBytes: MAX_BYTES });
      if (found === undefined) look(archive);
    } else {
      look(unpack[compression](member));
    }
  } catch (cause) {
    throw new Error(`package ${name}: ${compression} data does not unpack`, { cause });
  }
  return found;
}

type Compression = keyof typeof unpack;

const unpack = {
  none: (bytes: Uint8Array): Uint8Array => bytes,
  xz: (bytes: Uint8Array): Uint8Array => decodeXz(bytes, { maxBytes: MAX_BYTES }),
  zst: (bytes: Uint8Array): Uint8Array => zstdDecompressSync(bytes),
  gz: (bytes: Uint8Array): Uint8Array => gunzipSync(bytes),
};

function dataMember(bytes: Uint8Array, name: string): { member: Uint8Array; compression: Compression } {
  let members: ReturnType<typeof readAr>;
  try {
    members = readAr(bytes);
  } catch (cause) {
    throw new Error(`package ${name}: is no Debian package`, { cause });
  }
  const data = members.find((m) => m.name.startsWith("data.tar"));
  if (data === undefined) throw new Error(`package ${name}: has no data.tar member, expected a Debian package`);
  const compression = data.name.slice("data.tar.".length) || "none";
  if (!Object.hasOwn(unpack, compression)) {
    throw new Error(`package ${name}: data is ${data.name}, expected .xz, .zst, .gz or uncompressed`);
  }
  return { member: data.bytes, compression: compression as Compression };
}
