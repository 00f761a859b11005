import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { type Exit, type Gpa, Gpr, type VcpuStart } from "@xenoserver/cpu";
import { EvtchnOp } from "../abi/event-channel.ts";
import { SchedOp, ShutdownReason } from "../abi/sched.ts";
import { Runstate, VcpuOp } from "../abi/vcpu.ts";
import { Hypercall as H, Virq } from "../abi/xen.ts";
import { Field, VcpuField, VcpuLife } from "../domain/layout.ts";
import { HostEventChannels } from "../evtchn/host.ts";
import type { FakeVcpu } from "../testing/fake-vcpu.ts";
import { ScriptedEngine, type Step } from "../testing/scripted-engine.ts";
import { SCRATCH, TestDomain } from "../testing/test-domain.ts";
import { type Clock, FakeClock, HostClock } from "../time/clock.ts";
import { setCap } from "./cap.ts";
import { runVcpu } from "./run.ts";

let guest: TestDomain;
let starts: VcpuStart[];
let engine: ScriptedEngine;
beforeEach(() => {
  guest = new TestDomain({ nrVcpus: 2 });
  starts = [];
});

function run(steps: readonly Step[], vcpuId = 0, clock?: Clock): ShutdownReason {
  engine = new ScriptedEngine(steps);
  return runVcpu({
    engine,
    vcpu: guest.vcpus[vcpuId],
    domain: guest.domain,
    start: (_, start) => starts.push(start),
    log: (message) => guest.logs.push(message),
    debugConsole: (text) => guest.debugText.push(text),
    ...(clock && { clock }),
  });
}

/** Registers for a hypercall whose structure lies at SCRATCH. */
const call =
  (number: number, args: readonly number[], words: readonly number[] = []): Step =>
  (vcpu: FakeVcpu): Exit => {
    guest.poke(SCRATCH, words);
    vcpu.setGpr(Gpr.rax, number, 0);
    [Gpr.rdi, Gpr.rsi, Gpr.rdx].forEach((r, n) => vcpu.setGpr(r, args[n] ?? 0, 0));
    return { kind: "hypercall" };
  };
const shutdown = (reason: ShutdownReason): Step => call(H.sched_op, [SchedOp.shutdown, SCRATCH], [reason]);
const bindTimer = call(H.event_channel_op, [EvtchnOp.bind_virq, SCRATCH], [Virq.TIMER, 0, 0]);
const enableCallback: Step = () => {
  guest.domain.set(Field.callbackVector, 0xf3);
  return { kind: "preempted" };
};
/** A single shot so many nanoseconds from now. */
const timerIn =
  (ns: number, clock: Clock = new HostClock(guest.domain)): Step =>
  (vcpu) => {
    const at = clock.nowNs() + ns;
    return (
      call(H.vcpu_op, [VcpuOp.set_singleshot_timer, 0, SCRATCH], [at, Math.floor(at / 2 ** 32), 0]) as never as (
        v: FakeVcpu,
      ) => Exit
    )(vcpu);
  };

describe("the end of a domain", () => {
  for (const [name, reason] of Object.entries(ShutdownReason)) {
    test(`by SCHEDOP_shutdown: ${name}`, () => {
      assert.equal(run([shutdown(reason)]), reason);
      assert.equal(guest.domain.shutdownReason, reason);
    });
  }

  test("a triple fault is a reboot and leaves the registers in the log", () => {
    assert.equal(run([{ kind: "shutdown", reason: "triple-fault" }]), ShutdownReason.reboot);
    assert.match(guest.logs[0], /^dom7 vcpu0: triple fault\nfake vcpu 0$/);
  });

  test("something the engine cannot do is a crash", () => {
    assert.equal(run([{ kind: "fault", message: "no such instruction" }]), ShutdownReason.crash);
    assert.match(guest.logs[0], /no such instruction/);
  });

  test("when the last vcpu halts for ever the domain powers off", () => {
    assert.equal(run([{ kind: "shutdown", reason: "halted-with-interrupts-off" }]), ShutdownReason.poweroff);
  });
});

describe("waiting", () => {
  test("a halted vcpu sleeps until its timer, and its time counts as blocked", () => {
    const clock = new FakeClock(1e9);
    const waitsMs: number[] = [];
    guest.domain.vcpus[0].wait = (_, timeoutMs) => {
      waitsMs.push(timeoutMs);
      clock.advance(timeoutMs * 1e6);
    };
    const steps: Step[] = [
      bindTimer,
      enableCallback,
      timerIn(30e6, clock),
      { kind: "halt" },
      (vcpu) => {
        assert.equal(vcpu.source!.hasPending(), true);
        assert.equal(vcpu.source!.acknowledge(), 0xf3);
        return { kind: "preempted" };
      },
      shutdown(0),
    ];
    assert.equal(run(steps, 0, clock), 0);
    assert.deepEqual(waitsMs, [30]);
    assert.equal(guest.domain.vcpus[0].getF64(VcpuField.runstateTimesNsF64 + Runstate.blocked), 30e6);
  });

  test("an event that is there already ends a halt at once", () => {
    const host = new HostEventChannels(guest.domain);
    const channel = host.bindInterdomain(guest.built.consolePort, () => {})!;
    const notify: Step = () => {
      channel.notify();
      return { kind: "halt" };
    };
    assert.equal(run([enableCallback, notify, shutdown(1)]), ShutdownReason.reboot);
  });

  test("block and poll end with their event; a poll also with its time", () => {
    const host = new HostEventChannels(guest.domain);
    const channel = host.bindInterdomain(guest.built.consolePort, () => {})!;
    guest.poke(SCRATCH + 64, [guest.built.consolePort]);
    const notified: Step = () => {
      channel.notify();
      return { kind: "preempted" };
    };
    const soon = Math.floor(new HostClock(guest.domain).nowNs() + 20e6);
    const poll = (until: number): Step =>
      call(H.sched_op, [SchedOp.poll, SCRATCH], [SCRATCH + 64, 0, 1, 0, until % 2 ** 32, Math.floor(until / 2 ** 32)]);
    assert.equal(run([poll(soon), notified, poll(0), call(H.sched_op, [SchedOp.block]), shutdown(0)]), 0);
    assert.ok(new HostClock(guest.domain).nowNs() >= soon);
  });

  test("what waits for short times looks before it sleeps, unless the domain has a cap", () => {
    const brief: Step = (vcpu) => {
      const until = Math.floor(new HostClock(guest.domain).nowNs() + 30e3);
      const words = [SCRATCH + 64, 0, 0, 0, until % 2 ** 32, Math.floor(until / 2 ** 32)];
      return (call(H.sched_op, [SchedOp.poll, SCRATCH], words) as (v: FakeVcpu) => Exit)(vcpu);
    };
    const yields = (): number => {
      let count = 0;
      const config = { engine: new ScriptedEngine([...Array<Step>(300).fill(brief), shutdown(0)]), log: () => {} };
      const { domain, vcpus } = guest;
      runVcpu({ ...config, domain, vcpu: vcpus[0], start: () => {}, yieldProcessor: () => void count++ });
      return count;
    };
    assert.ok(yields() > 0);
    guest = new TestDomain({ nrVcpus: 2 });
    setCap(guest.domain, 100);
    assert.equal(yields(), 0);
  });

  test("a timer that is due while the vcpu runs fires at the next tick", () => {
    const port = 3;
    const reason = run([
      bindTimer,
      timerIn(0),
      (vcpu) => {
        assert.equal(vcpu.result, 0);
        assert.notEqual(guest.domain.guest.words[guest.domain.wordAt(Field.sharedInfoWord) + 512] & (1 << port), 0);
        return { kind: "preempted" };
      },
      shutdown(0),
    ]);
    assert.equal(reason, 0);
  });
});

describe("secondary vcpus", () => {
  test("start in real mode where the startup IPI says", () => {
    const record = guest.domain.vcpus[1];
    record.set(VcpuField.init, 1);
    record.set(VcpuField.sipi, 0x199);
    assert.equal(run([shutdown(0)], 1), 0);
    assert.deepEqual(starts, [{ mode: "real", entry: 0x99000, rbx: 0 }]);
  });

  test("one that halts for ever is down, and the domain lives on", () => {
    const other = guest.domain.vcpus[1];
    other.set(VcpuField.life, VcpuLife.online);
    const die: Step = () => {
      // The other vcpu ends the domain while this one is down.
      setImmediate(() => {});
      guest.domain.shutDown(ShutdownReason.reboot);
      return { kind: "shutdown", reason: "halted-with-interrupts-off" };
    };
    assert.equal(run([die]), ShutdownReason.reboot);
    assert.equal(guest.domain.vcpus[0].get(VcpuField.life), VcpuLife.down);
  });
});

describe("what is not there", () => {
  test("ports read as all ones, port 0xE9 collects lines", () => {
    const out = (value: number): Step => ({ kind: "pio-out", port: 0xe9, sizeBytes: 1, value });
    const check =
      (text: string): Step =>
      (vcpu) => {
        assert.equal(vcpu.completed, text);
        return { kind: "preempted" };
      };
    run([
      { kind: "pio-in", port: 0x64, sizeBytes: 1 },
      check("port ff"),
      { kind: "pio-in", port: 0xcf8, sizeBytes: 4 },
      check("port ffffffff"),
      ...[..."ok\n"].map((c) => out(c.charCodeAt(0))),
      { kind: "mmio-read", gpa: 0xb8000 as Gpa, sizeBytes: 4 },
      check("mmio ffffffff:ffffffff"),
      { kind: "mmio-read", gpa: 0xfee00030 as Gpa, sizeBytes: 4 },
      check("mmio 0:50014"),
      { kind: "msr-read", index: 0x48 },
      check("#GP"),
      { kind: "msr-read", index: 0x1b },
      check("msr 0:fee00900"),
      { kind: "msr-write", index: 0x48, lo: 1, hi: 0 },
      check("#GP"),
      shutdown(0),
    ]);
    assert.deepEqual(guest.debugText, ["ok\n"]);
    assert.deepEqual(guest.logs, []);
  });

  test("translations are dropped when the map changed, on every vcpu", () => {
    run([call(H.memory_op, [7, SCRATCH], [0x7ff0, 0, 0, 0, 1, 0]), { kind: "preempted" }, shutdown(0)]);
    assert.equal(engine.flushes, 1);
  });
});
