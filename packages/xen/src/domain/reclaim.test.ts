/** Memory that a guest gave back reaches the host, but not before every vcpu has forgotten it. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { Frame, Gfn } from "@xenoserver/cpu";
import { Runstate } from "../abi/vcpu.ts";
import { TestDomain } from "../testing/test-domain.ts";
import { Field, VcpuField } from "./layout.ts";
import { depopulate, populate } from "./physmap.ts";
import { type Discard, FrameReclaimer } from "./reclaim.ts";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

let guest: TestDomain;
let discarded: number[];
let failures: string[];
beforeEach(() => {
  guest = new TestDomain({ nrVcpus: 2 });
  discarded = [];
  failures = [];
});

const keep: Discard = (first, count) => {
  for (let frame = first as number; frame < first + count; frame++) {
    discarded.push(frame);
    guest.memory.frameBytes(frame as Frame).fill(0);
  }
};
const reclaimer = (discard: Discard | undefined = keep): FrameReclaimer =>
  new FrameReclaimer(
    guest.domain,
    guest.memory,
    () => discard,
    (error) => failures.push(error.message),
  );

/** Empties gfns. @returns the frames that were there */
function giveBack(...gfns: number[]): number[] {
  const frames = gfns.map((gfn) => guest.memory.frameAt(gfn as Gfn) as number);
  for (const gfn of gfns) depopulate(guest.domain, gfn as Gfn);
  guest.domain.physmapChanged();
  return frames;
}
async function until(holds: () => boolean): Promise<void> {
  for (let n = 0; n < 500 && !holds(); n++) await sleep(10);
  assert.ok(holds());
}

test("frames go back in runs, and are zero when they are used again", async () => {
  const runs: [number, number][] = [];
  const frames = giveBack(0x110, 0x111, 0x112, 0x120);
  guest.memory.frameBytes(frames[3] as Frame).fill(7);
  const own = reclaimer((first, count) => {
    runs.push([first, count]);
    keep(first, count);
  });
  own.look();
  await until(() => discarded.length === 4);
  assert.deepEqual(runs, [
    [frames[0], 3],
    [frames[3], 1],
  ]);
  assert.ok(populate(guest.domain, 0x120 as Gfn));
  assert.ok(frames.includes(guest.memory.frameAt(0x120 as Gfn)));
  giveBack(0x121);
  own.look();
  await until(() => discarded.length === 5);
});

test("a vcpu that runs is waited for until it has forgotten its translations", async () => {
  const [record] = guest.domain.vcpus;
  record!.set(VcpuField.runstate, Runstate.running);
  record!.set(VcpuField.physmapSeen, guest.domain.get(Field.physmapGeneration));
  const frames = giveBack(0x110);
  reclaimer().look();
  await sleep(200);
  assert.deepEqual(discarded, []);
  record!.set(VcpuField.physmapSeen, guest.domain.get(Field.physmapGeneration));
  await until(() => discarded.length === 1);
  assert.deepEqual(discarded, frames);
});

test("the host's refusal is told once, and frames can be used as before", async () => {
  const own = reclaimer(() => {
    throw new Error("madvise: no");
  });
  giveBack(0x110);
  own.look();
  await until(() => failures.length === 1);
  giveBack(0x111);
  own.look();
  await sleep(100);
  assert.deepEqual(failures, ["madvise: no"]);
  assert.ok(populate(guest.domain, 0x110 as Gfn) && populate(guest.domain, 0x111 as Gfn));
});

test("what the guest registered with the hypervisor is not given back", () => {
  const frame = guest.memory.frameAt(0x115 as Gfn) as Frame;
  guest.domain.placeVcpuInfo(guest.domain.vcpus[1]!, frame, 0);
  const pages = guest.domain.get(Field.currentPages);
  giveBack(0x115);
  assert.equal(guest.memory.hasFreed, false);
  assert.equal(guest.domain.get(Field.currentPages), pages);
});
