import assert from "node:assert/strict";
import { test } from "node:test";
import { formatMac } from "@xenoserver/network/wire/ethernet.ts";
import { copyOfSpec, macsIn, renewedVifs } from "./copy.ts";
import { configOf } from "./spec.ts";

const SPEC = {
  ...{ name: "web", kernel: "/k", memory: 64, uuid: "6f1d2c3b-0000-4000-8000-000000000001" },
  vif: [
    "mac=00:16:3e:00:00:01,net=user,forward=tcp:127.0.0.1:8080:80",
    "mac=02:00:00:00:00:07,bridge=lan,accept=tcp:22",
  ],
};

test("a copy has a name, a uuid and addresses of its own, and everything else as it was", () => {
  const taken = new Set<number>();
  const copies = ["one", "two"].map((name) => copyOfSpec(SPEC, name, taken));
  const all = [SPEC, ...copies];
  const macs = all.flatMap((spec) => macsIn(spec));
  assert.deepEqual([macs.length, new Set(macs).size], [6, 6]);
  for (const mac of macs.slice(2)) {
    assert.match(formatMac(mac), /^00:16:3e:[0-7]/);
    assert.ok(taken.has(mac));
  }
  assert.equal(new Set(all.map(({ uuid }) => uuid)).size, 3);
  assert.deepEqual(
    copies.map(({ name, kernel }) => [name, kernel]),
    [
      ["one", "/k"],
      ["two", "/k"],
    ],
  );
  const [before, after] = [SPEC, copies[0]!].map((spec) => configOf(spec, "t").config) as [never, never];
  const others = ({ vifs }: { vifs: { mac: number }[] }) => vifs.map(({ mac: _, ...rest }) => rest);
  assert.deepEqual(others(after), others(before));
  assert.deepEqual(
    renewedVifs(before, after).map(({ devid, mac }) => [devid, mac]),
    macsIn(copies[0]!).map((mac, devid) => [devid, mac]),
  );
  assert.deepEqual(renewedVifs(before, before), []);
});

test("an address that is taken is not given", (t) => {
  const asked: number[] = [];
  const taken = new Set<number>();
  t.mock.method(taken, "has", (mac: number) => asked.push(mac) === 1);
  assert.deepEqual(macsIn(copyOfSpec({ ...SPEC, vif: [""] }, "one", taken)), [asked[1]]);
});

test("addresses are read of interfaces that have them written", () => {
  assert.deepEqual(macsIn({ vif: ["", "bridge=lan", "ip=10.0.0.1, mac = 00:16:3e:00:00:09"] }), []);
  assert.deepEqual(macsIn({ vif: ["ip=10.0.0.1, mac=00:16:3e:00:00:09"] }), [0x00163e000009]);
  assert.deepEqual(macsIn({}), []);
});
