/** Commands and files in the guests of domains that the agent runs. Skipped where no package source can be reached. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentClient, agentHome } from "@xenoserver/agent/index.ts";
import { spinGuest } from "@xenoserver/testkit";
import { AGENT_GUEST } from "@xenoserver/toolstack/testing/agent-guest.ts";
import { DebianGuest } from "@xenoserver/toolstack/testing/debian-guest.ts";
import { copyEnd } from "./guest-copy.ts";
import { type Outcome, signalAfter, XENO, type XenoOptions, xeno } from "./test-process.ts";

const folder = mkdtempSync(join(tmpdir(), "xeno-exec-"));
const [disk, spin, noise] = ["disk.img", "spin", "noise"].map((name) => join(folder, name)) as [string, string, string];
const [home, other] = [join(folder, "agent"), join(folder, "other")];
const guest = await DebianGuest.open();
const skip = typeof guest === "string" ? guest : false;

const run = (args: readonly string[], options: XenoOptions = {}): Promise<Outcome> =>
  xeno(args, { ...options, env: { XENO_AGENT_HOME: home, ...options.env } });
const exec = (...command: string[]): Promise<Outcome> => run(["exec", "guest", "--wait", "60", "--", ...command]);
const sh = (script: string): Promise<Outcome> => exec("sh", "-c", script);
async function ok(outcome: Promise<Outcome>): Promise<string> {
  const { status, stdout, stderr } = await outcome;
  assert.equal(status, 0, stderr);
  return stdout;
}

before(async () => {
  if (typeof guest === "string") return;
  writeFileSync(disk, "");
  truncateSync(disk, 16 << 20);
  writeFileSync(spin, spinGuest());
  writeFileSync(
    noise,
    Uint8Array.from({ length: 300_001 }, (_, n) => (n * 31 + (n >> 7)) & 0xff),
    { mode: 0o640 },
  );
  const { kernel, ramdisk } = await guest.config({ ...AGENT_GUEST, modules: ["xen-blkfront"] });
  const settings = ["name=guest", `kernel=${kernel}`, `ramdisk=${ramdisk}`, "memory=160", "vcpus=1"];
  await ok(run(["create", ...settings, "cmdline=console=hvc0 quiet", `disk=['${disk},raw,xvda']`, "--overcommit"]));
});
after(async () => {
  for (const env of [{ XENO_AGENT_HOME: home }, { XENO_AGENT_HOME: other }]) {
    if (!existsSync(env.XENO_AGENT_HOME)) continue;
    for (const name of ["guest", "mute"]) await xeno(["destroy", name], { env });
    await xeno(["agent", "stop"], { env });
    while (await new AgentClient(agentHome(env).socket).isThere()) await sleep(10);
  }
  rmSync(folder, { recursive: true });
});

test("what is in a domain, and what is here", () => {
  assert.deepEqual(copyEnd("guest:/etc/hosts"), { domain: "guest", path: "/etc/hosts" });
  assert.deepEqual(copyEnd("./a:b"), { path: "./a:b" });
  assert.deepEqual(copyEnd("-"), { path: "-" });
});

describe("a command in a guest", { timeout: 600_000, skip }, () => {
  test("has its output, its errors, its status, its variables and its folder", async () => {
    assert.deepEqual(await sh("echo out; echo err >&2; exit 7"), { status: 7, stdout: "out\n", stderr: "err\n" });
    const where = await run([
      "exec",
      "guest",
      "-e",
      "A=b c",
      "-w",
      "/proc",
      "--",
      "sh",
      "-c",
      'echo "$A $PWD $1"',
      "sh",
      "-x",
    ]);
    assert.equal(where.stdout, "b c /proc -x\n");
    assert.equal((await sh("kill -9 $$")).status, 137);
  });

  test("gets every byte and gives it back", async () => {
    const input = readFileSync(noise).toString("base64").repeat(3);
    const { status, stdout } = await run(["exec", "guest", "--", "cat"], { input });
    assert.equal(status, 0);
    assert.equal(stdout, input);
  });

  test("flushes a disk", async () => {
    await ok(sh("dd if=/dev/urandom of=/dev/xvda bs=64k count=16 conv=fsync"));
  });

  test("is killed with the client that asked for it, and told of an interruption", async () => {
    const cut = await run(["exec", "guest", "--", "sh", "-c", "echo begun; exec sleep 1234"], {
      onOutput: signalAfter("begun", "SIGKILL"),
    });
    assert.equal(cut.status, null);
    for (const until = performance.now() + 20_000; (await sh("pgrep -f 'sleep 123[4]'")).stdout !== ""; )
      assert.ok(performance.now() < until, "it goes on without its client");
    const interrupted = await run(
      ["exec", "guest", "--", "sh", "-c", "trap 'echo told; exit 3' INT; echo begun; while :; do sleep 0.1; done"],
      {
        onOutput: signalAfter("begun", "SIGINT"),
      },
    );
    assert.deepEqual([interrupted.status, interrupted.stdout], [3, "begun\ntold\n"]);
  });

  test("has a terminal of this one's size, whose keys go there", {
    skip: spawnSync("script", ["--version"]).status === 0 ? false : "script(1) of util-linux is not here",
  }, async () => {
    const flag = join(folder, "resize");
    const script = "trap 'stty size' WINCH; trap 'echo told; exit 3' INT; tty; stty size; while :; do sleep 0.1; done";
    const xenoExec = `${process.execPath} ${XENO} exec guest -t --wait 60 -- sh -c "${script}"`;
    const resize = `(until [ -e ${flag} ]; do sleep 0.1; done; stty -F /dev/tty rows 20 cols 60) &`;
    const command = `stty rows 41 cols 101; ${resize} ${xenoExec}; echo STATUS=$?; stty -a`;
    const child = spawn("script", ["-qec", command, "/dev/null"], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, XENO_AGENT_HOME: home },
    });
    let output = "";
    let interrupted = false;
    child.stdout.on("data", (bytes: Buffer) => {
      output += String(bytes);
      if (output.includes("41 101")) writeFileSync(flag, "");
      if (interrupted || !output.includes("20 60")) return;
      interrupted = true;
      child.stdin.write("\x03");
    });
    await once(child, "close");
    assert.match(output, /\/dev\/pts\/\d+\r\n41 101\r\n/);
    assert.match(output, /20 60\r\n(.|\n)*told\r\n(.|\n)*STATUS=3/);
    assert.match(output, / icanon /);
    assert.match(output, /\nopost /);
    const { status, stderr } = await run(["exec", "-t", "guest", "--", "true"]);
    assert.deepEqual([status, stderr], [2, "xeno: exec -t: input or output is no terminal, expected both to be one\n"]);
  });

  test("that cannot be run is a sentence", async () => {
    const { status, stderr } = await exec("/no/such/program");
    assert.deepEqual([status, stderr], [1, "xeno: /no/such/program: cannot be started: no such file or directory\n"]);
    assert.match((await run(["exec", "nobody", "--", "true"])).stderr, /^xeno: domain nobody is not there\n$/);
    await ok(run(["create", "name=mute", `kernel=${spin}`, "memory=32", "--overcommit"]));
    const mute = await run(["exec", "mute", "--wait", "1", "--", "true"]);
    assert.equal(mute.status, 1);
    assert.match(mute.stderr, /^xeno: the guest's agent did not answer within 1 s: .*\n$/);
    await ok(run(["destroy", "mute"]));
  });

  test("does not hold up others, nor fill memory, when nobody takes what it writes", async () => {
    const [slow, quick] = await Promise.all([
      run(["exec", "guest", "--", "sh", "-c", "yes | head -c 3000000 | wc -c; yes | head -c 300000"]),
      sh("echo quick"),
    ]);
    assert.deepEqual([slow.status, slow.stdout.length, quick.stdout], [0, "3000000\n".length + 300_000, "quick\n"]);
  });
});

describe("a file", { timeout: 600_000, skip }, () => {
  const sum = createHash("sha256");
  test("goes in and comes out, with its mode, and into folders under its own name", async () => {
    const expected = sum.update(readFileSync(noise)).digest("hex");
    await ok(run(["cp", noise, "guest:/tmp/in"]));
    await ok(run(["cp", noise, "guest:/tmp"]));
    assert.equal(
      await ok(sh("sha256sum /tmp/in /tmp/noise; stat -c %a /tmp/in")),
      `${expected}  /tmp/in\n${expected}  /tmp/noise\n640\n`,
    );
    const out = join(folder, "out");
    mkdirSync(out);
    await ok(run(["cp", "guest:/tmp/in", out]));
    assert.ok(readFileSync(join(out, "in")).equals(readFileSync(noise)));
    await ok(run(["cp", "-", "guest:/tmp/typed"], { input: "typed" }));
    assert.equal(await ok(run(["cp", "guest:/tmp/typed", "-"])), "typed");
    assert.ok(statSync(join(out, "in")).size > 0 && readdirSync(out).length === 1);
  });

  test("that cannot be copied is a sentence, and leaves what was there", async () => {
    const refused = async (message: RegExp, ...args: string[]): Promise<void> => {
      const { status, stderr } = await run(["cp", ...args]);
      assert.notEqual(status, 0);
      assert.match(stderr, message);
    };
    await ok(sh("mkdir -p /small && mount -t tmpfs -o size=64k none /small && echo before > /small/file"));
    await refused(/^xeno: guest:\/small\/file: no space left on device\n$/, noise, "guest:/small/file");
    assert.equal(await ok(sh("cat /small/file; ls -1 /small")), "before\nfile\n");
    await refused(/^xeno: guest:\/no\/file: no such file or directory\n$/, "guest:/no/file", join(folder, "new"));
    await refused(/^xeno: .*no such file or directory\n$/, join(folder, "missing"), "guest:/tmp/x");
    await refused(/expected one of them to be in a domain/, noise, "/tmp/y");
    assert.equal(existsSync(join(folder, "new")), false);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes(".part")),
      [],
    );
  });
});

test("commands and files go on being there after a reboot, a save and a migration", {
  timeout: 600_000,
  skip,
}, async () => {
  const saved = join(folder, "saved");
  await ok(sh("echo kept > /tmp/kept"));
  const under = run(["exec", "guest", "--", "sleep", "1000"]);
  await ok(run(["save", "guest", saved]));
  assert.match((await under).stderr, /^xeno: (sleep: )?the domain ended\n$/);
  await ok(run(["restore", saved, "--overcommit"]));
  assert.equal(await ok(sh("cat /tmp/kept")), "kept\n");
  await ok(run(["migrate", "guest", other, "--overcommit"]));
  const there = await xeno(["exec", "guest", "--wait", "60", "--", "cat", "/tmp/kept"], {
    env: { XENO_AGENT_HOME: other },
  });
  assert.deepEqual([there.status, there.stdout], [0, "kept\n"]);
  const { stdout } = await xeno(
    ["exec", "guest", "--", "sh", "-c", "(sleep 1; reboot -f) >/dev/null 2>&1 & echo rebooting"],
    {
      env: { XENO_AGENT_HOME: other },
    },
  );
  assert.equal(stdout, "rebooting\n");
  await sleep(2000);
  const again = await xeno(
    ["exec", "guest", "--wait", "60", "--", "sh", "-c", "ls /tmp/kept; cut -d. -f1 /proc/uptime"],
    {
      env: { XENO_AGENT_HOME: other },
    },
  );
  assert.match(again.stderr, /No such file/);
});
