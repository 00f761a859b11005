/** The terminal: raw while the guest has it, as before afterwards. Run under script(1), which gives a terminal. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { spinGuest, tripleFaultGuest } from "@xenoserver/testkit";
import { XENO } from "./test-process.ts";

const CTRL_C = "\x03";
const CTRL_RIGHT_BRACKET = "\x1d";
const skip = spawnSync("script", ["--version"]).status === 0 ? false : "script(1) of util-linux is not here";
let folder: string;
const file = (name: string): string => join(folder, name);

before(() => {
  folder = mkdtempSync(join(tmpdir(), "xeno-terminal-"));
  writeFileSync(file("spin"), spinGuest());
  writeFileSync(file("triple-fault"), tripleFaultGuest());
});
after(() => rmSync(folder, { recursive: true }));

/** Runs the command on a terminal, types `keys` when `cue` appears, and asks for the terminal's state at the end. */
function onTerminal(guest: string, cue: string, keys: readonly string[]): Promise<string> {
  const command = `${process.execPath} ${XENO} run kernel=${file(guest)} memory=32 -v; echo STATUS=$?; stty -a`;
  const child = spawn("script", ["-qec", command, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
  let output = "";
  let typed = 0;
  child.stdout.on("data", (bytes: Buffer) => {
    output += bytes.toString();
    if (!output.includes(cue) || typed > 0) return;
    for (const key of keys) setTimeout(() => child.stdin.write(key), 200 * ++typed);
  });
  return new Promise((resolve) => child.on("close", () => resolve(output)));
}

const assertCooked = (output: string): void => {
  assert.match(output, / icanon /);
  assert.match(output, / echo /);
};

test("Ctrl-] leaves with status 0, Ctrl-C goes to the guest, and the terminal is put back", { skip }, async () => {
  const output = await onTerminal("spin", "spinning", [CTRL_C, CTRL_RIGHT_BRACKET]);
  assert.match(output, /domain was destroyed/);
  assert.match(output, /STATUS=0/);
  assertCooked(output);
});

test("a crash puts the terminal back too", { skip }, async () => {
  const output = await onTerminal("triple-fault", "never", []);
  assert.match(output, /STATUS=3/);
  assertCooked(output);
});
