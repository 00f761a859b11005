import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { XsType as X, XsRing } from "@xenoserver/xen/abi/xs-wire.ts";
import { GuestClient } from "../testing/guest-client.ts";
import { XenstoreDaemon } from "./daemon.ts";
import type { LocalClient } from "./local-client.ts";
import { populateDomain } from "./populate.ts";

let daemon: XenstoreDaemon;
let dom0: LocalClient;
let guest: GuestClient;
let logs: string[];

const NODES = {
  domid: 3,
  uuid: "00000000-0000-4000-8000-000000000003",
  name: "three",
  memoryKiB: 262144,
  maxMemoryKiB: 262144,
  nrOnline: 2,
  nrVcpus: 2,
  xenstorePort: 1,
  xenstoreGfn: 0xfeffc,
  consolePort: 2,
  consoleGfn: 0xfefff,
  startTime: 1,
};

beforeEach(() => {
  logs = [];
  daemon = new XenstoreDaemon({ log: (message) => logs.push(message) });
  dom0 = daemon.openLocal();
  populateDomain(dom0, NODES);
  guest = new GuestClient(daemon, 3);
});

describe("reading and writing", () => {
  test("a guest reads what the toolstack wrote, by absolute and by relative path", () => {
    assert.equal(guest.call(X.READ, ["name"]), "three");
    assert.equal(guest.call(X.READ, ["/local/domain/3/memory/target"]), "262144");
    assert.equal(guest.call(X.DIRECTORY, ["cpu"]), "0|1|");
    assert.equal(guest.call(X.GET_DOMAIN_PATH, ["3"]), "/local/domain/3|");
  });

  test("values may hold any bytes and may be empty", () => {
    assert.equal(guest.call(X.WRITE, "data/raw\0a\0b"), "OK|");
    assert.equal(guest.call(X.READ, ["data/raw"]), "a|b");
    assert.equal(guest.call(X.WRITE, "data/none\0"), "OK|");
    assert.equal(guest.call(X.READ, ["data/none"]), "");
  });

  test("missing directories are made on the way and belong to the writer", () => {
    assert.equal(guest.call(X.WRITE, "data/a/b/c\0deep"), "OK|");
    assert.equal(guest.call(X.DIRECTORY, ["data/a"]), "b|");
    assert.equal(guest.call(X.GET_PERMS, ["data/a/b"]), "n3|");
  });

  test("mkdir makes an empty node and is content with one that exists", () => {
    assert.equal(guest.call(X.MKDIR, ["data/dir"]), "OK|");
    guest.call(X.WRITE, "data/dir\0kept");
    assert.equal(guest.call(X.MKDIR, ["data/dir"]), "OK|");
    assert.equal(guest.call(X.READ, ["data/dir"]), "kept");
  });

  test("rm takes everything below; of a missing node only if its directory exists", () => {
    guest.call(X.WRITE, "data/a/b\0x");
    assert.equal(guest.call(X.RM, ["data/a"]), "OK|");
    assert.equal(guest.call(X.READ, ["data/a/b"]), "!ENOENT");
    assert.equal(guest.call(X.RM, ["data/a"]), "OK|");
    assert.equal(guest.call(X.RM, ["data/no/such"]), "!ENOENT");
    assert.equal(guest.call(X.RM, ["/"]), "!EINVAL");
  });

  test("malformed paths and requests are refused", () => {
    for (const path of ["", "a//b", "a/", "sp ace", "@introduceDomain", `/${"x".repeat(3072)}`]) {
      assert.equal(guest.call(X.READ, [path]), "!EINVAL", path.slice(0, 20));
    }
    assert.equal(guest.call(X.READ, "unterminated"), "!EINVAL");
    assert.equal(guest.call(99, [""]), "!ENOSYS");
    assert.equal(guest.call(X.READ, ["name"], 77), "!ENOENT");
  });
});

describe("permissions", () => {
  test("a guest may not read another's nodes, nor learn whether they exist", () => {
    dom0.write("/local/domain/4/secret", "x");
    dom0.setPermissions("/local/domain/4", ["n4"]);
    assert.equal(guest.call(X.READ, ["/local/domain/4/secret"]), "!EACCES");
    assert.equal(guest.call(X.READ, ["/local/domain/4/nothing"]), "!EACCES");
  });

  test("a guest may read but not write its memory target", () => {
    assert.equal(guest.call(X.WRITE, "memory/target\x000"), "!EACCES");
    assert.equal(guest.call(X.RM, ["memory"]), "!EACCES");
  });

  test("the owner grants access to others and cannot give the node away", () => {
    guest.call(X.WRITE, "data/shared\0v");
    const other = new GuestClient(daemon, 4);
    assert.equal(other.call(X.READ, ["/local/domain/3/data/shared"]), "!EACCES");
    assert.equal(guest.call(X.SET_PERMS, ["data/shared", "n3", "r4"]), "OK|");
    assert.equal(other.call(X.READ, ["/local/domain/3/data/shared"]), "v");
    assert.equal(other.call(X.WRITE, "/local/domain/3/data/shared\0w"), "!EACCES");
    assert.equal(guest.call(X.SET_PERMS, ["data/shared", "n4"]), "!EPERM");
    assert.equal(other.call(X.SET_PERMS, ["/local/domain/3/data/shared", "b4"]), "!EACCES");
    assert.equal(guest.call(X.SET_PERMS, ["data/shared", "x3"]), "!EINVAL");
  });

  test("requests of the control domain are refused", () => {
    assert.equal(guest.call(X.INTRODUCE, ["9", "1", "1"]), "!EACCES");
    assert.equal(guest.call(X.RELEASE, ["4"]), "!EACCES");
    assert.equal(guest.call(X.CONTROL, ["help"]), "!EACCES");
  });

  test("a guest can ask who is introduced", () => {
    assert.equal(guest.call(X.IS_DOMAIN_INTRODUCED, ["3"]), "T|");
    assert.equal(guest.call(X.IS_DOMAIN_INTRODUCED, ["9"]), "F|");
  });
});

describe("transactions", () => {
  const start = (client: GuestClient): number => Number(client.call(X.TRANSACTION_START, [""]).slice(0, -1));

  test("changes are seen by others only after the end", () => {
    const id = start(guest);
    assert.equal(guest.call(X.WRITE, "data/x\x001", id), "OK|");
    assert.equal(guest.call(X.READ, ["data/x"], id), "1");
    assert.equal(guest.call(X.READ, ["data/x"]), "!ENOENT");
    assert.equal(guest.call(X.TRANSACTION_END, ["T"], id), "OK|");
    assert.equal(guest.call(X.READ, ["data/x"]), "1");
  });

  test("an abandoned transaction leaves nothing", () => {
    const id = start(guest);
    guest.call(X.WRITE, "data/x\x001", id);
    assert.equal(guest.call(X.TRANSACTION_END, ["F"], id), "OK|");
    assert.equal(guest.call(X.READ, ["data/x"]), "!ENOENT");
    assert.equal(guest.call(X.TRANSACTION_END, ["T"], id), "!ENOENT");
  });

  test("a change to something that was read makes the end fail with EAGAIN", () => {
    guest.call(X.WRITE, "data/counter\x005");
    const id = start(guest);
    assert.equal(guest.call(X.READ, ["data/counter"], id), "5");
    guest.call(X.WRITE, "data/out\0from5", id);
    guest.call(X.WRITE, "data/counter\x006");
    assert.equal(guest.call(X.TRANSACTION_END, ["T"], id), "!EAGAIN");
    assert.equal(guest.call(X.READ, ["data/out"]), "!ENOENT");
  });

  test("changes elsewhere do not disturb", () => {
    const id = start(guest);
    guest.call(X.WRITE, "data/mine\0x", id);
    dom0.write("/local/domain/3/memory/target", "1");
    assert.equal(guest.call(X.TRANSACTION_END, ["T"], id), "OK|");
  });

  test("removal inside a transaction is undone with it", () => {
    guest.call(X.WRITE, "data/a/b\0x");
    const id = start(guest);
    assert.equal(guest.call(X.RM, ["data/a"], id), "OK|");
    assert.equal(guest.call(X.READ, ["data/a/b"], id), "!ENOENT");
    assert.equal(guest.call(X.READ, ["data/a/b"]), "x");
    guest.call(X.TRANSACTION_END, ["F"], id);
    assert.equal(guest.call(X.READ, ["data/a/b"]), "x");
  });

  test("a guest may hold ten", () => {
    for (let n = 0; n < 10; n++) assert.notEqual(start(guest), Number.NaN);
    assert.equal(guest.call(X.TRANSACTION_START, [""]), "!ENOSPC");
  });

  test("the local client tries again until it succeeds", () => {
    dom0.write("/n", "0");
    let disturbed = false;
    dom0.transaction((access) => {
      const n = Number(access.read("/n"));
      if (!disturbed) dom0.write("/n", "10");
      disturbed = true;
      access.write("/n", String(n + 1));
    });
    assert.equal(dom0.read("/n"), "11");
  });
});

describe("watches", () => {
  test("a new watch fires at once, then for changes at and below its path", () => {
    assert.equal(guest.call(X.WATCH, ["data", "tok"]), "OK|");
    assert.deepEqual(guest.events(), ["data tok"]);
    dom0.write("/local/domain/3/memory/target", "1");
    assert.deepEqual(guest.events(), []);
    guest.put(request(X.WRITE, "data/x\x001"));
    assert.deepEqual(guest.events(), ["data/x tok", `(${X.WRITE})`]);
  });

  test("an absolute watch is told absolute paths", () => {
    guest.call(X.WATCH, ["/local/domain/3/control", "c"]);
    guest.events();
    dom0.write("/local/domain/3/control/shutdown", "poweroff");
    assert.deepEqual(guest.events(), ["/local/domain/3/control/shutdown c"]);
  });

  test("removing a directory fires watches above, on and below it", () => {
    guest.call(X.WRITE, "data/a/b\0x");
    for (const path of ["data", "data/a", "data/a/b", "data/a/other"]) guest.call(X.WATCH, [path, path]);
    guest.events();
    dom0.rm("/local/domain/3/data/a");
    assert.deepEqual(guest.events().sort(), ["data/a data", "data/a data/a", "data/a/b data/a/b"].sort());
  });

  test("changes in a transaction fire when it ends", () => {
    guest.call(X.WATCH, ["data", "t"]);
    guest.events();
    const id = Number(guest.call(X.TRANSACTION_START, [""]).slice(0, -1));
    guest.call(X.WRITE, "data/x\x001", id);
    guest.call(X.WRITE, "data/x\x002", id);
    assert.deepEqual(guest.events(), []);
    guest.put(request(X.TRANSACTION_END, "T\0", id));
    assert.deepEqual(guest.events(), ["data/x t", `(${X.TRANSACTION_END})`]);
  });

  test("nobody hears of nodes that he may not read", () => {
    guest.call(X.WATCH, ["/local/domain/4", "t"]);
    guest.events();
    dom0.write("/local/domain/4", "");
    dom0.setPermissions("/local/domain/4", ["n4"]);
    guest.events();
    dom0.write("/local/domain/4/secret", "x");
    assert.deepEqual(guest.events(), []);
  });

  test("the same watch twice, a watch that is not there, and too many", () => {
    assert.equal(guest.call(X.WATCH, ["data", "t"]), "OK|");
    guest.events();
    assert.equal(guest.call(X.WATCH, ["data", "t"]), "!EEXIST");
    assert.equal(guest.call(X.UNWATCH, ["data", "u"]), "!ENOENT");
    assert.equal(guest.call(X.UNWATCH, ["data", "t"]), "OK|");
    for (let n = 0; n < 128; n++) {
      assert.equal(guest.call(X.WATCH, ["data", `t${n}`]), "OK|");
      guest.events();
    }
    assert.equal(guest.call(X.WATCH, ["data", "more"]), "!E2BIG");
    assert.equal(guest.call(X.RESET_WATCHES, [""]), "OK|");
    assert.equal(guest.call(X.WATCH, ["data", "more"]), "OK|");
  });

  test("the host hears of introductions and of what guests write", async () => {
    const heard: string[] = [];
    dom0.watch("@introduceDomain", (path) => heard.push(path));
    dom0.watch("/local/domain/3/data", (path) => heard.push(path));
    await Promise.resolve();
    heard.length = 0;
    new GuestClient(daemon, 5);
    guest.call(X.WRITE, "data/x\x001");
    await Promise.resolve();
    assert.deepEqual(heard, ["@introduceDomain", "/local/domain/3/data/x"]);
  });
});

describe("quotas", () => {
  test("a guest may own a thousand nodes, each of up to 2 KiB", () => {
    assert.equal(guest.call(X.WRITE, `data/big\0${"x".repeat(2100)}`), "!ENOSPC");
    let result = "OK|";
    let made = 0;
    while (result === "OK|" && made < 2000) result = guest.call(X.WRITE, `data/n${made++}\0x`);
    assert.equal(result, "!ENOSPC");
    assert.ok(made > 900 && made <= 1001, `${made}`);
  });

  test("a directory that does not fit one message is read in parts", () => {
    const names = Array.from({ length: 700 }, (_, n) => `node-number-${n}`);
    for (const name of names) dom0.write(`/local/domain/3/data/${name}`, "");
    assert.equal(guest.call(X.DIRECTORY, ["data"]), "!E2BIG");
    let text = "";
    for (;;) {
      const part = guest.call(X.DIRECTORY_PART, ["data", String(text.length)]);
      text += part.slice(part.indexOf("|") + 1);
      if (text.endsWith("||")) break;
    }
    assert.deepEqual(text.slice(0, -2).split("|"), names);
  });
});

describe("the ring", () => {
  test("requests longer than the ring pass through it in pieces", () => {
    dom0.mkdir("/local/domain/3/data");
    assert.equal(guest.call(X.WRITE, `data/long\0${"y".repeat(1900)}`), "OK|");
    assert.equal(guest.call(X.READ, ["data/long"]).length, 1900);
  });

  test("indices that are too far apart close the connection, which the guest may open again", () => {
    guest.words[XsRing.req_prod / 4] = guest.words[XsRing.req_cons / 4] + 2000;
    guest.connection.onEvent();
    assert.equal(guest.words[XsRing.error / 4], 2);
    assert.equal(logs.length, 1);
    guest.words[XsRing.connection / 4] = 1;
    guest.connection.onEvent();
    assert.equal(guest.words[XsRing.connection / 4], 0);
    assert.equal(guest.call(X.READ, ["name"]), "three");
  });

  test("a payload beyond 4096 bytes is a protocol error", () => {
    const header = new Uint32Array([X.READ, 1, 0, 5000]);
    guest.put(new Uint8Array(header.buffer));
    assert.equal(guest.words[XsRing.error / 4], 3);
  });

  test("a guest that asks and never reads is not served without end", () => {
    for (let n = 0; n < 200; n++) {
      const room = 1024 - ((guest.words[XsRing.req_prod / 4] - guest.words[XsRing.req_cons / 4]) >>> 0);
      if (room < 21) return;
      guest.put(request(X.READ, "name\0"));
    }
    assert.fail("the request ring never filled");
  });
});

function request(type: number, payload: string, transactionId = 0): Uint8Array {
  const words = new Uint32Array([type, 1000, transactionId, payload.length]);
  return new Uint8Array([...new Uint8Array(words.buffer), ...Buffer.from(payload, "latin1")]);
}

test("an exported store goes on elsewhere with its watches", () => {
  guest.call(X.WATCH, ["data", "tok"]);
  guest.events();
  guest.call(X.WRITE, "data/x\x001");
  guest.events();
  const state = JSON.parse(JSON.stringify(daemon.exportState()));
  const other = new XenstoreDaemon();
  other.importState(state);
  const moved = new GuestClient(other, 3);
  moved.connection.importState(state.connections[0]);
  assert.equal(moved.call(X.READ, ["data/x"]), "1");
  assert.equal(moved.call(X.GET_PERMS, ["data/x"]), "n3|");
  other.openLocal().write("/local/domain/3/data/x", "2");
  assert.deepEqual(moved.events(), ["data/x tok"]);
});
