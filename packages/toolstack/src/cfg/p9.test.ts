import assert from "node:assert/strict";
import { test } from "node:test";
import { describeP9, parseP9 } from "./p9.ts";
import { Complaint } from "./readers.ts";

test("as xl has it, and read-only", () => {
  const share = parseP9("tag=share,security_model=none,path=/srv/a=b");
  assert.deepEqual(share, { tag: "share", path: "/srv/a=b", readOnly: false });
  const looking = parseP9(" tag=x, path=/srv, access=ro");
  assert.deepEqual(looking, { tag: "x", path: "/srv", readOnly: true });
  assert.deepEqual(parseP9(describeP9(looking)), looking);
});

const mistakes: readonly (readonly [string, RegExp])[] = [
  ["path=/srv", /has tag "", expected up to 31 letters/],
  ["tag=a b,path=/srv", /has tag "a b"/],
  [`tag=${"x".repeat(32)},path=/srv`, /expected up to 31/],
  ["tag=a", /has no path/],
  ["tag=a,path=/srv,access=x", /has access "x", expected ro or rw/],
  ["tag=a,path=/srv,security_model=mapped", /security_model=mapped, which is not supported yet/],
  ["tag=a,path=/srv,colour=red", /has "colour=red", expected one of tag=/],
  ["tag=a,tag=b,path=/srv", /two values for tag/],
];
for (const [text, message] of mistakes) {
  test(`${text} is refused`, () =>
    assert.throws(
      () => parseP9(text),
      (error) => error instanceof Complaint && message.test(error.message),
    ));
}
