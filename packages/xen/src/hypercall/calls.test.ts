import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { type Gpa, Gpr } from "@xenoserver/cpu";
import { HvmOp, HvmParam } from "../abi/hvm.ts";
import { SchedOp, ShutdownReason } from "../abi/sched.ts";
import { VcpuOp } from "../abi/vcpu.ts";
import { XenVer } from "../abi/version.ts";
import { DOMID_SELF, Hypercall as H } from "../abi/xen.ts";
import { BlockKind, Field, VcpuField } from "../domain/layout.ts";
import { SCRATCH, TestDomain } from "../testing/test-domain.ts";

const EPERM = -1;
const ENOENT = -2;
const EFAULT = -14;
const EEXIST = -17;
const EINVAL = -22;
const ENOSYS = -38;
const ETIME = -62;
/** Nothing is mapped here. */
const BAD = 0xb0000;

let guest: TestDomain;
beforeEach(() => {
  guest = new TestDomain({ nrVcpus: 2 });
});

function text(at: number, lengthBytes: number): string {
  const bytes = new Uint8Array(lengthBytes);
  guest.memory.read(at as Gpa, bytes);
  return Buffer.from(bytes).toString("latin1").replace(/\0.*/s, "");
}

describe("the calling convention", () => {
  test("user mode is refused, and a result is sign-extended in 64-bit mode only", () => {
    guest.vcpus[0].cpl = 3;
    assert.equal(guest.hypercall(H.xen_version, [0]), EPERM);
    assert.equal(guest.vcpus[0].gprHi(Gpr.rax), 0xffffffff);
    guest.vcpus[0].is64 = false;
    assert.equal(guest.hypercall(H.xen_version, [0]), EPERM);
    assert.equal(guest.vcpus[0].gprHi(Gpr.rax), 0);
  });

  test("unknown numbers and sub-operations are ENOSYS, logged once each", () => {
    assert.equal(guest.hypercall(41, []), ENOSYS);
    assert.equal(guest.hypercall(41, []), ENOSYS);
    assert.equal(guest.hypercall(H.sched_op, [6]), ENOSYS);
    assert.equal(guest.hypercall(H.sched_op, [6]), ENOSYS);
    assert.equal(guest.logs.length, 2);
    assert.match(guest.logs[0], /^dom7 vcpu0: hypercall 41 is not implemented$/);
  });

  test("the number is 64 bits wide in 64-bit mode", () => {
    assert.equal(guest.hypercall(H.xen_version + 2 ** 33, [0]), ENOSYS);
  });

  test("pointers that are not mapped or not canonical are EFAULT", () => {
    assert.equal(guest.hypercall(H.xen_version, [XenVer.extraversion, BAD]), EFAULT);
    assert.equal(guest.hypercall(H.xen_version, [XenVer.extraversion, 2 ** 50]), EFAULT);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.shutdown, BAD]), EFAULT);
  });
});

describe("xen_version", () => {
  test("is 4.17 with an extra version", () => {
    assert.equal(guest.hypercall(H.xen_version, [XenVer.version, 0]), (4 << 16) | 17);
    assert.equal(guest.hypercall(H.xen_version, [XenVer.extraversion, SCRATCH]), 0);
    assert.equal(text(SCRATCH, 16), ".0-xenoserver");
    assert.equal(guest.hypercall(H.xen_version, [XenVer.capabilities, SCRATCH]), 0);
    assert.match(text(SCRATCH, 1024), /hvm-3\.0-x86_64/);
  });

  test("features promise the callback vector and a safe pvclock", () => {
    guest.poke(SCRATCH, [0, 0]);
    assert.equal(guest.hypercall(H.xen_version, [XenVer.get_features, SCRATCH]), 0);
    const features = guest.peek(SCRATCH + 4);
    for (const bit of [2, 8, 9]) assert.ok(features & (1 << bit), `feature ${bit}`);
    guest.poke(SCRATCH, [1, 0]);
    assert.equal(guest.hypercall(H.xen_version, [XenVer.get_features, SCRATCH]), EINVAL);
  });
});

describe("console_io", () => {
  test("text comes out at the host, in 32-bit mode too", () => {
    guest.memory.write(SCRATCH as Gpa, Buffer.from("early\n"));
    assert.equal(guest.hypercall(H.console_io, [0, 6, SCRATCH]), 0);
    guest.vcpus[0].is64 = false;
    assert.equal(guest.hypercall(H.console_io, [0, 6, SCRATCH]), 0);
    assert.deepEqual(guest.debugText, ["early\n", "early\n"]);
    assert.equal(guest.hypercall(H.console_io, [0, 0xffffffff, SCRATCH]), -7);
  });
});

describe("hvm_op", () => {
  const param = (command: number, index: number, lo = 0, hi = 0): number => {
    guest.poke(SCRATCH, [DOMID_SELF, index, lo, hi]);
    return guest.hypercall(H.hvm_op, [command, SCRATCH]);
  };

  test("the special pages and their ports can be read, in both word sizes", () => {
    for (const is64 of [true, false]) {
      guest.vcpus[0].is64 = is64;
      for (const [index, value] of [
        [HvmParam.STORE_PFN, 0xfeffc],
        [HvmParam.STORE_EVTCHN, 1],
        [HvmParam.CONSOLE_PFN, 0xfefff],
        [HvmParam.CONSOLE_EVTCHN, 2],
      ]) {
        assert.equal(param(HvmOp.get_param, index), 0);
        assert.equal(guest.peek(SCRATCH + 8), value);
      }
    }
  });

  test("what belongs to the toolstack is refused", () => {
    assert.equal(param(HvmOp.get_param, HvmParam.IOREQ_PFN), EPERM);
    assert.equal(param(HvmOp.set_param, HvmParam.STORE_PFN, 1), EPERM);
    assert.equal(param(HvmOp.set_param, HvmParam.STORE_EVTCHN, 9), EEXIST);
    assert.equal(param(HvmOp.get_param, 39), EINVAL);
  });

  test("a callback vector is taken, other ways of delivery have nobody to deliver", () => {
    assert.equal(param(HvmOp.set_param, HvmParam.CALLBACK_IRQ, 0xf3, 2 << 24), 0);
    assert.equal(guest.domain.get(Field.callbackVector), 0xf3);
    assert.equal(param(HvmOp.set_param, HvmParam.CALLBACK_IRQ, 1, 0), 0);
    assert.equal(guest.domain.get(Field.callbackVector), 0);
  });

  test("an upcall vector is per vcpu", () => {
    guest.poke(SCRATCH, [1, 0xf3]);
    assert.equal(guest.hypercall(H.hvm_op, [HvmOp.set_evtchn_upcall_vector, SCRATCH]), 0);
    assert.equal(guest.domain.vcpus[1].get(VcpuField.upcallVector), 0xf3);
    guest.poke(SCRATCH, [1, 15]);
    assert.equal(guest.hypercall(H.hvm_op, [HvmOp.set_evtchn_upcall_vector, SCRATCH]), EINVAL);
    guest.poke(SCRATCH, [2, 0xf3]);
    assert.equal(guest.hypercall(H.hvm_op, [HvmOp.set_evtchn_upcall_vector, SCRATCH]), ENOENT);
  });
});

describe("vcpu_op", () => {
  test("vcpu_info moves once, with its contents and its clock", () => {
    const record = guest.domain.vcpus[0];
    guest.poke(SCRATCH, [0x300, 0, 0x80, 0]);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.register_vcpu_info, 0, SCRATCH]), 0);
    assert.equal(guest.peek(0x300080) & 0xff, 1, "the guest is asked to look at all its events");
    assert.equal(guest.peek(0x300080 + 32) & 1, 0, "the clock record is complete");
    assert.equal(guest.peek(0x300080 + 32 + 24), 0x80000000);
    assert.equal(record.get(VcpuField.vcpuInfoOffset), 0x80);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.register_vcpu_info, 0, SCRATCH]), EINVAL);
  });

  test("vcpu_info must lie in one page of RAM", () => {
    for (const [gfn, offset] of [
      [0x300, 0xfc8],
      [0x300, 4],
      [0xb0, 0],
      [0xffffffff, 0],
    ]) {
      guest.poke(SCRATCH, [gfn, 0, offset, 0]);
      assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.register_vcpu_info, 0, SCRATCH]), EINVAL);
    }
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.register_vcpu_info, 2, SCRATCH]), ENOENT);
  });

  test("a single-shot timer is set for the calling vcpu only", () => {
    guest.clock.advance(1000);
    guest.poke(SCRATCH, [5000, 0, 0, 0]);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.set_singleshot_timer, 0, SCRATCH]), 0);
    assert.equal(guest.domain.vcpus[0].getF64(VcpuField.singleshotDeadlineNsF64), 5000);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.set_singleshot_timer, 1, SCRATCH]), EINVAL);
    guest.poke(SCRATCH, [500, 0, 1, 0]);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.set_singleshot_timer, 0, SCRATCH]), ETIME);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.stop_singleshot_timer, 0, 0]), 0);
    assert.equal(guest.domain.vcpus[0].getF64(VcpuField.singleshotDeadlineNsF64), Infinity);
  });

  test("the runstate area is filled at once; stopping a periodic timer that never ran is fine", () => {
    guest.clock.advance(3000);
    guest.poke(SCRATCH, [0x300000, 0]);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.register_runstate_memory_area, 0, SCRATCH]), 0);
    assert.equal(guest.peek(0x300000), 3, "offline until the loop runs it");
    assert.equal(guest.peek(0x300000 + 16 + 3 * 8), 3000);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.stop_periodic_timer, 0, 0]), 0);
  });

  test("a second clock record can be had and given back", () => {
    guest.poke(SCRATCH, [0x300000, 0]);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.register_vcpu_time_memory_area, 0, SCRATCH]), 0);
    assert.equal(guest.peek(0x300000 + 24), 0x80000000);
    assert.equal(guest.peek(0x300000 + 28), 0x0101, "shift 1, TSC stable");
    guest.poke(SCRATCH, [0, 0]);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.register_vcpu_time_memory_area, 0, SCRATCH]), 0);
  });

  test("only vcpu 0 is up at first", () => {
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.is_up, 0, 0]), 1);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.is_up, 1, 0]), 0);
    assert.equal(guest.hypercall(H.vcpu_op, [VcpuOp.up, 1, 0]), EINVAL);
  });
});

describe("sched_op", () => {
  test("shutdown records its reason, a latched code goes before it", () => {
    guest.poke(SCRATCH, [ShutdownReason.reboot]);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.shutdown, SCRATCH]), 0);
    assert.equal(guest.domain.shutdownReason, ShutdownReason.reboot);
    guest.domain.clearShutdown();
    guest.poke(SCRATCH, [ShutdownReason.crash]);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.shutdown_code, SCRATCH]), 0);
    guest.poke(SCRATCH, [ShutdownReason.poweroff]);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.shutdown, SCRATCH]), 0);
    assert.equal(guest.domain.shutdownReason, ShutdownReason.crash);
    guest.poke(SCRATCH, [6]);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.shutdown, SCRATCH]), EINVAL);
  });

  test("block and poll leave the waiting to the vcpu's loop", () => {
    const record = guest.domain.vcpus[0];
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.block, 0]), 0);
    assert.equal(record.get(VcpuField.block), BlockKind.block);
    // ports, nr_ports, timeout
    guest.poke(SCRATCH, [SCRATCH + 64, 0, 1, 0, 9000, 0]);
    guest.poke(SCRATCH + 64, [2]);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.poll, SCRATCH]), 0);
    assert.equal(record.get(VcpuField.block), BlockKind.poll);
    assert.equal(record.get(VcpuField.pollPort), 2);
    assert.equal(record.getF64(VcpuField.pollDeadlineNsF64), 9000);
  });

  test("a poll of 32-bit code has the structure of 32-bit code", () => {
    guest.vcpus[0].is64 = false;
    guest.poke(SCRATCH, [SCRATCH + 64, 1, 8000, 0]);
    guest.poke(SCRATCH + 64, [1]);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.poll, SCRATCH]), 0);
    assert.equal(guest.domain.vcpus[0].get(VcpuField.pollPort), 1);
    assert.equal(guest.domain.vcpus[0].getF64(VcpuField.pollDeadlineNsF64), 8000);
  });

  test("polls of closed ports and of too many are refused", () => {
    guest.poke(SCRATCH, [SCRATCH + 64, 0, 1, 0, 0, 0]);
    guest.poke(SCRATCH + 64, [99]);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.poll, SCRATCH]), EINVAL);
    guest.poke(SCRATCH, [SCRATCH + 64, 0, 129, 0, 0, 0]);
    assert.equal(guest.hypercall(H.sched_op, [SchedOp.poll, SCRATCH]), EINVAL);
  });
});

describe("multicall", () => {
  test("runs its entries and stores each result; nesting is refused", () => {
    const entry = (op: number, ...args: number[]): number[] => {
      const words = [op, 0, 0x5555, 0x5555];
      for (let n = 0; n < 6; n++) words.push(args[n] ?? 0, 0);
      return words;
    };
    guest.poke(SCRATCH, [...entry(H.xen_version, 0), ...entry(H.multicall, 0, 1), ...entry(41)]);
    assert.equal(guest.hypercall(H.multicall, [SCRATCH, 3]), 0);
    assert.equal(guest.peek(SCRATCH + 8), (4 << 16) | 17);
    assert.equal(guest.peek(SCRATCH + 64 + 8) | 0, EINVAL);
    assert.equal(guest.peek(SCRATCH + 64 + 12), 0xffffffff);
    assert.equal(guest.peek(SCRATCH + 128 + 8) | 0, ENOSYS);
    assert.equal(guest.hypercall(H.multicall, [BAD, 1]), EFAULT);
  });

  test("32-bit entries are half as long", () => {
    guest.vcpus[0].is64 = false;
    guest.poke(SCRATCH, [H.xen_version, 0x5555, 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 0, 0, 0, 0]);
    assert.equal(guest.hypercall(H.multicall, [SCRATCH, 2]), 0);
    assert.equal(guest.peek(SCRATCH + 4), (4 << 16) | 17);
    assert.equal(guest.peek(SCRATCH + 32 + 4) | 0, ENOSYS);
  });
});

test("set_timer_op takes its timeout in one argument or in two, and zero stops the timer", () => {
  const deadline = (): number => guest.domain.vcpus[0].getF64(VcpuField.singleshotDeadlineNsF64);
  guest.hypercall(H.set_timer_op, [2 ** 33]);
  assert.equal(deadline(), 2 ** 33);
  guest.hypercall(H.set_timer_op, [0]);
  assert.equal(deadline(), Infinity);
  guest.vcpus[0].is64 = false;
  guest.hypercall(H.set_timer_op, [5, 1]);
  assert.equal(deadline(), 2 ** 32 + 5);
});

test("the only assistance is the runstate update flag", () => {
  assert.equal(guest.hypercall(H.vm_assist, [0, 5]), 0);
  assert.equal(guest.domain.get(Field.vmAssist), 1 << 5);
  assert.equal(guest.hypercall(H.vm_assist, [1, 5]), 0);
  assert.equal(guest.domain.get(Field.vmAssist), 0);
  assert.equal(guest.hypercall(H.vm_assist, [0, 2]), EINVAL);
});
