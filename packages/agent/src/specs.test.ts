import assert from "node:assert/strict";
import { test } from "node:test";
import { refuseSharedNetworks } from "./specs.ts";

const withVif = (vif: string) => ({ name: "web", kernel: "/boot/vmlinuz", vif: [vif] });

test("copies are not made of domains whose network others share", () => {
  for (const [vif, what] of [
    ["bridge=lan", "bridge"],
    ["net=tap", "tap"],
    ["net=tap,bridge=xenbr0", "tap"],
  ] as const)
    assert.throws(() => refuseSharedNetworks(withVif(vif)), {
      message: `vif 0 of web: is on a ${what}, where its copies would have the same address`,
    });
  for (const vif of ["", "net=none", "net=passt"]) refuseSharedNetworks(withVif(vif));
});
