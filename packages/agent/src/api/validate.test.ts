/** What is wrong with a request is a sentence that names the field, the value and what is expected. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AgentError } from "../home.ts";
import { jsonOf, queryOf } from "./body.ts";
import { ForkDomain, MakeDomain, MigrateDomain, ShutdownDomain, ViewQuery, WaitQuery } from "./schema/index.ts";
import { checkedBy } from "./validate.ts";

const refusal = (check: () => unknown): string => {
  try {
    check();
  } catch (error) {
    assert.ok(error instanceof AgentError && error.status === 400);
    return error.message;
  }
  return "";
};

describe("a body", () => {
  const long = "x".repeat(100);
  for (const [schema, body, expected] of [
    [ForkDomain, {}, ""],
    [ForkDomain, { count: 0 }, "count is 0, expected 1 to 256"],
    [ForkDomain, { count: 1.5 }, "count is 1.5, expected a whole number, 1 to 256"],
    [ForkDomain, { count: "1" }, 'count is "1", expected a whole number, 1 to 256'],
    [ForkDomain, { coutn: 1 }, "coutn is no field of this request"],
    [
      ForkDomain,
      { name: null },
      "name is null, expected up to 64 letters, digits or any of _.+:-, a letter or digit first",
    ],
    [ForkDomain, { overcommit: 1, count: 0 }, "count is 0, expected 1 to 256\novercommit is 1, expected true or false"],
    [ForkDomain, [], "body is [], expected an object"],
    [ForkDomain, null, "body is null, expected an object"],
    [MigrateDomain, {}, "to is missing, expected HOST[:PORT] of another agent, or the path of its socket"],
    [MigrateDomain, { to: "" }, 'to is "", expected HOST[:PORT] of another agent, or the path of its socket'],
    [
      ShutdownDomain,
      { request: long },
      `request is "${"x".repeat(79)}…, expected one of poweroff, reboot, halt, suspend`,
    ],
    [MakeDomain, { spec: { kernel: "/k", disk: ["a"], memory: 1 }, paused: true }, ""],
    [MakeDomain, {}, "spec is missing, expected keys of xl.cfg"],
    [MakeDomain, 7, "body is 7, expected an object"],
    [MakeDomain, { spec: { kernel: {} } }, "spec.kernel is {}, expected a string, a number or a list of strings"],
    [MakeDomain, { spec: {}, pausde: true }, "pausde is no field of this request"],
    [MakeDomain, { restore: "file" }, 'restore is "file", expected a path from the root on, beginning with /'],
    [MakeDomain, { restore: "/file", paused: "yes" }, 'paused is "yes", expected true or false'],
    [MakeDomain, { awaits: 5 }, "awaits is 5, expected keys of xl.cfg"],
  ] as const)
    test(`${JSON.stringify(body).slice(0, 60)} ${expected === "" ? "is taken" : "is refused"}`, () => {
      assert.equal(
        refusal(() => checkedBy(schema, body, "body")),
        expected,
      );
    });

  test("that is no JSON is refused, none is an empty object", () => {
    assert.deepEqual(jsonOf(""), {});
    assert.equal(
      refusal(() => jsonOf("{")),
      "body is no JSON, expected an object",
    );
  });
});

describe("a query", () => {
  const check = (schema: typeof ViewQuery | typeof WaitQuery, text: string) =>
    checkedBy(schema, queryOf(new URLSearchParams(text)), "query");

  test("gives what it says, and what it leaves out", () => {
    assert.deepEqual(check(WaitQuery, "timeoutSeconds=5"), { timeoutSeconds: 5 });
    assert.deepEqual(check(WaitQuery, ""), {});
    assert.deepEqual(check(ViewQuery, ""), { view: "full" });
  });

  test("is refused with a sentence", () => {
    const expected = "expected a whole number, 0 to 600";
    assert.equal(
      refusal(() => check(WaitQuery, "timeoutSeconds=-1")),
      `timeoutSeconds is "-1", ${expected}`,
    );
    assert.equal(
      refusal(() => check(WaitQuery, "timeoutSeconds=601")),
      `timeoutSeconds is "601", expected 0 to 600`,
    );
    assert.equal(
      refusal(() => check(ViewQuery, "view=some")),
      'view is "some", expected one of full, settings',
    );
    assert.equal(
      refusal(() => check(ViewQuery, "veiw=full")),
      "veiw is no field of this request",
    );
    assert.equal(
      refusal(() => check(ViewQuery, "view=full&view=full")),
      "view is in the query twice, expected once",
    );
  });
});
