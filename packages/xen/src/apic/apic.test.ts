import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { Field, VcpuField, VcpuLife } from "../domain/layout.ts";
import { markUpcallPending } from "../evtchn/upcall.ts";
import { Msrs } from "../msr/msrs.ts";
import { TestDomain } from "../testing/test-domain.ts";
import { FakeClock } from "../time/clock.ts";
import { fireDueTimers, nextDeadlineNs } from "../time/timers.ts";
import { LocalApic } from "./local-apic.ts";
import { postVector } from "./post.ts";
import { ApicReg, SVR_ENABLE } from "./registers.ts";

let guest: TestDomain;
let apics: LocalApic[];
let msrs: Msrs[];
let clock: FakeClock;

beforeEach(() => {
  clock = new FakeClock(1000);
  guest = new TestDomain({ nrVcpus: 3 });
  apics = guest.domain.vcpus.map((record) => new LocalApic(guest.domain, record, clock));
  msrs = guest.domain.vcpus.map((record, n) => new Msrs(guest.domain, record, apics[n], () => true));
  for (const apic of apics) apic.write(ApicReg.svr, SVR_ENABLE | 0xff);
});

const goX2apic = (id: number): void => {
  assert.ok(msrs[id].write(0x1b, (0xfee00c00 | (id === 0 ? 0x100 : 0)) >>> 0, 0));
};
/** Takes all that is deliverable. */
function takeAll(apic: LocalApic): number[] {
  const vectors: number[] = [];
  while (apic.hasPending()) vectors.push(apic.acknowledge());
  return vectors;
}

describe("priorities", () => {
  test("the highest vector comes first; its class blocks lower ones until its end", () => {
    for (const vector of [0x31, 0x45, 0x43]) postVector(guest.domain.vcpus[0], vector);
    assert.deepEqual(takeAll(apics[0]), [0x45]);
    assert.equal(apics[0].read(ApicReg.isr + 0x20), 1 << 5);
    apics[0].write(ApicReg.eoi, 0);
    assert.deepEqual(takeAll(apics[0]), [0x43]);
    apics[0].write(ApicReg.eoi, 0);
    assert.deepEqual(takeAll(apics[0]), [0x31]);
  });

  test("a higher class interrupts a lower one", () => {
    postVector(guest.domain.vcpus[0], 0x31);
    assert.equal(apics[0].acknowledge(), 0x31);
    postVector(guest.domain.vcpus[0], 0x80);
    assert.equal(apics[0].acknowledge(), 0x80);
    assert.equal(apics[0].read(ApicReg.ppr), 0x80);
  });

  test("the task priority holds vectors back", () => {
    apics[0].write(ApicReg.tpr, 0x50);
    postVector(guest.domain.vcpus[0], 0x5f);
    assert.equal(apics[0].hasPending(), false);
    apics[0].write(ApicReg.tpr, 0x4f);
    assert.equal(apics[0].acknowledge(), 0x5f);
  });

  test("a disabled APIC delivers nothing, and illegal vectors are dropped", () => {
    apics[0].write(ApicReg.svr, 0xff);
    postVector(guest.domain.vcpus[0], 0x40);
    assert.equal(apics[0].hasPending(), false);
    apics[0].write(ApicReg.svr, SVR_ENABLE | 0xff);
    postVector(guest.domain.vcpus[0], 15);
    assert.deepEqual(takeAll(apics[0]), [0x40]);
  });
});

describe("interprocessor interrupts", () => {
  test("reach an APIC id, itself, all, and all others", () => {
    const send = (lo: number, destination: number): void => {
      apics[0].write(ApicReg.icrHi, (destination << 24) >>> 0);
      apics[0].write(ApicReg.icrLo, lo);
    };
    send(0x40, 2);
    send(0x41 | (1 << 18), 0);
    send(0x42 | (2 << 18), 0);
    send(0x43 | (3 << 18), 0);
    send(0x44, 0xff);
    const pending = (id: number): number[] => {
      const vectors: number[] = [];
      for (let vector = 255; vector >= 0; vector--) {
        if (guest.domain.vcpus[id].get(VcpuField.irr + (vector >>> 5)) & (1 << (vector & 31))) vectors.push(vector);
      }
      return vectors;
    };
    assert.deepEqual(pending(0), [0x44, 0x42, 0x41]);
    assert.deepEqual(pending(1), [0x44, 0x43, 0x42, 0x40]);
    assert.deepEqual(pending(2), [0x44, 0x43, 0x42]);
  });

  test("a non-maskable one waits whatever the APIC's priority is", () => {
    apics[0].write(ApicReg.icrHi, (2 << 24) >>> 0);
    apics[0].write(ApicReg.icrLo, 4 << 8);
    assert.deepEqual([apics[0].hasNmi, apics[1].hasNmi], [false, true]);
    apics[1].takeNmi();
    assert.equal(apics[1].hasNmi, false);
  });

  test("logical destinations in x2APIC mode are a cluster and a set", () => {
    for (const id of [0, 1, 2]) goX2apic(id);
    assert.deepEqual(msrs[2].read(0x80d), { lo: 1 << 4, hi: 0 }, "APIC id 4: bit 4 of cluster 0");
    assert.ok(msrs[0].write(0x830, 0x50 | (1 << 11), (1 << 4) | (1 << 2)));
    assert.deepEqual([apics[0].hasPending(), apics[1].hasPending(), apics[2].hasPending()], [false, true, true]);
  });

  test("INIT and a startup IPI are left for the other vcpu's thread to take", () => {
    goX2apic(0);
    msrs[0].write(0x830, 0x4500, 2);
    msrs[0].write(0x830, 0x4699, 2);
    const record = guest.domain.vcpus[1];
    assert.equal(record.get(VcpuField.init), 1);
    assert.equal(record.get(VcpuField.sipi), 0x199);
    assert.equal(record.get(VcpuField.life), VcpuLife.uninitialised);
    assert.equal(guest.domain.vcpus[2].get(VcpuField.init), 0);
  });

  test("a startup IPI to a running vcpu is ignored, and so is the INIT that only ends INIT", () => {
    goX2apic(0);
    const record = guest.domain.vcpus[1];
    record.set(VcpuField.life, VcpuLife.online);
    msrs[0].write(0x830, 0x4699, 2);
    assert.equal(record.get(VcpuField.sipi), 0);
    msrs[0].write(0x830, 0x8500, 2);
    assert.equal(record.get(VcpuField.init), 0);
  });
});

describe("event upcalls", () => {
  test("by callback vector: for as long as they are pending, and without the APIC", () => {
    guest.domain.set(Field.callbackVector, 0xf3);
    const record = guest.domain.vcpus[0];
    assert.equal(apics[0].hasPending(), false);
    markUpcallPending(guest.domain, record);
    assert.ok(apics[0].hasPending());
    assert.equal(apics[0].acknowledge(), 0xf3);
    assert.ok(apics[0].hasPending(), "the guest has not cleared the flag");
    assert.equal(apics[0].read(ApicReg.isr + 0x70), 0);
    guest.domain.guest.words[record.wordAt(VcpuField.vcpuInfoWord)] = 0;
    assert.equal(apics[0].hasPending(), false);
  });

  test("by vector of the vcpu: once, through the APIC", () => {
    const record = guest.domain.vcpus[1];
    record.set(VcpuField.upcallVector, 0xf3);
    markUpcallPending(guest.domain, record);
    assert.deepEqual(takeAll(apics[1]), [0xf3]);
    assert.equal(apics[1].read(ApicReg.isr + 0x70), 1 << 19);
    markUpcallPending(guest.domain, record);
    assert.equal(apics[1].hasPending(), false, "already told");
  });
});

describe("modes", () => {
  test("x2APIC registers exist in x2APIC mode only, and there is no way back but off", () => {
    assert.equal(msrs[0].read(0x802), undefined);
    goX2apic(0);
    assert.deepEqual(msrs[0].read(0x802), { lo: 0, hi: 0 });
    assert.equal(msrs[0].write(0x1b, 0xfee00900, 0), false);
    assert.equal(msrs[0].write(0x80b, 1, 0), false, "EOI takes zero only");
    assert.equal(msrs[0].read(0x80e), undefined, "no destination format");
    assert.ok(msrs[0].write(0x1b, 0xfee00100, 0));
    assert.equal(msrs[0].write(0x1b, 0xfee00d00, 0), false, "not straight to x2APIC");
    assert.ok(msrs[0].write(0x1b, 0xfee00900, 0));
    assert.equal(msrs[0].write(0x1b, 0xfed00900, 0), false, "the page stays");
  });

  test("id and version are where a kernel reads them first", () => {
    assert.equal(apics[2].read(ApicReg.id), 4 << 24);
    assert.equal(apics[2].read(ApicReg.version), 0x50014);
    assert.equal(apics[2].read(0x20 + 0x1000), undefined);
  });
});

describe("the timer", () => {
  const [oneShot, periodic, deadline] = [0x40, 0x20040, 0x40040];
  const pass = (ns: number): number[] => {
    clock.advance(ns);
    fireDueTimers(guest.domain, guest.domain.vcpus[0], clock.now);
    const taken = takeAll(apics[0]);
    apics[0].write(ApicReg.eoi, 0);
    return taken;
  };

  test("counts down once, a step every so many nanoseconds", () => {
    const apic = apics[0];
    apic.write(ApicReg.lvtTimer, oneShot);
    apic.write(ApicReg.timerDivide, 0b0011); // by 16
    apic.write(ApicReg.timerInitial, 100);
    assert.equal(nextDeadlineNs(guest.domain.vcpus[0]), 2600);
    assert.deepEqual(pass(800), []);
    assert.equal(apic.read(ApicReg.timerCurrent), 50);
    assert.deepEqual(pass(799), []);
    assert.deepEqual(pass(1), [0x40]);
    assert.equal(apic.read(ApicReg.timerCurrent), 0);
    assert.deepEqual(pass(10_000), []);
  });

  test("divides by 1 to 128", () => {
    apics[0].write(ApicReg.lvtTimer, oneShot);
    const divisors = [0b1011, 0b0000, 0b0001, 0b0010, 0b0011, 0b1000, 0b1001, 0b1010].map((written) => {
      apics[0].write(ApicReg.timerDivide, written);
      apics[0].write(ApicReg.timerInitial, 10);
      return (nextDeadlineNs(guest.domain.vcpus[0]) - clock.now) / 10;
    });
    assert.deepEqual(divisors, [1, 2, 4, 8, 16, 32, 64, 128]);
  });

  test("goes on by itself, and what is late comes once", () => {
    const apic = apics[0];
    apic.write(ApicReg.lvtTimer, periodic);
    apic.write(ApicReg.timerDivide, 0b1011);
    apic.write(ApicReg.timerInitial, 500);
    assert.deepEqual(
      [pass(500), pass(499), pass(1), pass(1750), pass(249), pass(1)],
      [[0x40], [], [0x40], [0x40], [], [0x40]],
    );
    apic.write(ApicReg.timerInitial, 0);
    assert.deepEqual(pass(5000), []);
  });

  test("is armed with a value of the time-stamp counter, which reads 0 once it has fired", () => {
    apics[0].write(ApicReg.lvtTimer, deadline);
    assert.ok(msrs[0].write(0x6e0, 3000, 0));
    assert.deepEqual(msrs[0].read(0x6e0), { lo: 3000, hi: 0 });
    apics[0].write(ApicReg.timerInitial, 1);
    assert.deepEqual(pass(1999), [], "a count is ignored in this mode");
    assert.deepEqual(pass(1), [0x40]);
    assert.deepEqual(msrs[0].read(0x6e0), { lo: 0, hi: 0 });
    assert.ok(msrs[0].write(0x6e0, 5, 1));
    assert.deepEqual(msrs[0].read(0x6e0), { lo: 5, hi: 1 });
    assert.ok(msrs[0].write(0x6e0, -1, 1));
    assert.deepEqual(msrs[0].read(0x6e0), { lo: 0xffff_ffff, hi: 1 }, "halves are unsigned, whoever hands them over");
    apics[0].write(ApicReg.lvtTimer, oneShot);
    assert.equal(nextDeadlineNs(guest.domain.vcpus[0]), Infinity, "a change of the mode stops it");
  });

  test("that is masked passes without a vector", () => {
    apics[0].write(ApicReg.lvtTimer, oneShot | (1 << 16));
    apics[0].write(ApicReg.timerInitial, 5);
    assert.deepEqual(pass(1000), []);
    assert.equal(nextDeadlineNs(guest.domain.vcpus[0]), Infinity);
  });
});
