import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { XenbusBackend } from "./backend.ts";
import { type BackendDriver, type ConnectContext, type Connection, DeviceError } from "./driver.ts";
import { devicePaths, XenbusState } from "./protocol.ts";
import { FakeGuest, settle } from "./testing/fake-guest.ts";

const { Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState;

/** Notes what is asked of it. Its `close` waits while `slow` is set, as for a disk. */
class FakeDriver implements BackendDriver {
  readonly deviceClass = "vbd";
  readonly stateVersion = 3;
  readonly events: string[] = [];
  slow: Promise<void> | undefined;
  context: ConnectContext | undefined;
  open = 0;

  frontendNodes() {
    return { "virtual-device": "51712" };
  }

  backendNodes() {
    return { "feature-test": "1" };
  }

  connect(context: ConnectContext): Connection {
    const ring = context.frontend.readUnsigned("ring-ref", { max: 100 });
    this.context = context;
    this.open++;
    this.events.push(context.saved === undefined ? `connect ${ring}` : `connect ${ring} from ${context.saved}`);
    return {
      properties: { sectors: "8" },
      pause: () => this.events.push("pause"),
      paused: async () => void this.events.push("paused"),
      resume: () => this.events.push("resume"),
      close: async () => {
        this.events.push("close");
        await this.slow;
        this.open--;
      },
      exportState: () => "saved",
    };
  }
}

let guest: FakeGuest;
let driver: FakeDriver;
let backend: XenbusBackend;
let frontend: string;
let home: string;
beforeEach(() => {
  guest = new FakeGuest();
  driver = new FakeDriver();
  backend = new XenbusBackend(guest.host, driver, 51712);
  ({ frontend, backend: home } = devicePaths("vbd", 7, 51712));
});

const seen = (): number => Number(guest.read(`${home}/state`));
async function show(state: XenbusState): Promise<number> {
  guest.show(frontend, state);
  await settle();
  return seen();
}
async function connect(): Promise<void> {
  guest.write(`${frontend}/ring-ref`, "5");
  assert.equal(await show(Initialised), Connected);
  await show(Connected);
}

describe("handshake", () => {
  test("the device appears with its features, for the guest to read and not to write", async () => {
    backend.start();
    await settle();
    assert.equal(seen(), InitWait);
    assert.equal(guest.read(`${frontend}/backend`), home);
    assert.equal(guest.read(`${frontend}/virtual-device`), "51712");
    assert.equal(guest.read(`${home}/feature-test`), "1");
    assert.equal(guest.write(`${home}/state`, "4"), "!EACCES");
    assert.equal(guest.write(`${frontend}/new`, "x"), "OK|");
  });

  test("rings are mapped once, and the properties are there before Connected is", async () => {
    backend.start();
    await connect();
    assert.deepEqual(driver.events, ["connect 5"]);
    assert.equal(guest.read(`${home}/sectors`), "8");
  });

  test("a guest may go from Initialising to Connected at once, as netfront does", async () => {
    backend.start();
    guest.write(`${frontend}/ring-ref`, "5");
    assert.equal(await show(Connected), Connected);
  });

  test("kexec's reset: Closing, Closed, Initialising, and a new driver connects", async () => {
    backend.start();
    await connect();
    assert.equal(await show(Closing), Closing);
    assert.equal(driver.open, 1);
    assert.equal(await show(Closed), Closed);
    assert.equal(driver.open, 0);
    assert.equal(await show(Initialising), InitWait);
    guest.write(`${frontend}/ring-ref`, "6");
    assert.equal(await show(Initialised), Connected);
    assert.deepEqual(driver.events, ["connect 5", "close", "connect 6"]);
  });

  test("a guest that begins again without closing loses its old rings first", async () => {
    backend.start();
    await connect();
    assert.equal(await show(Initialising), InitWait);
    assert.equal(await show(Initialised), Connected);
    assert.deepEqual(driver.events, ["connect 5", "close", "connect 5"]);
  });

  test("a guest that changes its mind while requests are in flight is served its last word", async () => {
    backend.start();
    await connect();
    const gate = Promise.withResolvers<void>();
    driver.slow = gate.promise;
    await show(Closed);
    await show(Initialising);
    await show(Initialised);
    assert.equal(driver.open, 1);
    gate.resolve();
    await settle();
    assert.equal(driver.open, 0);
    assert.equal(seen(), Closed, "Initialising was not seen any more");
    assert.equal(await show(Initialising), InitWait);
    assert.equal(await show(Initialised), Connected);
  });

  test("no change is missed, however soon it follows another", async () => {
    for (let microtasks = 0; microtasks < 30; microtasks++) {
      guest = new FakeGuest();
      driver = new FakeDriver();
      backend = new XenbusBackend(guest.host, driver, 51712);
      backend.start();
      await connect();
      guest.show(frontend, Closed);
      for (let n = 0; n < microtasks; n++) await undefined;
      assert.equal(await show(Initialising), InitWait, `${microtasks} microtasks`);
      guest.show(frontend, Initialising);
      for (let n = 0; n < microtasks; n++) await undefined;
      assert.equal(await show(Initialised), Connected, `${microtasks} microtasks`);
    }
  });

  test("a guest that removes its directory is closed", async () => {
    backend.start();
    await connect();
    guest.remove(frontend);
    await settle();
    assert.equal(driver.open, 0);
    assert.equal(seen(), Closed);
  });

  test("new properties are published under a Connected that is shown again", async () => {
    backend.start();
    await connect();
    const states: string[] = [];
    guest.store.watch(`${home}/state`, () => states.push(guest.read(`${home}/sectors`)));
    await settle();
    backend.announce({ sectors: "16" });
    await settle();
    assert.deepEqual(states, ["8", "16"]);
  });
});

describe("a guest that breaks the protocol", () => {
  test("keys that make no sense close the device with a sentence, and the guest may try again", async () => {
    backend.start();
    guest.write(`${frontend}/ring-ref`, "101");
    assert.equal(await show(Initialised), Closing);
    assert.deepEqual(guest.logs, ['dom7 vbd 51712: ring-ref is "101", expected 0 to 100']);
    assert.equal(guest.read(`${home}/error`), guest.logs[0]);
    assert.equal(await show(Closed), Closed);
    await show(Initialising);
    await connect();
  });

  test("a connection that fails is closed once", async () => {
    backend.start();
    await connect();
    const { fail } = driver.context!;
    fail(new DeviceError("dom7 vbd 51712: ring broken"));
    fail(new DeviceError("dom7 vbd 51712: ring broken more"));
    await settle();
    assert.equal(seen(), Closing);
    assert.equal(driver.open, 0);
    assert.deepEqual(guest.logs, ["dom7 vbd 51712: ring broken"]);
    assert.equal(await show(Connected), Closing, "only a new handshake helps");
    await show(Closed);
    await show(Initialising);
    await connect();
    fail(new DeviceError("an old connection's last word"));
    await settle();
    assert.equal(seen(), Connected);
  });

  test("any order of states and keys leaves at most one connection, and a way back", async () => {
    const step = fc.oneof(
      fc.constantFrom("1", "2", "3", "4", "5", "6", "7", "9", "", "x").map((state) => ({ key: "state", value: state })),
      fc.constantFrom("5", "-1", "", "99999999999999999999").map((ref) => ({ key: "ring-ref", value: ref })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(step, fc.boolean()), { maxLength: 20 }), async (steps) => {
        guest = new FakeGuest();
        driver = new FakeDriver();
        backend = new XenbusBackend(guest.host, driver, 51712);
        backend.start();
        for (const [{ key, value }, wait] of steps) {
          guest.write(`${frontend}/${key}`, value);
          if (wait) await settle();
          assert.ok(driver.open <= 1);
        }
        await show(Closed);
        await settle();
        assert.equal(driver.open, 0);
        await show(Initialising);
        await connect();
        await backend.stop();
        assert.equal(driver.open, 0);
      }),
      { numRuns: 50 },
    );
  });
});

describe("unplugging", () => {
  test("the guest is asked, and its directory goes when it has let go", async () => {
    backend.start();
    await connect();
    const unplugged = backend.unplug(60_000);
    assert.equal(seen(), Closing);
    assert.equal(guest.read(`${home}/online`), "0");
    await show(Closed);
    assert.equal(await unplugged, true);
    assert.equal(driver.open, 0);
    assert.equal(guest.store.read(frontend), undefined);
    assert.equal(guest.store.read(home), undefined);
  });

  test("a guest that does not answer is not waited for", async () => {
    backend.start();
    await connect();
    assert.equal(await backend.unplug(1), false);
    assert.equal(driver.open, 0);
    assert.equal(guest.store.read(home), undefined);
  });

  test("a device that no driver took is gone at once", async () => {
    backend.start();
    await settle();
    assert.equal(await backend.unplug(60_000), true);
  });
});

describe("pausing and saving", () => {
  test("a guest that connects while the device is paused is served after it", async () => {
    backend.start();
    backend.pause();
    await connect();
    await backend.paused();
    backend.resume();
    assert.deepEqual(driver.events, ["connect 5", "pause", "paused", "resume"]);
  });

  test("a saved device goes on connected, without a handshake", async () => {
    backend.start();
    await connect();
    backend.pause();
    await backend.paused();
    const saved = structuredClone(backend.exportState());
    await backend.stop();
    driver.events.length = 0;
    const again = new XenbusBackend(guest.host, driver, 51712);
    again.importState(saved);
    again.start();
    await settle();
    assert.deepEqual(driver.events, ["connect 5 from saved"]);
    assert.equal(again.state, Connected);
    assert.equal(seen(), Connected);
  });

  test("states of another kind or version are refused", () => {
    const state = { kind: "vbd", devid: 51712, version: 1, data: { state: 2, connectionVersion: 3 } };
    backend.importState(state);
    assert.throws(
      () => backend.importState({ ...state, kind: "vif" }),
      /state is vif version 1, expected vbd version 1/,
    );
    assert.throws(() => backend.importState({ ...state, version: 2 }), TypeError);
    assert.throws(() => backend.importState({ ...state, data: { state: 2, connectionVersion: 4 } }), TypeError);
  });
});
