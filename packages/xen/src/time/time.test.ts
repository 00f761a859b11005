import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { Gva } from "@xenoserver/cpu";
import { EvtchnOp } from "../abi/event-channel.ts";
import { Runstate } from "../abi/vcpu.ts";
import { Hypercall, SHARED_INFO_64, Virq } from "../abi/xen.ts";
import { Field, VcpuField } from "../domain/layout.ts";
import { TwoLevelEvents } from "../testing/guest-events.ts";
import { SCRATCH, TestDomain } from "../testing/test-domain.ts";
import { HostClock, setSystemTime } from "./clock.ts";
import { publishVcpuTime } from "./pvclock.ts";
import { changeRunstate, encodeRunstate, publishRunstate } from "./runstate.ts";
import { fireDueTimers, nextDeadlineNs, setPeriodic, setSingleshot } from "./timers.ts";
import { publishWallClock } from "./wallclock.ts";

let guest: TestDomain;
beforeEach(() => {
  guest = new TestDomain({ nrVcpus: 2 });
});

describe("the clock", () => {
  test("counts from the domain's start, exactly, whatever the host's uptime", () => {
    let now: [number, number] = [40_000_000, 999_999_999];
    const clock = new HostClock(guest.domain, () => now);
    setSystemTime(guest.domain, 0, () => now);
    assert.equal(clock.nowNs(), 0);
    now = [40_000_001, 1];
    assert.equal(clock.nowNs(), 2);
    now = [40_086_401, 0];
    assert.equal(clock.nowNs(), 86_400 * 1e9 + 1);
  });

  test("goes on from where a saved domain stood", () => {
    let now: [number, number] = [100, 500];
    setSystemTime(guest.domain, 123_456_789, () => now);
    const clock = new HostClock(guest.domain, () => now);
    now = [101, 500];
    assert.equal(clock.nowNs(), 1_123_456_789);
  });

  test("two threads' clocks agree with the real source", () => {
    const [a, b] = [new HostClock(guest.domain), new HostClock(guest.domain)];
    const times = [a.nowNs(), b.nowNs(), a.nowNs(), b.nowNs()];
    assert.deepEqual(
      times,
      times.toSorted((x, y) => x - y),
    );
  });
});

describe("pvclock", () => {
  /** The guest's arithmetic on a clock record. */
  function systemTime(tsc: bigint, words: Int32Array, at: number): bigint {
    const timestamp = BigInt(words[at + 2] >>> 0) | (BigInt(words[at + 3] >>> 0) << 32n);
    const base = BigInt(words[at + 4] >>> 0) | (BigInt(words[at + 5] >>> 0) << 32n);
    const shift = BigInt((words[at + 7] << 24) >> 24);
    const delta = (tsc - timestamp) << shift;
    return base + ((delta * BigInt(words[at + 6] >>> 0)) >> 32n);
  }

  test("turns a TSC of nanoseconds into the same system time, for ever", () => {
    const record = guest.domain.vcpus[1];
    const at = record.wordAt(VcpuField.vcpuInfoWord) + 8;
    const words = guest.domain.guest.words;
    for (const tsc of [0n, 1n, 123_456_789n, 10n ** 18n]) assert.equal(systemTime(tsc, words, at), tsc);
    assert.equal(((1_000_000n << 32n) / BigInt(words[at + 6] >>> 0)) >> 1n, 1_000_000n, "Linux computes 1 GHz");
  });

  test("each publication ends with a new even version", () => {
    const record = guest.domain.vcpus[0];
    const at = record.wordAt(VcpuField.vcpuInfoWord) + 8;
    const before = guest.domain.guest.words[at];
    publishVcpuTime(guest.domain, record);
    assert.equal(guest.domain.guest.words[at], before + 2);
    assert.equal(before & 1, 0);
  });
});

test("the wall clock is the Unix time at system time zero", () => {
  guest.clock.advance(5 * 1e9 + 250);
  publishWallClock(guest.domain, guest.clock);
  const bytes = guest.memory.frameBytes(guest.domain.sharedInfoFrame);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  assert.equal(view.getUint32(SHARED_INFO_64.wc_sec, true), 1_700_000_000);
  assert.equal(view.getUint32(SHARED_INFO_64.wc_version, true) & 1, 0);
});

describe("runstates", () => {
  test("the four times add up to the time that passed", () => {
    const record = guest.domain.vcpus[0];
    changeRunstate(record, Runstate.running, 100);
    changeRunstate(record, Runstate.blocked, 350);
    changeRunstate(record, Runstate.running, 1000);
    const view = new DataView(encodeRunstate(record, 1200, true).buffer);
    assert.equal(view.getInt32(0, true), Runstate.running);
    assert.equal(view.getUint32(8, true), 1000, "entered at");
    const times = [0, 1, 2, 3].map((n) => view.getUint32(16 + n * 8, true));
    assert.deepEqual(times, [250 + 200, 0, 650, 100]);
  });

  test("32-bit guests have the times four bytes earlier", () => {
    const record = guest.domain.vcpus[0];
    changeRunstate(record, Runstate.running, 7);
    const view = new DataView(encodeRunstate(record, 9, false).buffer);
    assert.equal(view.getUint32(4, true), 7);
    assert.equal(view.getUint32(12, true), 2);
  });

  test("the update flag is set while the copy changes, if the guest asked for it", () => {
    const record = guest.domain.vcpus[0];
    record.setF64(VcpuField.runstateAreaF64, SCRATCH);
    record.set(VcpuField.runstateRegistered, 1);
    guest.domain.set(Field.vmAssist, 1 << 5);
    const seen: number[] = [];
    const vcpu = guest.vcpus[0];
    const write = vcpu.writeLinear.bind(vcpu);
    const area = new Uint8Array(48);
    vcpu.writeLinear = (at, from) => {
      const written = write(at, from);
      assert.equal(vcpu.readLinear(SCRATCH as Gva, area), true);
      seen.push(area[15]);
      return written;
    };
    publishRunstate(guest.domain, record, vcpu, 10);
    assert.deepEqual(seen, [0x80, 0]);
    assert.deepEqual(area, encodeRunstate(record, 10, true));
  });
});

describe("timers", () => {
  function bindTimer(): number {
    guest.poke(SCRATCH, [Virq.TIMER, 0, 0]);
    assert.equal(guest.hypercall(Hypercall.event_channel_op, [EvtchnOp.bind_virq, SCRATCH]), 0);
    return guest.peek(SCRATCH + 8);
  }

  test("a single shot raises VIRQ_TIMER once, when it is due", () => {
    const port = bindTimer();
    const record = guest.domain.vcpus[0];
    const events = new TwoLevelEvents(guest.domain);
    setSingleshot(record, 1000);
    fireDueTimers(guest.domain, record, 999);
    assert.deepEqual(events.handleUpcall(0), []);
    fireDueTimers(guest.domain, record, 1000);
    assert.deepEqual(events.handleUpcall(0), [port]);
    fireDueTimers(guest.domain, record, 2000);
    assert.deepEqual(events.handleUpcall(0), []);
    assert.equal(nextDeadlineNs(record), Infinity);
  });

  test("a periodic timer keeps its phase and does not catch up", () => {
    bindTimer();
    const record = guest.domain.vcpus[0];
    setPeriodic(record, 100, 0);
    assert.equal(nextDeadlineNs(record), 100);
    fireDueTimers(guest.domain, record, 350);
    assert.equal(nextDeadlineNs(record), 400);
    setPeriodic(record, 0, 350);
    assert.equal(nextDeadlineNs(record), Infinity);
  });

  test("the timer of a vcpu is bound once, and free again after the port is closed", () => {
    const port = bindTimer();
    guest.poke(SCRATCH, [Virq.TIMER, 0, 0]);
    assert.equal(guest.hypercall(Hypercall.event_channel_op, [EvtchnOp.bind_virq, SCRATCH]), -17);
    guest.poke(SCRATCH, [port]);
    assert.equal(guest.hypercall(Hypercall.event_channel_op, [EvtchnOp.close, SCRATCH]), 0);
    assert.equal(bindTimer(), port);
  });

  test("without a port nothing happens", () => {
    setSingleshot(guest.domain.vcpus[1], 5);
    fireDueTimers(guest.domain, guest.domain.vcpus[1], 10);
    assert.equal(nextDeadlineNs(guest.domain.vcpus[1]), Infinity);
  });
});
