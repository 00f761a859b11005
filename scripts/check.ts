/**
 * The test run: types, format and lint, then every test file (the layering check is one of them).
 *
 *   npm test                      all of it
 *   npm test -- packages/xen      only the tests below these paths
 */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { join } from "node:path";
import { findNode, ROOT } from "./pinned-node.mjs";

const TEST_GLOBS = ["packages/**/*.test.ts", "apps/**/*.test.ts", "scripts/**/*.test.ts", "bench/**/*.test.ts"];

/** A test that waits for ever is to fail by its name, and the others to run: longer than any takes on a slow machine. */
const HANGS_AFTER_MS = 300_000;

interface Step {
  readonly name: string;
  readonly args: readonly string[];
}

const only = process.argv.slice(2);
const files = globSync(TEST_GLOBS, { cwd: ROOT, exclude: ["**/node_modules/**"] })
  .filter((file) => only.length === 0 || only.some((prefix) => file.startsWith(prefix)))
  .sort();
if (files.length === 0) {
  console.error(`no test file below ${only.join(", ")}`);
  process.exit(1);
}

const steps: readonly Step[] = [
  { name: "types", args: [join("node_modules", "typescript", "bin", "tsc"), "--noEmit"] },
  { name: "format and lint", args: [join("node_modules", "@biomejs", "biome", "bin", "biome"), "check"] },
  {
    name: `tests (${files.length} files)`,
    args: [
      ...(findNode()?.flags ?? []),
      ...["--test", "--test-reporter=spec", `--test-timeout=${HANGS_AFTER_MS}`, "--test-force-exit"],
      ...files,
    ],
  },
];

const results = steps.map(({ name, args }) => {
  console.log(`\n== ${name}`);
  const begin = performance.now();
  const { status } = spawnSync(process.execPath, args, { cwd: ROOT, stdio: "inherit" });
  return { name, ok: status === 0, seconds: (performance.now() - begin) / 1000 };
});

console.log("\n== summary");
for (const { name, ok, seconds } of results)
  console.log(`${ok ? "ok    " : "FAILED"} ${name} (${seconds.toFixed(1)} s)`);
process.exitCode = results.every(({ ok }) => ok) ? 0 : 1;
