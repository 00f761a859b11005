/** Imports point downward in the list of packages only, and what must run in a browser imports nothing of Node. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { ROOT } from "./pinned-node.mjs";

/** Lowest first. A package may import those before it. */
const LAYERS = [
  "wasm",
  "cpu",
  "kvm",
  "xen",
  "xenstore",
  "devices",
  "storage",
  "network",
  "migrate",
  "toolstack",
  "api",
  "agent",
  "sdk",
];
/** Only tests and tools import it. */
const TESTKIT = "testkit";
const WITHOUT_NODE = ["wasm", "cpu"];

interface Import {
  readonly file: string;
  readonly specifier: string;
}

const sources = globSync(["packages/*/**/*.{ts,mts,mjs}", "apps/*/**/*.{ts,tsx,mts,mjs}"], {
  cwd: ROOT,
  exclude: ["**/node_modules/**"],
});

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), "utf8");
  const pattern = /(?:^|\n)\s*(?:import|export)\b[^;"'`]*?["']([^"'\n]+)["']|\bimport\(\s*["']([^"'\n]+)["']/g;
  return [...text.matchAll(pattern)].map((match) => ({ file, specifier: (match[1] ?? match[2])! }));
}

/** Tests and packages' own scripts, and the folders that hold what only they use. */
const isTest = (file: string): boolean => /\.test\.ts$|\/(testing|scripts)\//.test(file);
const packageOf = (file: string): string => file.split("/")[1]!;
const imports = sources.flatMap(importsOf);

test("the layering check sees imports", () => {
  assert.ok(imports.some(({ specifier }) => specifier.startsWith("@xenoserver/")));
});

test("every package has its place in the list", () => {
  const packages = new Set(sources.filter((file) => file.startsWith("packages/")).map(packageOf));
  for (const name of packages)
    assert.ok(name === TESTKIT || LAYERS.includes(name), `packages/${name} is not in the list`);
});

test("packages import only packages below them", () => {
  const wrong = imports.filter(({ file, specifier }) => {
    const target = /^@xenoserver\/([^/]+)/.exec(specifier)?.[1];
    if (target === undefined || file.startsWith("apps/")) return false;
    const own = packageOf(file);
    if (own === target) return false;
    if (own === TESTKIT) return false;
    if (target === TESTKIT) return !isTest(file);
    // A test may bring in a higher layer as its fixture; what is shipped may not.
    return LAYERS.indexOf(target) >= LAYERS.indexOf(own) && !isTest(file);
  });
  assert.deepEqual(wrong, []);
});

test("relative imports stay within their package", () => {
  const wrong = imports.filter(({ file, specifier }) => {
    if (!specifier.startsWith(".") || !file.startsWith("packages/")) return false;
    return relative(join("packages", packageOf(file)), join(dirname(file), specifier)).startsWith("..");
  });
  assert.deepEqual(wrong, []);
});

test("what is shipped imports nothing that only tests use", () => {
  const wrong = imports.filter(
    ({ file, specifier }) => /\/testing\//.test(specifier) && file.startsWith("packages/") && !isTest(file),
  );
  assert.deepEqual(wrong, []);
});

test("the engine imports nothing of Node", () => {
  const wrong = imports.filter(
    ({ file, specifier }) =>
      file.startsWith("packages/") &&
      WITHOUT_NODE.includes(packageOf(file)) &&
      specifier.startsWith("node:") &&
      !isTest(file),
  );
  assert.deepEqual(wrong, []);
});
