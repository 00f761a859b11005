import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { EvtchnOp } from "../abi/event-channel.ts";
import { Hypercall } from "../abi/xen.ts";
import { FifoEvents, type GuestEvents, TwoLevelEvents } from "../testing/guest-events.ts";
import { SCRATCH, TestDomain } from "../testing/test-domain.ts";
import { type HostChannel, HostEventChannels } from "./host.ts";

const PORTS = 6;

/** A guest with six channels to the host and a driver for its ABI. */
class Setup {
  readonly guest = new TestDomain({ nrVcpus: 2 });
  readonly host = new HostEventChannels(this.guest.domain);
  readonly ports: number[] = [];
  readonly channels: HostChannel[] = [];
  readonly events: GuestEvents;
  readonly fromGuest: number[] = [];

  constructor(abi: "2-level" | "fifo") {
    const { guest } = this;
    this.events =
      abi === "2-level"
        ? new TwoLevelEvents(guest.domain)
        : FifoEvents.setUp(
            guest.domain,
            (n, a) => guest.hypercall(n, a),
            (at, w) => guest.poke(at, w),
            SCRATCH,
          );
    for (let n = 0; n < PORTS; n++) {
      const port = this.allocUnbound();
      this.ports.push(port);
      this.channels.push(this.host.bindInterdomain(port, () => this.fromGuest.push(port))!);
      this.unmask(port);
    }
  }

  op(command: number, words: readonly number[]): number {
    this.guest.poke(SCRATCH, words);
    return this.guest.hypercall(Hypercall.event_channel_op, [command, SCRATCH]);
  }

  allocUnbound(): number {
    assert.equal(this.op(EvtchnOp.alloc_unbound, [0x7ff0, 0]), 0);
    return this.guest.peek(SCRATCH + 4);
  }

  /** Gives channel n, whose port was closed, a new port. */
  reopen(n: number): void {
    const port = this.allocUnbound();
    this.channels[n].close();
    this.ports[n] = port;
    this.channels[n] = this.host.bindInterdomain(port, () => {})!;
    this.unmask(port);
  }

  unmask(port: number): void {
    if (this.events.unmask(port)) assert.equal(this.op(EvtchnOp.unmask, [port]), 0);
  }
}

for (const abi of ["2-level", "fifo"] as const) {
  describe(`${abi} event channels`, () => {
    test("a notification from the host is handled once, on the vcpu that the port is bound to", () => {
      const s = new Setup(abi);
      s.channels[2].notify();
      s.channels[2].notify();
      assert.deepEqual(s.events.handleUpcall(1), []);
      assert.deepEqual(s.events.handleUpcall(0), [s.ports[2]]);
      assert.deepEqual(s.events.handleUpcall(0), []);
      assert.equal(s.op(EvtchnOp.bind_vcpu, [s.ports[2], 1]), 0);
      s.channels[2].notify();
      assert.deepEqual(s.events.handleUpcall(0), []);
      assert.deepEqual(s.events.handleUpcall(1), [s.ports[2]]);
    });

    test("an event behind a mask comes when the mask goes", () => {
      const s = new Setup(abi);
      s.events.mask(s.ports[0]);
      s.channels[0].notify();
      assert.deepEqual(s.events.handleUpcall(0), []);
      s.unmask(s.ports[0]);
      assert.deepEqual(s.events.handleUpcall(0), [s.ports[0]]);
    });

    test("a guest's notification reaches the backend once per round", () => {
      const s = new Setup(abi);
      assert.equal(s.op(EvtchnOp.send, [s.ports[3]]), 0);
      assert.equal(s.op(EvtchnOp.send, [s.ports[3]]), 0);
      s.host.dispatch();
      s.host.dispatch();
      assert.deepEqual(s.fromGuest, [s.ports[3]]);
    });

    test("an IPI is pending on the vcpu it was bound for", () => {
      const s = new Setup(abi);
      assert.equal(s.op(EvtchnOp.bind_ipi, [1]), 0);
      const port = s.guest.peek(SCRATCH + 4);
      s.unmask(port);
      assert.equal(s.op(EvtchnOp.send, [port]), 0);
      assert.deepEqual(s.events.handleUpcall(1), [port]);
    });

    test("a closed port is not pending any more and can be had again", () => {
      const s = new Setup(abi);
      s.channels[0].notify();
      assert.equal(s.op(EvtchnOp.close, [s.ports[0]]), 0);
      assert.deepEqual(s.events.handleUpcall(0), []);
      s.channels[0].notify();
      assert.equal(s.op(EvtchnOp.close, [s.ports[0]]), -22);
      assert.equal(s.allocUnbound(), s.ports[0]);
    });

    test("a guest's own two ports are connected both ways", () => {
      const s = new Setup(abi);
      assert.equal(s.op(EvtchnOp.alloc_unbound, [0x7ff0 | (0x7ff0 << 16), 0]), 0);
      const first = s.guest.peek(SCRATCH + 4);
      assert.equal(s.op(EvtchnOp.bind_interdomain, [0x7ff0, first, 0]), 0);
      const second = s.guest.peek(SCRATCH + 8);
      for (const port of [first, second]) s.unmask(port);
      // Binding makes the new end pending, for a notification may have come too early.
      assert.deepEqual(s.events.handleUpcall(0), [second]);
      s.op(EvtchnOp.send, [second]);
      assert.deepEqual(s.events.handleUpcall(0), [first]);
      s.op(EvtchnOp.send, [first]);
      assert.deepEqual(s.events.handleUpcall(0), [second]);
    });

    test("no event is lost or made up, whatever the order of raising, masking, moving and handling", () => {
      const step = fc.oneof(
        {
          weight: 5,
          arbitrary: fc.record({ do: fc.constant("notify" as const), n: fc.nat(PORTS - 1), v: fc.nat(15) }),
        },
        fc.record({
          do: fc.constantFrom("mask", "unmask", "move", "priority", "reopen", "handle"),
          n: fc.nat(PORTS - 1),
          v: fc.nat(15),
        }),
      );
      fc.assert(
        fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
          const s = new Setup(abi);
          const raised = new Set<number>();
          const masked = new Set<number>();
          const handle = (): void => {
            for (const port of [...s.events.handleUpcall(0), ...s.events.handleUpcall(1)]) {
              assert.ok(raised.delete(port), `port ${port} was not raised`);
              assert.ok(!masked.has(port), `port ${port} is masked`);
            }
          };
          for (const { do: action, n, v } of steps) {
            const port = s.ports[n];
            if (action === "notify") {
              s.channels[n].notify();
              raised.add(port);
            } else if (action === "mask") {
              s.events.mask(port);
              masked.add(port);
            } else if (action === "unmask") {
              masked.delete(port);
              s.unmask(port);
            } else if (action === "move") s.op(EvtchnOp.bind_vcpu, [port, v & 1]);
            else if (action === "reopen") {
              assert.equal(s.op(EvtchnOp.close, [port]), 0);
              raised.delete(port);
              masked.delete(port);
              s.reopen(n);
            } else if (action === "priority") s.op(EvtchnOp.set_priority, [port, v]);
            else handle();
          }
          for (const port of s.ports) {
            masked.delete(port);
            s.unmask(port);
          }
          handle();
          assert.deepEqual([...raised], []);
        }),
        { numRuns: 100 },
      );
    });
  });
}

test("events are handled in the order of their priority", () => {
  const s = new Setup("fifo");
  assert.equal(s.op(EvtchnOp.set_priority, [s.ports[4], 0]), 0);
  assert.equal(s.op(EvtchnOp.set_priority, [s.ports[1], 15]), 0);
  for (const n of [1, 2, 4]) s.channels[n].notify();
  assert.deepEqual(s.events.handleUpcall(0), [s.ports[4], s.ports[2], s.ports[1]]);
  assert.equal(s.op(EvtchnOp.set_priority, [s.ports[1], 16]), -22);
});

test("a port that is opened again finds the queue whose last event it was", () => {
  const s = new Setup("fifo");
  const moveAndNotify = (): void => {
    assert.equal(s.op(EvtchnOp.bind_vcpu, [s.ports[0], 1]), 0);
    s.channels[0].notify();
    assert.deepEqual(s.events.handleUpcall(1), [s.ports[0]]);
  };
  moveAndNotify();
  assert.equal(s.op(EvtchnOp.close, [s.ports[0]]), 0);
  s.reopen(0);
  moveAndNotify();
});

test("a port is not given out again while the guest has it in a queue", () => {
  const s = new Setup("fifo");
  s.channels[0].notify();
  assert.equal(s.op(EvtchnOp.close, [s.ports[0]]), 0);
  assert.notEqual(s.allocUnbound(), s.ports[0]);
  assert.deepEqual(s.events.handleUpcall(0), []);
  assert.equal(s.allocUnbound(), s.ports[0]);
});

test("events that were pending before FIFO are pending after", () => {
  const guest = new TestDomain({ nrVcpus: 1 });
  const host = new HostEventChannels(guest.domain);
  const channel = host.bindInterdomain(guest.built.consolePort, () => {})!;
  channel.notify();
  const events = FifoEvents.setUp(
    guest.domain,
    (n, a) => guest.hypercall(n, a),
    (at, w) => guest.poke(at, w),
    SCRATCH,
  );
  assert.ok(events.unmask(guest.built.consolePort));
  guest.poke(SCRATCH, [guest.built.consolePort]);
  assert.equal(guest.hypercall(Hypercall.event_channel_op, [EvtchnOp.unmask, SCRATCH]), 0);
  assert.deepEqual(events.handleUpcall(0), [guest.built.consolePort]);
});

test("links that lead in circles or out of the array do not trap the hypervisor", () => {
  const s = new Setup("fifo");
  fc.assert(
    fc.property(
      fc.array(fc.nat(0xffffffff), { minLength: 16, maxLength: 16 }),
      fc.array(fc.nat(PORTS - 1)),
      (noise, ns) => {
        s.guest.poke(0x300000, noise);
        s.guest.poke(0x301000, noise);
        for (const n of ns) s.channels[n].notify();
        for (const n of ns) s.op(EvtchnOp.unmask, [s.ports[n]]);
      },
    ),
  );
});
