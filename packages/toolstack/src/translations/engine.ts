/** Where this user's translations are kept, and for which engine; asked for in the main thread. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDir } from "../guest/cache.ts";
import { bundledEngine } from "../program.ts";
import type { TranslationsPlace } from "./place.ts";

/** XENO_TRANSLATIONS names a folder, 0 for none; undefined where nothing is kept. */
export function translationsPlace(env: NodeJS.ProcessEnv = process.env): TranslationsPlace | undefined {
  const named = env["XENO_TRANSLATIONS"];
  if (named === "0") return undefined;
  return { folder: named || join(cacheDir(env), "translations"), engine: bundledEngine() ?? engineDigest() };
}

let known: string | undefined;

/** Of all code that translates, as its sources are now. */
export function engineDigest(): string {
  if (known !== undefined) return known;
  const digest = createHash("sha256");
  for (const name of ["cpu", "wasm"]) {
    const folder = fileURLToPath(new URL(`../../../${name}/src/`, import.meta.url));
    const files = readdirSync(folder, { recursive: true, withFileTypes: true });
    for (const file of files.sort((a, b) => (join(a.parentPath, a.name) < join(b.parentPath, b.name) ? -1 : 1)))
      if (file.isFile() && /(?<!\.test)\.ts$/.test(file.name))
        digest.update(readFileSync(join(file.parentPath, file.name)));
  }
  known = digest.digest("hex");
  return known;
}
