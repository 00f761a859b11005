/** Where translations are kept. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cachedDataVersionTag } from "node:v8";
import type { DomainMemory } from "@xenoserver/cpu";
import { cacheDir } from "../guest/cache.ts";
import { bundledEngine } from "../program.ts";

export interface TranslationsPlace {
  readonly folder: string;
  /** Tells engines apart that translate differently. */
  readonly engine: string;
}

/** XENO_TRANSLATIONS names a folder, 0 for none; undefined where nothing is kept. */
export function translationsPlace(env: NodeJS.ProcessEnv = process.env): TranslationsPlace | undefined {
  const named = env["XENO_TRANSLATIONS"];
  if (named === "0") return undefined;
  return { folder: named || join(cacheDir(env), "translations"), engine: bundledEngine() ?? engineDigest() };
}

/** The file for a domain: one for each engine, V8 with its flags on such a processor, and width of addresses. */
export function translationsPath({ folder, engine }: TranslationsPlace, { layout }: DomainMemory): string {
  const memory = layout.addressType === "i64" ? `i64-${layout.totalBytes}` : "i32";
  return join(folder, `${nameOf(engine)}-${memory}.kept`);
}
/** The file for an engine's own module. @param key  what that depends on */
export function enginePath({ folder, engine }: TranslationsPlace, key: string): string {
  return join(folder, `${nameOf(engine, key)}-engine.kept`);
}
/** Of all that machine code depends on. */
function nameOf(engine: string, key = ""): string {
  const digest = createHash("sha256").update(`${engine} ${cachedDataVersionTag()} ${key}`).digest("hex");
  return digest.slice(0, 16);
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
