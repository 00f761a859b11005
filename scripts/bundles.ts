/** Makes one file of each program that domains' processes and threads run; see packages/toolstack/src/program.ts. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { BUNDLE_FOLDER, BUNDLE_LIST, type BundleList } from "@xenoserver/toolstack/program.ts";
import { engineDigest } from "@xenoserver/toolstack/translations/engine.ts";
import { type BuildOptions, type BuildResult, build, type Plugin } from "esbuild";
import { ROOT } from "./pinned-node.mjs";

/** What they have in common, and load later, are files of their own. */
const PROCESSES = [
  "apps/cli/src/xeno.ts",
  "bench/domain-main.ts",
  "packages/toolstack/src/control/process-main.ts",
  "packages/toolstack/src/control/zygote-main.ts",
];
/** A domain has several of each. In a file that others have too, there would be what these do not need. */
export const THREADS: readonly string[] = [
  "packages/toolstack/src/domain/region-thread.ts",
  "packages/toolstack/src/domain/vcpu-thread.ts",
  "packages/toolstack/src/migrate/later/later-thread.ts",
];

/** Packages of others stay packages; and files go on finding what lies beside their sources. */
const ours: Plugin = {
  name: "ours",
  setup(setup) {
    setup.onResolve({ filter: /^[^./]/ }, ({ path, kind }) =>
      path.startsWith("@xenoserver/") || kind === "entry-point" ? undefined : { path, external: true },
    );
    setup.onLoad({ filter: /\.ts$/ }, ({ path }) => ({
      loader: "ts",
      contents: readFileSync(path, "utf8")
        .replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href))
        .replaceAll("import.meta.dirname", JSON.stringify(dirname(path)))
        .replaceAll("import.meta.main", "false")
        // One such letter in a comment, and each thread keeps the whole file with two bytes for each of its letters.
        .replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
    }));
  },
};

/** @throws Error  a source cannot be read, or the bundler does not run here */
export async function makeBundles(): Promise<BundleList> {
  const folder = fileURLToPath(BUNDLE_FOLDER);
  const outdir = join(folder, String(Date.now()));
  mkdirSync(outdir, { recursive: true });
  const made = [await bundle({ outdir, entryPoints: PROCESSES, splitting: true })];
  for (const thread of THREADS) made.push(await bundle({ outdir, entryPoints: [thread] }));
  const programs = Object.fromEntries(
    made.flatMap(({ metafile }) =>
      Object.entries(metafile.outputs).flatMap(([path, { entryPoint }]) =>
        entryPoint !== undefined && [...PROCESSES, ...THREADS].includes(entryPoint)
          ? [[entryPoint, `${basename(outdir)}/${basename(path)}`]]
          : [],
      ),
    ),
  );
  // How they are made counts as what they are made of.
  const inputs = new Set([
    import.meta.filename,
    ...made.flatMap(({ metafile }) => Object.keys(metafile.inputs).map((path) => join(ROOT, path))),
  ]);
  const sources = Object.fromEntries(
    [...inputs].map((path) => {
      const { mtimeMs, size } = statSync(path);
      return [relative(ROOT, path).replaceAll("\\", "/"), [mtimeMs, size] as const];
    }),
  );
  const part = `${fileURLToPath(BUNDLE_LIST)}.${process.pid}`;
  const list: BundleList = { programs, engine: engineDigest(), sources };
  writeFileSync(part, JSON.stringify(list));
  renameSync(part, fileURLToPath(BUNDLE_LIST));
  for (const old of olderBundles(folder)) rmSync(old, { recursive: true, force: true });
  return list;
}

/** @throws Error  as `makeBundles` */
export function bundle(options: BuildOptions): Promise<BuildResult<BuildOptions & { metafile: true }>> {
  return build({
    absWorkingDir: ROOT,
    entryNames: "[name]",
    bundle: true,
    format: "esm",
    platform: "node",
    target: "esnext",
    outExtension: { ".js": ".mjs" },
    plugins: [ours],
    logLevel: "error",
    ...options,
    metafile: true,
  });
}

/** Processes that run an older one may still load parts of it. */
const KEPT = 5;

function olderBundles(folder: string): string[] {
  const made = readdirSync(folder).filter((name) => /^\d+$/.test(name));
  return made
    .sort((a, b) => Number(b) - Number(a))
    .slice(KEPT)
    .map((name) => join(folder, name));
}
