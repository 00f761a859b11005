import assert from "node:assert/strict";
import { test } from "node:test";
import { unknownWarnings } from "./boot-log.ts";

test("only warnings and errors that nobody knows are told", () => {
  const log = [
    "<6>[    0.000000] Linux version 6.1",
    "<3>[    0.309522] ACPI: No IOAPIC entries present",
    "<4>[    1.667383] cpu 12 spinlock event irq 4",
    "<4>[    1.7] cpu 12 spinlock event irq 4 is lost",
    "<12>[    2.0] user space's own warning",
    "<30>[    2.1] a daemon's news",
    "not a line of the log",
  ];
  assert.deepEqual(unknownWarnings(log.join("\r\n")), [
    "cpu 12 spinlock event irq 4 is lost",
    "user space's own warning",
  ]);
});
