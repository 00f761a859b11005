import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { BootWatch } from "./boot-watch.ts";

const OUTPUT = "[ 1.0] Run /init\r\nxeno: up\r\n/ # xeno: up\r\n";
const END = OUTPUT.indexOf("\n", OUTPUT.indexOf("xeno: up")) + 1;

test("the end of the line is found once, however the output is cut", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(OUTPUT.length)), (cuts) => {
      const watch = new BootWatch("xeno: up");
      const found: number[] = [];
      const edges = [0, ...cuts.sort((a, b) => a - b), OUTPUT.length];
      for (let i = 1; i < edges.length; i++) {
        const at = watch.feed(Buffer.from(OUTPUT.slice(edges[i - 1], edges[i])));
        if (at !== undefined) found.push(edges[i - 1]! + at);
      }
      assert.deepEqual(found, [END]);
    }),
  );
});

test("a marker that does not come is not found", () => {
  const watch = new BootWatch("xeno: up");
  assert.equal(watch.feed(Buffer.from("xeno: upper\nxeno:\nup\nxeno: u")), 12);
  assert.equal(new BootWatch("xeno: up").feed(Buffer.from("xeno: u\np\n")), undefined);
});

test("a prompt is found before its line ends, in pieces", () => {
  const watch = new BootWatch("root@debian:~#", true);
  assert.equal(watch.feed(Buffer.from("debian login: root\r\nroot@deb")), undefined);
  assert.equal(watch.feed(Buffer.from("ian:~# ")), 7);
  assert.equal(watch.feed(Buffer.from("root@debian:~# ")), undefined);
});
