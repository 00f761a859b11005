/** The agent's program as a process of this host, which is as good a Linux as a guest's. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { buildAgent, compilerOf } from "./build-agent.ts";
import { GuestAgent } from "./guest-agent.ts";
import { AGENT_PROGRAM } from "./program.ts";
import { AgentReader, GREETING } from "./protocol.ts";

const isHost = process.platform === "linux" && process.arch === "x64";
const isRoot = process.getuid?.() === 0;
const skip = isHost ? false : "the program is for Linux on x86-64";
const folder = mkdtempSync(join(tmpdir(), "xeno-agent-"));
after(() => rmSync(folder, { recursive: true }));

interface Served {
  readonly agent: GuestAgent;
  readonly child: ChildProcess;
}

const running: Served[] = [];

function serve(...defaults: readonly string[]): Served {
  const child = spawn(AGENT_PROGRAM, ["serve", "-", ...defaults], { stdio: ["pipe", "pipe", "inherit"] });
  const agent = new GuestAgent({ send: (bytes) => void child.stdin!.write(bytes) });
  child.stdin!.on("error", () => {});
  child.stdout!.on("data", (bytes: Buffer) => agent.receive(bytes));
  child.on("close", () => agent.close("the agent ended"));
  const served = { agent, child };
  running.push(served);
  return served;
}

function stopAll(): void {
  for (const { child } of running.splice(0)) child.kill("SIGKILL");
}

describe("the agent", { skip }, () => {
  let agent: GuestAgent;
  let child: ChildProcess;
  beforeEach(async () => {
    ({ agent, child } = serve());
    await agent.ready(10_000);
  });
  afterEach(stopAll);
  const sh = (script: string, options = {}) => agent.exec(["sh", "-c", script], options);

  test("output, errors and status of a command", async () => {
    const { status, signal, stdout, stderr } = await sh("echo out; echo err >&2; exit 7");
    assert.deepEqual([status, signal, String(stdout), String(stderr)], [7, undefined, "out\n", "err\n"]);
  });

  test("environment, folder, and arguments as they are", async () => {
    const { stdout } = await agent.exec(["sh", "-c", 'echo "$A|$PWD|$1|$#"', "sh", "a b\n'\"$", ""], {
      env: { A: "1=2" },
      cwd: "/usr",
    });
    assert.equal(String(stdout), "1=2|/usr|a b\n'\"$|2\n");
  });

  test("a terminal of its own, which knows its size, its keys and its end", async () => {
    const shell = agent.start({
      args: ["sh", "-c", 'trap "echo caught; stty size" INT; tty; stty size; read a; cat; echo "<end>"; exit 5'],
      terminal: { columns: 91, rows: 33 },
    });
    shell.stderr.resume();
    let shown = "";
    shell.stdout.on("data", (bytes: Buffer) => (shown += String(bytes)));
    const until = async (text: string): Promise<void> => {
      while (!shown.includes(text)) await once(shell.stdout, "data");
    };
    await until("33 91");
    assert.match(shown, /^\/dev\/pts\/\d+\r\n33 91\r\n/);
    shell.resize({ columns: 132, rows: 50 });
    shell.stdin.write("\x03");
    await until("50 132");
    assert.match(shown, /\^C.*caught\r\n50 132/s);
    shell.stdin.write("typed\n");
    await until("typed\r\n");
    // No line comes any more: the terminal says so by Ctrl-D.
    shell.stdin.end();
    await until("<end>");
    assert.deepEqual(await shell.exited, { status: 5 });
  });

  test("a terminal's program that is left alone hears of it", async () => {
    const shell = agent.start({ args: ["sh", "-c", "sleep 1000"], terminal: { columns: 80, rows: 24 } });
    for (const stream of [shell.stdout, shell.stderr]) stream.resume();
    await shell.started;
    shell.kill("SIGHUP");
    assert.equal((await shell.exited).signal, "SIGHUP");
    assert.throws(() => agent.start({ args: ["true"], terminal: { columns: 70000, rows: 1 } }), /has 70000 columns/);
  });

  test("every byte goes in and comes out, in any number", async () => {
    const bytes = Buffer.from(Uint8Array.from({ length: 1_000_003 }, (_, n) => (n * 7 + (n >> 8)) & 0xff));
    const { stdout, status } = await agent.exec(["cat"], { stdin: bytes });
    assert.equal(status, 0);
    assert.ok(stdout.equals(bytes));
  });

  test("many at once", async () => {
    const results = await Promise.all(
      Array.from({ length: 40 }, (_, n) => sh(`read line; echo ${n} $line; exit ${n}`, { stdin: `line ${n}\n` })),
    );
    assert.deepEqual(
      results.map(({ status, stdout }) => [status, String(stdout)]),
      results.map((_, n) => [n, `${n} line ${n}\n`]),
    );
    const more = Array.from({ length: 64 }, () => agent.start({ args: ["sleep", "100"] }));
    assert.throws(() => agent.start({ args: ["true"] }), /runs 64 processes already/);
    for (const one of more) one.kill("SIGKILL");
    await Promise.all(more.map(({ exited }) => exited));
    assert.equal((await sh("exit 3")).status, 3);
  });

  test("one whose output nobody reads holds up no other, and loses nothing", async () => {
    const slow = agent.start({ args: ["sh", "-c", "head -c 400000 /dev/zero"] });
    slow.stderr.resume();
    assert.equal((await sh("head -c 400000 /dev/zero")).stdout.length, 400_000);
    let bytes = 0;
    for await (const piece of slow.stdout) bytes += (piece as Buffer).length;
    assert.equal(bytes, 400_000);
    assert.equal((await slow.exited).status, 0);
  });

  test("one that does not read its input holds up no other", async () => {
    const deaf = agent.start({ args: ["sleep", "100"] });
    deaf.stdin.write(Buffer.alloc(100_000));
    assert.equal((await agent.exec(["cat"], { stdin: "x".repeat(50_000) })).stdout.length, 50_000);
    deaf.kill("SIGKILL");
    assert.deepEqual(await deaf.exited, { status: 137, signal: "SIGKILL" });
  });

  test("input that is left over is thrown away, as in a pipe", async () => {
    const { status, stdout } = await agent.exec(["head", "-c", "5"], { stdin: "x".repeat(200_000) });
    assert.deepEqual([status, stdout.length], [0, 5]);
  });

  test("the process ends the command, whatever goes on behind it", async () => {
    const { status, stdout } = await sh("echo begun; sleep 100 & exit 0");
    assert.deepEqual([status, String(stdout)], [0, "begun\n"]);
    await agent.exec(["pkill", "-f", "^sleep 100$"]);
  });

  test("a broken pipe ends a writer", async () => {
    assert.equal((await sh("yes | head -n 1; exit 0")).status, 0);
    assert.match(String((await sh("(yes; echo $? >&2) | head -n 1 >/dev/null")).stderr), /^(141)?\n?$/);
  });

  test("what cannot be started says why", async () => {
    await assert.rejects(
      agent.exec(["no-such-program"]),
      /no-such-program: cannot be started: no such file or directory/,
    );
    await assert.rejects(agent.exec(["/etc/passwd"]), /permission denied/);
    await assert.rejects(agent.exec(["true"], { cwd: "/nowhere" }), /no such file or directory/);
    await assert.rejects(async () => agent.exec(["a\0b"]), /has a NUL in it/);
    await assert.rejects(async () => agent.exec(["true", "x".repeat(200_000)]), /expected ≤ 131072/);
    assert.equal((await sh("exit 0")).status, 0);
  });

  test("files go in whole and come out", { skip: !isRoot && "the agent is root in a guest" }, async () => {
    const path = join(folder, "file");
    const bytes = Buffer.alloc(300_000, "some text ");
    await agent.writeFile(path, bytes, 0o750);
    assert.ok(readFileSync(path).equals(bytes));
    assert.equal(statSync(path).mode & 0o777, 0o750);
    const pieces: Uint8Array[] = [];
    for await (const piece of agent.readFile(path)) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(bytes));
    await assert.rejects(agent.writeFile("/nowhere/file", "x"), /\/nowhere\/file: no such file or directory/);
    await assert.rejects(agent.readFile("/nowhere/file").next(), /\/nowhere\/file: no such file or directory/);
  });

  test("the end of the agent is the end of its commands", async () => {
    const waiting = sh("sleep 100");
    child.kill("SIGKILL");
    await assert.rejects(waiting, /the agent ended/);
    assert.throws(() => agent.start({ args: ["true"] }), /the agent ended/);
  });
});

test("defaults hold where a command says nothing else", { skip }, async () => {
  const path = join(folder, "defaults");
  writeFileSync(path, "eA=default\0eB=kept\0c/usr\0");
  const { agent } = serve(path);
  try {
    await agent.ready(10_000);
    const run = async (options: object) => String((await agent.exec(["sh", "-c", "echo $A $B $PWD"], options)).stdout);
    assert.equal(await run({}), "default kept /usr\n");
    assert.equal(await run({ env: { A: "own" }, cwd: "/" }), "own kept /\n");
  } finally {
    stopAll();
  }
});

test("run becomes the process that a file describes", { skip }, () => {
  const path = join(folder, "spec");
  writeFileSync(path, "ash\0a-c\0aecho $A $PWD $0 $1\0aone\0atwo words\0eA=a\0c/usr\0ePATH=/bin:/usr/bin\0");
  assert.equal(execFileSync(AGENT_PROGRAM, ["run", path], { encoding: "utf8" }), "a /usr one two words\n");
  writeFileSync(path, "anothing-of-this-name\0");
  assert.throws(() => execFileSync(AGENT_PROGRAM, ["run", path], { stdio: "pipe" }), /is not in the image/);
});

test("an agent that never answers is given up", async () => {
  const agent = new GuestAgent({ send: () => {} });
  await assert.rejects(agent.ready(5), /did not answer within 0.005 s.*built without one/);
  assert.throws(() => agent.start({ args: ["true"] }), /has not answered yet/);
});

test("whatever a guest sends, the host goes on, and finds a new agent's greeting", () => {
  const greeting = Buffer.concat([Buffer.alloc(2048), GREETING, Buffer.from("01234567")]);
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 8 }), fc.boolean(), (pieces, greeted) => {
      const sent: Uint8Array[] = [];
      const agent = new GuestAgent({ send: (bytes) => sent.push(bytes) });
      if (greeted) agent.receive(greeting);
      for (const piece of pieces) agent.receive(Buffer.from([0xe7, ...piece]));
      sent.length = 0;
      agent.receive(greeting);
      assert.ok(sent.some((bytes) => Buffer.from(bytes).equals(greeting.subarray(2048))));
    }),
  );
});

test("a guest that sends more than it was asked for is cut off", async () => {
  const agent = new GuestAgent({ send: () => {} });
  agent.receive(Buffer.concat([GREETING, Buffer.from("01234567")]));
  const greedy = agent.start({ args: ["x"] });
  const frame = Buffer.concat([Buffer.from([0xe7, 3, 0, 4, 1, 0, 0, 0]), Buffer.alloc(1024)]);
  for (let n = 0; n < 65; n++) agent.receive(frame);
  await assert.rejects(greedy.exited, /more than 65536 bytes at once/);
});

test("frames come whole however they are cut", () => {
  const reader = new AgentReader();
  const bytes = Buffer.concat([GREETING, Buffer.from("01234567"), Buffer.from([0xe7, 1, 2, 0, 5, 0, 0, 0, 65, 66])]);
  const found = [...bytes].flatMap((byte) => reader.read(Uint8Array.of(byte)));
  assert.equal(found.length, 2);
  assert.deepEqual({ ...found[1], payload: [65, 66] }, { type: 1, id: 5, payload: [65, 66] });
});

test("the committed program is what its source says", { skip }, async (t) => {
  const rebuilt = join(folder, "agent");
  try {
    await buildAgent(rebuilt);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return t.skip("gcc is missing");
    throw error;
  }
  const [committed, own] = [readFileSync(AGENT_PROGRAM), readFileSync(rebuilt)];
  if (compilerOf(committed) !== compilerOf(own))
    return t.skip(`the compiler is ${compilerOf(own)}, the program was made by ${compilerOf(committed)}`);
  assert.ok(own.equals(committed), "run build-agent.ts after agent.c was changed");
});
