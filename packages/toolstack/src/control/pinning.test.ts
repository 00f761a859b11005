/** Vcpus' threads run on those of the host's processors that they were pinned to. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { buildGuest, dword, eax, ShutdownReason, shutdownGuest, spinGuest } from "@xenoserver/testkit";
import type { DomainProcess, ProcessPlace } from "../testing/domain-process.ts";
import { StartedProcesses } from "../testing/started-processes.ts";

const allowed = (pid: number, tid: string | number): string =>
  /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync(`/proc/${pid}/task/${tid}/status`, "utf8"))![1]!;

/** Brings vcpu 1 up by INIT and a startup IPI, as an APIC's registers have it; both spin then. */
function secondVcpuGuest(): Uint8Array {
  const code = 0x8000;
  const jumpToItself = 0xfeeb;
  const icr = 0xfee0_0300;
  return buildGuest(64, (a) => {
    for (const [to, value] of [
      [code, jumpToItself],
      [icr + 0x10, 2 << 24],
      [icr, 0x4500],
      [icr, 0x4600 | (code >>> 12)],
    ] as const)
      a.mov(eax, to).mov(dword(a.reg(0)), value);
    a.label("spin").jmp("spin");
  });
}

/** Why nothing can be pinned here. */
function missing(): string | false {
  if (process.platform !== "linux") return "threads are pinned on Linux only";
  if (spawnSync("taskset", ["--version"]).status !== 0) return "there is no taskset";
  return /^0-[1-9]/.test(allowed(process.pid, process.pid)) ? false : "processors 0 and 1 are not both to be had";
}

describe("vcpus that are pinned", { skip: missing(), timeout: 120_000 }, () => {
  let folder: string;
  const domains = new StartedProcesses();
  const whole = allowed(process.pid, process.pid);

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "xeno-pinning-"));
    writeFileSync(join(folder, "spin"), spinGuest());
    writeFileSync(join(folder, "second"), secondVcpuGuest());
  });
  after(() => rmSync(folder, { recursive: true }));
  // Those that spin would take the next ones' time.
  afterEach(() => domains.remove());

  const start = (settings = {}, changes = {}, place: ProcessPlace = {}): DomainProcess =>
    domains.start({ name: "pin", kernel: join(folder, "spin"), memory: 32, ...settings }, changes, place);
  /** By vcpu: where its thread may run. */
  function threadsOf({ child }: DomainProcess): Record<string, string> {
    const tasks = `/proc/${child.pid}/task`;
    const names = readdirSync(tasks).map((tid) => [readFileSync(`${tasks}/${tid}/comm`, "utf8").trim(), tid] as const);
    const vcpus = names.filter(([name]) => /^vcpu\d+$/.test(name));
    return Object.fromEntries(vcpus.map(([name, tid]) => [name, allowed(child.pid!, tid)]));
  }

  test("are from the start where the configuration has them, and the rest of the process is not", async () => {
    const domain = start({ vcpus: 3, cpus: ["1", "0-1,^1"] });
    const { affinity } = await (await domain.client()).call("info", {});
    assert.deepEqual(affinity, ["1", "0", "all"]);
    assert.deepEqual(threadsOf(domain), { vcpu0: "1", vcpu1: "0", vcpu2: whole });
    assert.equal(allowed(domain.child.pid!, domain.child.pid!), whole);
  });

  test("take the rest of their process along once all of them are pinned", async () => {
    const domain = start({ vcpus: 2, cpus: ["1", "1"] });
    const client = await domain.client();
    const tasks = (): string[] => readdirSync(`/proc/${domain.child.pid}/task`);
    const places = (): string[] => [...new Set(tasks().map((tid) => allowed(domain.child.pid!, tid)))];
    assert.ok(tasks().length > 5, "vcpus, main, and those that compile");
    assert.deepEqual(places(), ["1"]);
    await client.call("vcpu-pin", { vcpu: 0, cpus: "0" });
    assert.deepEqual(threadsOf(domain), { vcpu0: "0", vcpu1: "1" });
    assert.equal(allowed(domain.child.pid!, domain.child.pid!), "0-1");
    await client.call("vcpu-pin", { vcpu: "all", cpus: "0" });
    assert.deepEqual(places(), ["0"]);
    // What it may use at all is not what it was pinned to.
    await client.call("vcpu-pin", { vcpu: 1, cpus: "1" });
    await client.call("vcpu-pin", { vcpu: "all", cpus: "all" });
    assert.deepEqual(places(), [whole]);
  });

  test("go where they are pinned while they run, one or all", async () => {
    const domain = start({ vcpus: 2 });
    const client = await domain.client();
    assert.deepEqual((await client.call("info", {})).affinity, ["all", "all"]);
    assert.deepEqual((await client.call("vcpu-pin", { vcpu: 1, cpus: "1" })).affinity, ["all", "1"]);
    assert.deepEqual(threadsOf(domain), { vcpu0: whole, vcpu1: "1" });
    await client.call("vcpu-pin", { vcpu: "all", cpus: "0" });
    assert.deepEqual(threadsOf(domain), { vcpu0: "0", vcpu1: "0" });
    const { affinity } = await client.call("vcpu-pin", { vcpu: "all", cpus: "all" });
    assert.deepEqual([affinity, threadsOf(domain)], [["all", "all"], { vcpu0: whole, vcpu1: whole }]);
  });

  test("of several requests at once the last one counts", async () => {
    const domain = start();
    const client = await domain.client();
    await Promise.all(["0", "1", "0", "all", "1"].map((cpus) => client.call("vcpu-pin", { vcpu: 0, cpus })));
    assert.deepEqual([(await client.call("info", {})).affinity, threadsOf(domain)], [["1"], { vcpu0: "1" }]);
  });

  test("that start later have not run anywhere else", async () => {
    for (const [cpus, pins] of [
      [["all", "1"], []],
      [[], [{ vcpu: 1, cpus: "1" }]],
    ] as const) {
      const kernel = join(folder, "second");
      const domain = start({ kernel, vcpus: 1, maxvcpus: 2, cpus }, { paused: true });
      const client = await domain.client();
      assert.deepEqual(threadsOf(domain), { vcpu0: whole });
      for (const pin of pins) await client.call("vcpu-pin", pin);
      await client.call("unpause", {});
      while ((await client.call("info", {})).vcpus[1]!.state === "offline");
      assert.deepEqual(threadsOf(domain), { vcpu0: whole, vcpu1: "1" });
    }
  });

  test("are there again after a reboot", async () => {
    const kernel = join(folder, "once");
    writeFileSync(kernel, shutdownGuest(ShutdownReason.reboot));
    const domain = start({ kernel }, { paused: true });
    const client = await domain.client();
    await client.call("follow", {});
    const restarted = new Promise<void>((resolve) => {
      client.onEvent = ({ event }) => event === "restarted" && resolve();
    });
    await client.call("vcpu-pin", { vcpu: 0, cpus: "1" });
    // What it boots next.
    copyFileSync(join(folder, "spin"), kernel);
    await client.call("unpause", {});
    await restarted;
    assert.deepEqual([(await client.call("info", {})).affinity, threadsOf(domain)], [["1"], { vcpu0: "1" }]);
    assert.equal(allowed(domain.child.pid!, domain.child.pid!), "1");
  });

  test("are not moved by what is refused", async () => {
    const domain = start({ cpus: "1" });
    const client = await domain.client();
    const refused: [vcpu: number | "all", cpus: string, message: RegExp][] = [
      [1, "0", /^vcpu of pin is 1, expected 0 to 0, or all$/],
      [0, "9999", /^cpus of vcpu 0 has processor 9999, expected those that there are: 0-/],
      [0, "0,^0", /^cpus of vcpu 0 "0,\^0" leaves no processor, expected one at least$/],
      ["all", "some", /^cpus is "some", expected processors such as/],
    ];
    for (const [vcpu, cpus, message] of refused)
      await assert.rejects(client.call("vcpu-pin", { vcpu, cpus }), { message });
    assert.deepEqual([(await client.call("info", {})).affinity, threadsOf(domain)], [["1"], { vcpu0: "1" }]);
  });

  test("a configuration with a processor that is not there starts nothing", async () => {
    const domain = start({ cpus: "9999" });
    await assert.rejects(
      domain.client(),
      /^Error: cpus of vcpu 0 has processor 9999, expected those that there are: 0-/,
    );
    assert.equal(await domain.gone, 2);
  });

  test("without taskset a configuration with cpus is refused, and a domain without runs on", async () => {
    const place = { env: { PATH: folder } };
    const sentence = /vcpus cannot be pinned: there is no taskset, expected Linux with taskset of util-linux$/;
    const domain = start({ cpus: "1" }, {}, place);
    await assert.rejects(domain.client(), sentence);
    assert.equal(await domain.gone, 2);
    const client = await start({}, {}, place).client();
    await assert.rejects(client.call("vcpu-pin", { vcpu: 0, cpus: "1" }), sentence);
    const { affinity, state } = await client.call("info", {});
    assert.deepEqual([affinity, state], [["all"], "running"]);
  });
});
