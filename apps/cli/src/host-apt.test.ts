/** How a guest's apt is shown the way of its host's. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeApt } from "./host-apt.ts";

const DEBIAN = "http://deb.debian.org/debian";
const FORGET = "rm -f /etc/apt/apt.conf.d/95host";

test("an archive that anybody reaches needs nothing", () => {
  assert.deepEqual(describeApt([], [DEBIAN], ["192.168.1.5"]), { isOnHost: false, guestCommands: [FORGET] });
});

test("a proxy is named; one of the host's loopback by the gateway's address", () => {
  const far = describeApt([["http", "http://proxy:3142/"]], [DEBIAN], []);
  assert.equal(far.isOnHost, false);
  assert.match(
    far.guestCommands[0]!,
    /'Acquire::http::Proxy "http:\/\/proxy:3142\/";' > \/etc\/apt\/apt.conf.d\/95host/,
  );
  for (const host of ["localhost", "127.0.0.1", "[::1]"]) {
    const near = describeApt([["https", `http://user:x@${host}:3142`]], [DEBIAN], []);
    assert.equal(near.isOnHost, true);
    assert.match(near.guestCommands[0]!, /'Acquire::https::Proxy "http:\/\/user:x@10\.0\.2\.2:3142";'/);
  }
  const own = describeApt([["http", "http://192.168.1.5:3142"]], [DEBIAN], ["192.168.1.5"]);
  assert.equal(own.isOnHost, true);
  assert.match(own.guestCommands[0]!, /http:\/\/192\.168\.1\.5:3142/);
});

test("an archive on the host's loopback is written anew", () => {
  const { isOnHost, guestCommands } = describeApt([], ["http://127.0.0.1:8000/debian", DEBIAN], []);
  assert.equal(isOnHost, true);
  assert.deepEqual(guestCommands, [
    FORGET,
    "sed -i 's#http://127.0.0.1:8000/debian#http://10.0.2.2:8000/debian#g' /etc/apt/sources.list",
  ]);
});
