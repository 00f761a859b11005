/**
 * The project's programs, each bundled into one file where that was done and is up to date.
 *
 * A thread that loads its program file by file takes a tenth of a second longer for it, and some 10 MB, which a domain pays for each of its
 * threads. `scripts/precompile.ts` makes the bundles when packages are installed.
 */
import { readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../../", import.meta.url);
/** Where bundles are, and their list. */
export const BUNDLE_FOLDER = new URL("node_modules/.cache/xenoserver/", ROOT);
export const BUNDLE_LIST = new URL("bundles.json", BUNDLE_FOLDER);

export interface BundleList {
  /** By path of the program's first source file, from the project's folder: the bundle's file name. */
  readonly programs: Readonly<Record<string, string>>;
  /** Digest of what translates code. */
  readonly engine: string;
  /** Every source file, by path, as it was when the bundles were made. */
  readonly sources: Readonly<Record<string, readonly [mtimeMs: number, sizeBytes: number]>>;
}

// A program's entry and what it goes on with may be different copies of this module, of which one look is enough.
const KNOWN = Symbol.for("xenoserver.bundles");
const shared = globalThis as { [KNOWN]?: BundleList | null };

/** The bundles, if all of their sources are as they were; looked for once. */
function bundles(): BundleList | null {
  if (shared[KNOWN] === undefined) shared[KNOWN] = readBundles(BUNDLE_LIST, ROOT) ?? null;
  return shared[KNOWN];
}

/**
 * @param root  the folder that sources are named from
 * @returns     undefined if there are none, or a source is not as it was
 */
export function readBundles(list: URL, root: URL): BundleList | undefined {
  try {
    const found = JSON.parse(readFileSync(list, "utf8")) as BundleList;
    const folder = fileURLToPath(root);
    const isSame = ([path, [mtimeMs, sizeBytes]]: [string, readonly [number, number]]): boolean => {
      const now = statSync(folder + path);
      return now.mtimeMs === mtimeMs && now.size === sizeBytes;
    };
    return Object.entries(found.sources).every(isSame) ? found : undefined;
  } catch {
    return undefined;
  }
}

/**
 * What to run for a program.
 * @param source  its first source file
 * @returns       its bundle, or the source itself
 */
export function programUrl(source: URL): URL {
  const path = fileURLToPath(source).slice(fileURLToPath(ROOT).length).replaceAll("\\", "/");
  const bundle = bundles()?.programs[path];
  return bundle === undefined ? source : new URL(bundle, BUNDLE_FOLDER);
}

/** Whether bundles are there and up to date. */
export const hasBundles = (): boolean => bundles() !== null;

/** The digest of what translates code, if bundles are there and up to date. */
export const bundledEngine = (): string | undefined => bundles()?.engine;
