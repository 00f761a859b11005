// Entry of `npm start` and `npm test` in a fresh clone: installs the dependencies if they are missing or stale, then
// runs the project's command under the pinned Node. Plain JavaScript, as the machine's own Node (18 or later) runs it.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ENVIRONMENT, findNode, nodePackage, pinnedVersion, ROOT, run, runUnderPinnedNode } from "./pinned-node.mjs";

const COMMANDS = {
  start: ["apps/cli/src/main.ts", "try", "--demo"],
  xeno: ["apps/cli/src/main.ts"],
  test: ["scripts/check.ts"],
};

/** Why the installed packages are not those of the lock file; undefined if they are. */
function staleness() {
  const installed = join(ROOT, "node_modules", ".package-lock.json");
  if (!existsSync(installed)) return "nothing is installed yet";
  const read = (path) => JSON.parse(readFileSync(path, "utf8")).packages;
  const have = read(installed);
  for (const [path, wanted] of Object.entries(read(join(ROOT, "package-lock.json")))) {
    if (wanted.link && have[path] === undefined) return `${path.slice("node_modules/".length)} is missing`;
    if (!path.startsWith("node_modules/") || wanted.link || (wanted.optional && have[path] === undefined)) continue;
    if (have[path]?.version !== wanted.version) {
      return `${path.slice("node_modules/".length)} is ${have[path]?.version ?? "missing"}, expected ${wanted.version}`;
    }
  }
  return findNode() === undefined ? `Node ${pinnedVersion()} is missing` : undefined;
}

async function install(reason) {
  if (nodePackage() === undefined && findNode() === undefined) {
    fail(
      `no Node ${pinnedVersion()} is published for ${process.platform} on ${process.arch}; run this with Node 26 or later`,
    );
  }
  console.error(`installing dependencies (${reason}) …`);
  const fresh = !existsSync(join(ROOT, "node_modules"));
  const args = [fresh ? "ci" : "install", "--no-audit", "--no-fund", "--loglevel=error"];
  // Within `npm start`, npm's own program is named here, which also works where npm is a shell script.
  const npm = process.env.npm_execpath;
  const begin = Date.now();
  const status = npm?.endsWith(".js")
    ? await run(process.execPath, [npm, ...args], { cwd: ROOT })
    : await run("npm", args, { cwd: ROOT, shell: process.platform === "win32" });
  const left = status === 0 ? staleness() : `npm ${args[0]} ended with status ${status}`;
  if (left !== undefined) fail(`dependencies are not installed: ${left}; is the package registry reachable?`);
  await precompile();
  console.error(`installed in ${((Date.now() - begin) / 1000).toFixed(1)} s`);
}

/** What fails here fails with a better message when it is needed. */
async function precompile() {
  const { path, flags } = findNode();
  const options = { stdio: "ignore", env: { ...ENVIRONMENT, ...process.env } };
  await run(path, [...flags, join(ROOT, "scripts", "precompile.ts")], options);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

const [command, ...args] = process.argv.slice(2);
const target = command === "run" ? args.splice(0, 1) : COMMANDS[command];
if (target?.[0] === undefined) fail(`bootstrap: unknown command ${command}, expected start, xeno, test or run SCRIPT`);
const reason = staleness();
if (reason !== undefined) await install(reason);
// What measures and checks the project is to run what users run.
else if (command === "run") await precompile();
await runUnderPinnedNode(join(ROOT, target[0]), [...target.slice(1), ...args]);
