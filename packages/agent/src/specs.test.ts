import assert from "node:assert/strict";
import { test } from "node:test";
import { refuseShared } from "./specs.ts";

const withVif = (vif: string) => ({ name: "web", kernel: "/boot/vmlinuz", vif: [vif] });

test("copies are not made of domains that have something on a network of others which copies would have too", () => {
  for (const [vif, what] of [
    ["bridge=lan,ip=10.0.0.2", "a bridge with ip=, which its copies would have too"],
    ["bridge=lan,antispoof=0", "a bridge with antispoof=0, with which its copies would send under its addresses"],
    ["net=tap,vifname=web0", "a tap with vifname=, which only one can have"],
  ] as const)
    assert.throws(() => refuseShared(withVif(vif)), { message: `vif 0 of web: is on ${what}` });
  for (const vif of ["", "net=none", "net=passt", "ip=10.0.2.20", "bridge=lan", "net=tap,bridge=xenbr0"])
    refuseShared(withVif(vif));
});
