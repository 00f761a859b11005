/** The cache of downloaded packages. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { PackageError, type PackageRecord } from "./package-source.ts";

/** Where a package is kept. The hash is part of the name, as suites may build the same version differently. */
export function debPath(folder: string, record: PackageRecord): string {
  const version = record.version.replaceAll(":", "%3a");
  return join(folder, `${record.name}_${version}_${record.sha256.slice(0, 12)}.deb`);
}

/** True if the file is there and is what the record says. */
export function isCached(path: string, record: PackageRecord): boolean {
  return existsSync(path) && sha256(readFileSync(path)) === record.sha256;
}

/** @throws PackageError  size or hash differ from the record's */
export function verifyDeb(bytes: Uint8Array, record: PackageRecord): void {
  if (bytes.length !== record.sizeBytes) {
    throw new PackageError(`package ${record.name}: got ${bytes.length} bytes, expected ${record.sizeBytes}`);
  }
  const actual = sha256(bytes);
  if (actual !== record.sha256) {
    throw new PackageError(`package ${record.name}: SHA-256 is ${actual}, expected ${record.sha256}`);
  }
}

export const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
