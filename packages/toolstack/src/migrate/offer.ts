/**
 * What a domain that moves could bring along, as it says itself before anything else. The other server takes what it cannot reach by
 * itself.
 */
import { isDigest } from "@xenoserver/storage";
import type { DomainConfig } from "../cfg/index.ts";
import { SaveError } from "../save/error.ts";

interface OfferedDisk {
  readonly vdev: string;
  readonly sizeBytes: number;
  /** About as much of it has to be kept, beside images. */
  readonly usedBytes: number;
}
export type DiskOffer =
  /** What the domain wrote on an image. `mark` is said of it in its image store, so that who has the same store finds it there. */
  | (OfferedDisk & { readonly kind: "overlay"; readonly base: string; readonly mark: string })
  /** An image that is only read. */
  | (OfferedDisk & { readonly kind: "image"; readonly base: string })
  /** A file or device, of whatever format. */
  | (OfferedDisk & { readonly kind: "file" });

export const FILE_KEYS = ["kernel", "ramdisk", "pvshim_path"] as const;
export type FileKey = (typeof FILE_KEYS)[number];

/** A file that the domain is built from when it reboots. */
export interface FileOffer {
  readonly key: FileKey;
  readonly sizeBytes: number;
  /** In hexadecimal digits. */
  readonly sha256: string;
  /** Whether the path is good for longer than the domain is there; who has the same file under it needs no other. */
  readonly stays: boolean;
}

export interface Offer {
  readonly disks: readonly DiskOffer[];
  readonly files: readonly FileOffer[];
}

export const pathOf = (config: DomainConfig, key: FileKey): string | undefined =>
  key === "pvshim_path" ? config.shim?.path : config[key];

/** Larger disks and files are believed to be a mistake. */
const [MAX_DISK_BYTES, MAX_FILE_BYTES] = [2 ** 44 - 4096, 2 ** 32];

/**
 * Looks at what came from another server before anything of it is used.
 * @throws SaveError
 */
export function checkOffer(offer: unknown, config: DomainConfig): Offer {
  const refuse = (what: string, expected: string): never => {
    throw new SaveError(`the domain that arrives: ${what}, expected ${expected}`);
  };
  const { disks, files } = (offer ?? {}) as Partial<Record<keyof Offer, unknown>>;
  if (!Array.isArray(disks) || !Array.isArray(files))
    return refuse("brings nothing that makes sense", "disks and files");
  const known = new Set(config.disks?.map(({ vdev }) => vdev));
  for (const disk of disks as Record<string, unknown>[]) {
    const { vdev, kind, sizeBytes, usedBytes, base, mark } = disk ?? {};
    if (typeof vdev !== "string" || !known.delete(vdev)) refuse(`brings disk ${String(vdev)}`, "each of its own once");
    if (!isCount(sizeBytes, MAX_DISK_BYTES) || sizeBytes === 0 || (sizeBytes as number) % 512 !== 0)
      refuse(`disk ${vdev} has ${String(sizeBytes)} bytes`, `a multiple of 512 up to ${MAX_DISK_BYTES}`);
    if (!isCount(usedBytes, MAX_DISK_BYTES)) refuse(`disk ${vdev} uses ${String(usedBytes)} bytes`, "a number");
    const isOnImage = kind === "overlay" || kind === "image";
    if (!isOnImage && kind !== "file") refuse(`disk ${vdev} is ${String(kind)}`, "overlay, image or file");
    if (isOnImage && !(typeof base === "string" && isDigest(base)))
      refuse(`disk ${vdev} is on image ${String(base)}`, "a digest");
    if (kind === "overlay" && typeof mark !== "string") refuse(`disk ${vdev} has no mark`, "one");
  }
  for (const file of files as Record<string, unknown>[]) {
    const { key, sizeBytes, sha256 } = file ?? {};
    const isKey = (FILE_KEYS as readonly unknown[]).includes(key) && pathOf(config, key as FileKey) !== undefined;
    if (!isKey) refuse(`brings file ${String(key)}`, "one that it is built from");
    if (!isCount(sizeBytes, MAX_FILE_BYTES)) refuse(`${key} has ${String(sizeBytes)} bytes`, `≤ ${MAX_FILE_BYTES}`);
    if (typeof sha256 !== "string" || !isDigest(sha256)) refuse(`${key} has the sum ${String(sha256)}`, "a SHA-256");
  }
  return { disks, files } as unknown as Offer;
}

const isCount = (value: unknown, most: number): boolean =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
