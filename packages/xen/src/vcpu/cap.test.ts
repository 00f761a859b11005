import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ShutdownReason } from "../abi/sched.ts";
import { Runstate } from "../abi/vcpu.ts";
import { VcpuField } from "../domain/layout.ts";
import { ScriptedEngine } from "../testing/scripted-engine.ts";
import { TestDomain } from "../testing/test-domain.ts";
import { CAP_PERIOD_NS, chargeCap, hasCap, heldBackNs, setCap } from "./cap.ts";
import { runVcpu } from "./run.ts";

const MS = 1e6;
let guest: TestDomain;
beforeEach(() => {
  guest = new TestDomain({ nrVcpus: 2 });
});

test("without a cap nobody is held back", () => {
  const { domain } = guest;
  chargeCap(domain, 1000 * MS);
  assert.equal(hasCap(domain), false);
  assert.equal(heldBackNs(domain, 5 * MS), 0);
});

test("what a period lets a domain have is had by its vcpus together, and again in the next", () => {
  const { domain } = guest;
  setCap(domain, 50);
  assert.equal(heldBackNs(domain, 1 * MS), 0);
  chargeCap(domain, 2 * MS);
  assert.equal(heldBackNs(domain, 4 * MS), 0);
  chargeCap(domain, 3 * MS);
  assert.equal(heldBackNs(domain, 6 * MS), 4 * MS);
  assert.equal(heldBackNs(domain, CAP_PERIOD_NS), 0);
});

test("what was taken too much is paid back, and what was left over is lost", () => {
  const { domain } = guest;
  setCap(domain, 50);
  assert.equal(heldBackNs(domain, 0), 0);
  chargeCap(domain, 12 * MS);
  assert.equal(heldBackNs(domain, 13 * MS), 7 * MS, "7 ms of debt, and 5 in a period");
  assert.equal(heldBackNs(domain, 20 * MS), 0, "2 ms of it are left");
  assert.equal(heldBackNs(domain, 1000 * MS), 0);
  chargeCap(domain, 5 * MS);
  assert.equal(heldBackNs(domain, 1005 * MS), 5 * MS, "a second of rest is worth nothing");
});

test("more than 100 percent is for several processors", () => {
  const { domain } = guest;
  setCap(domain, 150);
  assert.equal(heldBackNs(domain, 0), 0);
  chargeCap(domain, 14 * MS);
  assert.equal(heldBackNs(domain, 8 * MS), 0);
  chargeCap(domain, 1 * MS);
  assert.equal(heldBackNs(domain, 8 * MS), 2 * MS);
});

test("a vcpu runs for its share, can be run while others wait, and hears of the domain's end while it waits", () => {
  const { domain } = guest;
  setCap(domain, 20);
  // Each look at the clock takes a millisecond, and so each run does.
  let nowNs = 0;
  const clock = { nowNs: () => (nowNs += MS), wallNs: () => 0 };
  const states = new Set<number>();
  let runs = 0;
  const engine = new ScriptedEngine(
    Array.from({ length: 1000 }, () => () => {
      runs++;
      states.add(domain.vcpus[0]!.get(VcpuField.runstate));
      if (nowNs > 200 * MS) domain.shutDown(ShutdownReason.poweroff);
      return { kind: "preempted" } as const;
    }),
  );
  const [vcpu] = guest.vcpus;
  assert.equal(
    runVcpu({ engine, vcpu: vcpu!, domain, start: () => {}, log: () => {}, clock }),
    ShutdownReason.poweroff,
  );
  assert.ok(runs >= 38 && runs <= 46, `${runs} runs of 1 ms in 200 ms, expected a fifth`);
  assert.deepEqual([...states], [Runstate.running]);
});
