import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { Gfn, Gpa } from "@xenoserver/cpu";
import { XenMapSpace, XenMem } from "../abi/memory.ts";
import { DOMID_SELF, Hypercall, SHARED_INFO_32, SHARED_INFO_64 } from "../abi/xen.ts";
import { Field } from "../domain/layout.ts";
import { SCRATCH, TestDomain } from "../testing/test-domain.ts";

const EPERM = -1;
const ENOENT = -2;
const EINVAL = -22;
const ENOSYS = -38;

let guest: TestDomain;
beforeEach(() => {
  guest = new TestDomain({ nrVcpus: 1 });
});

const memoryOp = (command: number, words: readonly number[]): number => {
  guest.poke(SCRATCH, words);
  return guest.hypercall(Hypercall.memory_op, [command, SCRATCH]);
};
/** 64-bit xen_add_to_physmap. */
const addToPhysmap = (space: number, index: number, gfn: number, size = 0): number =>
  memoryOp(XenMem.add_to_physmap, [DOMID_SELF | (size << 16), space, index, 0, gfn, 0]);
const frameAt = (gfn: number): number => guest.memory.frameAt(gfn as Gfn);

test("the shared information page replaces RAM, can be moved, and shows the wall clock", () => {
  const before = guest.domain.get(Field.currentPages);
  assert.equal(addToPhysmap(XenMapSpace.shared_info, 0, 1), 0);
  assert.equal(frameAt(1), guest.domain.sharedInfoFrame);
  assert.equal(guest.domain.get(Field.currentPages), before - 1, "the page of RAM is gone");
  assert.equal(guest.peek(0x1000 + SHARED_INFO_64.wc_sec), 1_700_000_000);
  assert.equal(addToPhysmap(XenMapSpace.shared_info, 0, 2), 0);
  assert.equal(frameAt(1), -1);
  assert.equal(frameAt(2), guest.domain.sharedInfoFrame);
  assert.equal(addToPhysmap(XenMapSpace.shared_info, 1, 3), EINVAL);
});

test("32-bit code has its own structure, and its layout of the page from then on", () => {
  guest.vcpus[0].is64 = false;
  const result = memoryOp(XenMem.add_to_physmap, [DOMID_SELF, XenMapSpace.shared_info, 0, 5]);
  assert.equal(result, 0);
  assert.equal(frameAt(5), guest.domain.sharedInfoFrame);
  assert.equal(guest.domain.sharedInfoLayout, SHARED_INFO_32);
  assert.equal(guest.peek(0x5000 + SHARED_INFO_32.wc_sec), 1_700_000_000);
});

test("grant frames appear where the guest wants them, up to 64", () => {
  assert.equal(addToPhysmap(XenMapSpace.grant_table, 0, 0x10), 0);
  assert.equal(addToPhysmap(XenMapSpace.grant_table, 3, 0x13), 0);
  assert.equal(guest.domain.get(Field.nrGrantFrames), 4);
  assert.equal(guest.peek(0x10000 + 4), 0xfefff, "entry 0 grants the console page");
  assert.equal(addToPhysmap(XenMapSpace.grant_table, 64, 0x14), EINVAL);
  assert.equal(addToPhysmap(XenMapSpace.grant_table, 0x80000000, 0x14), EINVAL);
});

test("RAM can be moved, one page or a range", () => {
  const frames = [0x20, 0x21].map(frameAt);
  assert.equal(addToPhysmap(XenMapSpace.gmfn_range, 0x20, 0x30, 2), 0);
  assert.deepEqual([0x30, 0x31].map(frameAt), frames);
  assert.equal(frameAt(0x20), -1);
  assert.equal(addToPhysmap(XenMapSpace.gmfn, 0xfefff, 0x32), EINVAL, "special pages stay");
  assert.equal(addToPhysmap(XenMapSpace.gmfn_range, 0x20, 0x30, 2000), -7, "not more than one call may take");
});

test("a page can be shown behind the first 4 GiB", () => {
  assert.equal(addToPhysmap(XenMapSpace.shared_info, 0, 0x100000), 0);
  assert.equal(frameAt(0x100000), guest.domain.sharedInfoFrame);
});

test("other domains and impossible places are refused", () => {
  assert.equal(memoryOp(XenMem.add_to_physmap, [5, 0, 0, 0, 1, 0]), EPERM);
  assert.equal(addToPhysmap(XenMapSpace.shared_info, 0, 0x8000000), EINVAL, "512 GiB is more than there can be");
  assert.equal(addToPhysmap(XenMapSpace.shared_info, 0, 0xffffffff), EINVAL);
  assert.equal(addToPhysmap(XenMapSpace.gmfn_foreign, 0, 1), ENOSYS);
});

test("a balloon gives pages back and takes them again, within the maximum", () => {
  const pages = guest.domain.get(Field.currentPages);
  const request = [SCRATCH + 256, 0, 3, 0, 0, 0, DOMID_SELF, 0];
  guest.poke(SCRATCH + 256, [0x40, 0, 0x41, 0, 0x42, 0]);
  guest.memory.write(0x40000 as Gpa, Buffer.from("secret"));
  assert.equal(memoryOp(XenMem.decrease_reservation, request), 3);
  assert.equal(guest.domain.get(Field.currentPages), pages - 3);
  assert.equal(frameAt(0x41), -1);
  assert.equal(memoryOp(XenMem.current_reservation, [DOMID_SELF]), pages - 3);
  assert.equal(memoryOp(XenMem.populate_physmap, request), 3);
  assert.equal(guest.peek(0x40000), 0, "what comes back is empty");
  guest.poke(SCRATCH + 256, [0x43, 0, 0xa0, 0, 0xa1, 0]);
  assert.equal(memoryOp(XenMem.populate_physmap, request), 0, "no more than the maximum");
  assert.equal(memoryOp(XenMem.maximum_reservation, [DOMID_SELF]), pages);
});

test("a reservation ends at the first extent that cannot be changed", () => {
  guest.poke(SCRATCH + 256, [0x40, 0, 0xb0, 0, 0x42, 0]);
  assert.equal(memoryOp(XenMem.decrease_reservation, [SCRATCH + 256, 0, 3, 0, 0, 0, DOMID_SELF, 0]), 1);
  assert.notEqual(frameAt(0x42), -1);
});

test("one call changes a bounded number of pages and says how many", () => {
  const huge = [SCRATCH + 256, 0, 0xffffffff, 0xffffffff, 0, 0, DOMID_SELF, 0];
  guest.poke(SCRATCH + 256, [0x40, 0, 0xb0, 0]);
  assert.equal(memoryOp(XenMem.decrease_reservation, huge), 1);
});

test("a page can be taken out of the map", () => {
  assert.equal(memoryOp(XenMem.remove_from_physmap, [DOMID_SELF, 0, 0x50, 0]), 0);
  assert.equal(frameAt(0x50), -1);
  assert.equal(memoryOp(XenMem.remove_from_physmap, [DOMID_SELF, 0, 0x50, 0]), ENOENT);
});

test("the memory map is the one that the guest was built with", () => {
  guest.poke(SCRATCH, [128, 0, SCRATCH + 256, 0]);
  assert.equal(guest.hypercall(Hypercall.memory_op, [XenMem.memory_map, SCRATCH]), 0);
  assert.equal(guest.peek(SCRATCH), 4);
  const entry = (n: number): number[] => [0, 8, 16].map((at) => guest.peek(SCRATCH + 256 + n * 20 + at));
  assert.deepEqual(entry(0), [0, 0xa0000, 1]);
  assert.deepEqual(entry(1), [0x100000, 0x300000, 1]);
  assert.deepEqual(entry(3), [0xfeff8000, 0x8000, 2]);
});

test("a boot loader may replace the map, in either word size", () => {
  guest.vcpus[0].is64 = false;
  guest.poke(SCRATCH + 256, [0, 0, 0x1000, 0, 1]);
  assert.equal(memoryOp(XenMem.set_memory_map, [DOMID_SELF, 1, SCRATCH + 256]), 0);
  guest.vcpus[0].is64 = true;
  assert.equal(memoryOp(XenMem.memory_map, [128, 0, SCRATCH + 512, 0]), 0);
  assert.equal(guest.peek(SCRATCH), 1);
  assert.equal(guest.peek(SCRATCH + 512 + 8), 0x1000);
  assert.equal(memoryOp(XenMem.set_memory_map, [DOMID_SELF, 0, 65, 0, SCRATCH + 256, 0]), EINVAL);
});

test("every change of the map is announced to the vcpus", () => {
  const before = guest.domain.get(Field.physmapGeneration);
  addToPhysmap(XenMapSpace.shared_info, 0, 1);
  assert.notEqual(guest.domain.get(Field.physmapGeneration), before);
});

test("a batch maps several pages and reports on each", () => {
  const [indices, gfns, errors] = [SCRATCH + 256, SCRATCH + 512, SCRATCH + 768];
  guest.poke(indices, [0, 0, 99, 0]);
  guest.poke(gfns, [0x60, 0, 0x61, 0]);
  guest.poke(errors, [7, 7]);
  const words = [DOMID_SELF | (XenMapSpace.grant_table << 16), 2, indices, 0, gfns, 0, errors, 0];
  assert.equal(memoryOp(XenMem.add_to_physmap_batch, words), 0);
  assert.equal(guest.peek(errors), 0);
  assert.equal(guest.peek(errors + 4) | 0, EINVAL);
  assert.equal(guest.peek(0x60000 + 4), 0xfefff);
});
