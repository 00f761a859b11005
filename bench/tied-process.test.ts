import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { test } from "node:test";
import { tied } from "./tied-process.ts";

const skip = tied("true", [])[0] === "setpriv" ? false : "setpriv is not installed, or knows no --pdeathsig";

const PARENT = `
  const { spawn } = await import("node:child_process");
  const { tied } = await import(${JSON.stringify(new URL("./tied-process.ts", import.meta.url).href)});
  spawn(...tied("sleep", ["120"]), { stdio: ["ignore", 1, 1] }).on("spawn", () => console.log("started"));
  setInterval(() => {}, 1000);
`;

test("a process ends with the one that started it, when that is killed", { skip, timeout: 60_000 }, async () => {
  const parent = spawn(process.execPath, ["--input-type=module", "-e", PARENT], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  for await (const bytes of parent.stdout) {
    output += bytes;
    // What the child inherited of this pipe keeps it open for as long as the child lives, so the loop ends with it.
    if (output.includes("started")) parent.kill("SIGKILL");
  }
  assert.match(output, /started/);
});

test("what is tied is the program that was asked for", () => {
  const [program, args] = tied("echo", ["one", "--two"]);
  assert.equal(spawnSync(program, args, { encoding: "utf8" }).stdout, "one --two\n");
});
