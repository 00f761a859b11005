/**
 * Debian packages straight from a mirror, for machines without apt.
 *
 * The chain of trust is Debian's: a key signs InRelease, which holds the hash of Packages, which holds the hash of
 * every package. Nothing is used before its hash was compared.
 */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { setGlobalProxyFromEnv } from "node:http";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { decodeXz } from "@xenoserver/xen/builder/image/xz.ts";
import { cacheDir, writeWhole } from "./cache.ts";
import { debPath, isCached, sha256, verifyDeb } from "./debs.ts";
import { closureOf, PackageIndex } from "./package-index.ts";
import { PackageError, type PackageRecord, type PackageSource, type Progress } from "./package-source.ts";
import { type Release, readKeyring, readRelease } from "./release-file.ts";

const COMPONENT = "main/binary-amd64";
const TIMEOUT_MS = 300_000;

export interface MirrorOptions {
  /** Address of the archive's root, the folder that holds "dists" and "pool". */
  readonly mirror: string;
  /** Code name or class, e.g. "bookworm" or "stable". */
  readonly suite: string;
  /** Path of the keys that sign the archive; default: Debian's. */
  readonly keyring?: string;
  readonly progress?: Progress;
}

export class MirrorSource implements PackageSource {
  readonly suite: string;
  readonly #mirror: string;
  readonly #progress: Progress;
  readonly #index: PackageIndex;
  readonly #debs = join(cacheDir(), "debs");

  private constructor(suite: string, mirror: string, index: PackageIndex, progress: Progress) {
    this.suite = suite;
    this.#mirror = mirror;
    this.#index = index;
    this.#progress = progress;
  }

  /** @throws PackageError  the mirror cannot be reached, or does not serve what a key signed */
  static async open({ mirror, suite, keyring, progress = () => {} }: MirrorOptions): Promise<MirrorSource> {
    if (!/^https?:\/\//.test(mirror))
      throw new PackageError(`mirror is ${mirror}, expected an address such as http://HOST/debian`);
    setGlobalProxyFromEnv();
    const root = mirror.replace(/\/+$/, "");
    const keys = await readKeyring(keyring);
    progress(`reading Debian ${suite}'s package lists`);
    const name = `${root}/dists/${suite}/InRelease`;
    const release = await readRelease((await get(name)).toString("utf8"), keys, name);
    const index = new PackageIndex(await packagesText(root, suite, release));
    return new MirrorSource(release.codename, root, index, progress);
  }

  async find(name: string): Promise<PackageRecord> {
    const record = this.#index.find(name);
    if (record === undefined) throw new PackageError(`package ${name}: Debian ${this.suite} has no such package`);
    return record;
  }

  async closure(names: readonly string[]): Promise<PackageRecord[]> {
    return closureOf(this.#index, names);
  }

  async download(record: PackageRecord): Promise<string> {
    const path = debPath(this.#debs, record);
    if (isCached(path, record)) return path;
    this.#progress(`fetching ${record.name} ${record.version} (${(record.sizeBytes / 1e6).toFixed(1)} MB)`);
    const bytes = await get(`${this.#mirror}/${record.filename}`);
    verifyDeb(bytes, record);
    mkdirSync(this.#debs, { recursive: true });
    writeWhole(path, bytes);
    return path;
  }
}

/** The list of packages, from the cache if it is still the one that InRelease names. */
async function packagesText(root: string, suite: string, release: Release): Promise<string> {
  for (const suffix of [".xz", ".gz"]) {
    const path = `${COMPONENT}/Packages${suffix}`;
    const expected = release.files.get(path);
    if (expected === undefined) continue;
    const cached = join(cacheDir(), "mirror", `Packages-${expected.sha256.slice(0, 16)}${suffix}`);
    let bytes: Buffer | undefined = existsSync(cached) ? readFileSync(cached) : undefined;
    if (bytes === undefined || sha256(bytes) !== expected.sha256) {
      bytes = await get(`${root}/dists/${suite}/${path}`);
      const actual = sha256(bytes);
      if (actual !== expected.sha256) {
        throw new PackageError(
          `${root}/dists/${suite}/${path}: SHA-256 is ${actual}, expected ${expected.sha256} as InRelease says`,
        );
      }
      writeWhole(cached, bytes);
    }
    return Buffer.from(suffix === ".xz" ? decodeXz(bytes) : gunzipSync(bytes)).toString("utf8");
  }
  throw new PackageError(`${root}/dists/${suite}/InRelease: names no ${COMPONENT}/Packages.xz or .gz`);
}

async function get(url: string): Promise<Buffer> {
  let response: Response;
  try {
    response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (response.ok) return Buffer.from(await response.arrayBuffer());
  } catch (cause) {
    throw new PackageError(`${url}: cannot be fetched`, { cause });
  }
  throw new PackageError(`${url}: the mirror answers ${response.status} ${response.statusText}, expected 200`);
}
