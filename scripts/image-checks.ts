/**
 * A Debian from its packages to SSH, with nothing made small for a test: mmdebstrap, systemd, cloud-init and OpenSSH as they are.
 *
 *   npm run image-checks                   all of it; some half an hour
 *   npm run image-checks -- --only disks   these: life, disks
 *   npm run image-checks -- --image NAME   with an image of the user's store, which has openssh-server and cloud-init
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openDefaultStore } from "@xenoserver/storage/index.ts";
import { applyOverrides, domainConfig, parseCfg } from "@xenoserver/toolstack/cfg/index.ts";
import { bootFromImage, buildDebian, seedDisk } from "@xenoserver/toolstack/images/index.ts";
import { ConsoleSession } from "@xenoserver/toolstack/testing/guest-shell.ts";
import { checkDisks } from "./disk-checks.ts";
import { whenInterrupted } from "./interrupted.ts";

const MAC = "00:16:3e:00:00:77";
const READY_MS = 900_000;
const CLONES = 20;
const COPIED_BYTES = 4 << 20;

const { values } = parseArgs({
  options: { image: { type: "string" }, suite: { type: "string", default: "12" }, only: { type: "string" } },
});
const wants = (what: "life" | "disks"): boolean => values.only === undefined || values.only === what;
const folder = mkdtempSync(join(tmpdir(), "xeno-image-checks-"));
if (values.image === undefined) process.env["XENO_STORE"] = join(folder, "store");
const image = values.image ?? "checked";

let failures = 0;
function tell(ok: boolean, what: string): void {
  if (!ok) failures++;
  console.log(`${ok ? "ok    " : "FAILED"} ${what}`);
}

const timed = async <T>(body: () => Promise<T>): Promise<readonly [T, number]> => {
  const begin = performance.now();
  const value = await body();
  return [value, performance.now() - begin];
};
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

async function build(): Promise<void> {
  const store = await openDefaultStore();
  const packages = ["openssh-server", "cloud-init"];
  const options = { release: values.suite, name: image, packages, sizeBytes: 2 * 2 ** 30, progress: () => {} };
  const [, ms] = await timed(() => buildDebian(store, options));
  tell(true, `debian:${values.suite} was built in ${seconds(ms)}`);
}

async function clones(): Promise<void> {
  const store = await openDefaultStore();
  const { sizeBytes } = await store.describe(image);
  const took: number[] = [];
  for (let n = 0; n < CLONES; n++) {
    const [, ms] = await timed(() => store.clone(image, `clone-${n}`));
    took.push(ms);
    await store.removeOverlay(`clone-${n}`);
  }
  took.sort((a, b) => a - b);
  tell(
    true,
    `a clone of ${sizeBytes / 2 ** 30} GiB takes ${took[CLONES / 2]!.toFixed(1)} ms, at the most ${took.at(-1)!.toFixed(1)}`,
  );
}

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });

/** Beside the domain's own threads, which this one must go on serving. */
function ssh(port: number, key: string, command: string): Promise<{ status: number | null; output: string }> {
  const options = ["-i", key, "-p", String(port), "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"];
  return new Promise((resolve, reject) => {
    const child = spawn("ssh", [...options, "-oLogLevel=ERROR", "-oConnectTimeout=120", "debian@127.0.0.1", command]);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (output += String(bytes)));
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, output }));
  });
}

async function life(): Promise<void> {
  const key = join(folder, "key");
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  const address = { mac: MAC, address: "10.0.2.77/24", gateway: "10.0.2.2", nameservers: ["10.0.2.3"] };
  const sshKeys = [readFileSync(`${key}.pub`, "utf8").trim()];
  const userData = `#cloud-config\nwrite_files: [{path: /etc/told, content: "it was\\n"}]\n`;
  const seed = join(folder, "seed.iso");
  writeFileSync(seed, seedDisk({ hostname: "checked", sshKeys, userData, address }).bytes, { mode: 0o600 });
  const port = await freePort();
  const settings = parseCfg("memory = 512\nvcpus = 2\n", "image-checks");
  const name = `checks-${process.pid}`;
  applyOverrides(settings, [
    `name="${name}"`,
    `disk=["${image},image,xvda", "${seed},raw,xvdz,ro"]`,
    `vif=["mac=${MAC},ip=10.0.2.77,forward=${port}:22"]`,
  ]);
  await bootFromImage(settings);
  const [session, startMs] = await timed(() => ConsoleSession.start(domainConfig(settings, "image-checks").config));
  try {
    const agent = await session.domain.agent();
    const [, readyMs] = await timed(() => agent.ready(READY_MS));
    tell(true, `its agent answers after ${seconds(startMs + readyMs)}`);
    const sh = async (command: string) => {
      const { status, stdout, stderr } = await agent.exec(["sh", "-c", command]);
      return { status, output: `${stdout}${stderr}`.trim() };
    };
    const [first, firstMs] = await timed(() => sh("cloud-init status --wait --long"));
    tell(
      /status: done/.test(first.output),
      `cloud-init has done its work after ${seconds(firstMs)} more: ${first.output.replaceAll("\n", " · ")}`,
    );
    tell((await sh("hostname")).output === "checked", "the machine has its name");
    tell((await sh("cat /etc/told")).output === "it was", "the user's data were heard");
    tell(/10\.0\.2\.77\/24/.test((await sh("ip -4 -o addr")).output), "the machine has its address");
    const [state, stateMs] = await timed(() => sh("systemctl is-system-running --wait"));
    const failed = (await sh("systemctl --failed --no-legend")).output;
    tell(failed === "", `${state.output} after ${seconds(stateMs)} more, and no unit has failed ${failed}`);

    const bytes = Buffer.from(Uint8Array.from({ length: COPIED_BYTES }, (_, n) => (n * 7 + (n >> 8)) & 0xff));
    const [, inMs] = await timed(() => agent.writeFile("/root/copied", bytes));
    const pieces: Uint8Array[] = [];
    const [, outMs] = await timed(async () => {
      for await (const piece of agent.readFile("/root/copied")) pieces.push(piece);
    });
    const rate = (ms: number): string => `${(COPIED_BYTES / 2 ** 20 / (ms / 1000)).toFixed(2)} MiB/s`;
    tell(Buffer.concat(pieces).equals(bytes), `files come whole: ${rate(inMs)} in, ${rate(outMs)} out`);

    const [login, loginMs] = await timed(() => ssh(port, key, "id -un; uname -r"));
    tell(
      login.status === 0 && login.output.startsWith("debian\n"),
      `ssh answers in ${seconds(loginMs)}: ${login.output.trim().replaceAll("\n", " · ")}`,
    );
    if (login.status !== 0)
      console.log((await sh("systemctl status ssh ssh-host-keys; ss -tln; ls -l /etc/ssh")).output);
    await agent.powerOff();
    tell((await session.exited).reason === "poweroff", "the machine powers off when it is asked to");
  } finally {
    await session.destroy();
    await (await openDefaultStore()).removeOverlay(`${name}-xvda`);
  }
}

async function wholeLife(): Promise<void> {
  if (values.image === undefined) await build();
  await clones();
  await life();
}

const interrupted = whenInterrupted();
try {
  if (wants("life")) await Promise.race([interrupted, wholeLife()]);
  if (wants("disks")) await checkDisks(folder, tell, interrupted);
} catch (error) {
  tell(false, String(error));
} finally {
  rmSync(folder, { recursive: true });
}
console.log(failures === 0 ? "all is well" : `${failures} failed`);
// What was interrupted may still wait for something. Programs that it started end with this process.
process.exit(failures === 0 ? 0 : 1);
