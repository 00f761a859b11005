#!/usr/bin/env node
// Runs the command under the pinned Node, whatever Node the machine has. Plain JavaScript for that reason.
import { runUnderPinnedNode } from "../../../scripts/pinned-node.mjs";

await runUnderPinnedNode(new URL("../src/main.ts", import.meta.url), process.argv.slice(2));
