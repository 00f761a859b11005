import assert from "node:assert/strict";
import { test } from "node:test";
import { signalAfter, xeno } from "./test-process.ts";

const name = `cli-${process.pid}`;

test("a bridge runs until it is told to end", async () => {
  const { status, stderr } = await xeno(["bridge", name, "--user", "subnet=10.1.0.0/24,forward=0:80"], {
    onOutput: signalAfter("leads to port 80", "SIGTERM"),
  });
  assert.equal(status, 0, stderr);
  assert.match(stderr, new RegExp(`^xeno: bridge ${name} is there; domains plug in with vif = \\["bridge=${name}"\\]`));
  assert.match(stderr, /tcp 127\.0\.0\.1:[1-9]\d* leads to port 80/);
});

test("a name or settings that make no sense are refused with status 2", async () => {
  for (const [args, message] of [
    [["../x"], /command line: bridge has bridge=\.\.\/x, expected a name/],
    [[name, "--user", "forward=x"], /command line: bridge has forward=x, expected/],
    [[name, "--user", "subnet=10.0.0.0/30"], /subnet is 10\.0\.0\.0\/30, expected an IPv4 block/],
  ] as const) {
    const { status, stderr } = await xeno(["bridge", ...args]);
    assert.equal(status, 2);
    assert.match(stderr, message);
  }
});
