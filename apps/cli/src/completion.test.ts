/** Completion, by the shell that it is for. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { runProcess, xeno } from "./test-process.ts";

const skip = spawnSync("bash", ["--version"]).status === 0 ? false : "bash is not here";

test("bash completes verbs, their verbs and options", { skip }, async () => {
  const { stdout: script } = await xeno(["completion", "bash"]);
  const completed = async (...words: string[]): Promise<string[]> => {
    const quoted = words.map((word) => `'${word}'`).join(" ");
    const line = `COMP_WORDS=(xeno ${quoted}); COMP_CWORD=${words.length}; _xeno; echo "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = await runProcess("bash", ["-c", `${script}\n${line}`]);
    assert.equal(stderr, "");
    return stdout.trim().split(" ");
  };
  assert.deepEqual(await completed("vcpu"), ["vcpu-list", "vcpu-set", "vcpu-pin"]);
  assert.deepEqual(await completed("agent", "sto"), ["stop"]);
  assert.deepEqual(await completed("create", "--over"), ["--overcommit"]);
});
