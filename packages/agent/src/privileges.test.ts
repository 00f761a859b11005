import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { withFewPrivileges } from "./privileges.ts";

const ADMIN = 21n;
const MODULE = 16n;
const PTRACE = 19n;
const RAWIO = 17n;
const MKNOD = 27n;
const [CHOWN, DAC_OVERRIDE, NET_ADMIN] = [0n, 1n, 12n];

test("whoever is not root runs as it was", () => {
  assert.deepEqual(withFewPrivileges(["node", "x"], undefined, 1000), ["node", "x"]);
});

const isRoot = process.getuid?.() === 0 && withFewPrivileges(["true"]).length > 1;
test("root's process keeps what devices need, and cannot get more", {
  skip: isRoot ? false : "only root has privileges to lose",
}, () => {
  const [program, ...args] = withFewPrivileges(["/bin/sh", "-c", "cat /proc/self/status"]);
  const status = execFileSync(program!, args, { encoding: "utf8" });
  const setOf = (name: string): bigint => BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, "m").exec(status)![1]}`);
  const before = BigInt(
    `0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(execFileSync("cat", ["/proc/self/status"], { encoding: "utf8" }))![1]}`,
  );
  for (const name of ["CapEff", "CapPrm", "CapBnd"]) {
    for (const lost of [ADMIN, MODULE, PTRACE, RAWIO, MKNOD])
      assert.equal((setOf(name) >> lost) & 1n, 0n, `${name} has ${lost}`);
    for (const kept of [CHOWN, DAC_OVERRIDE, NET_ADMIN])
      assert.equal((setOf(name) >> kept) & 1n, (before >> kept) & 1n, `${name} and ${kept}`);
  }
  assert.match(status, /^NoNewPrivs:\s*1$/m);
});
