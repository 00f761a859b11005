/** The verbs of the command, in the order in which `xeno --help` lists them. A new family of verbs is a line here. */
import { addDiskCommands } from "../disk-commands.ts";
import { addImageCommands } from "../image-commands.ts";
import { addAgent } from "./agent.ts";
import { addBridge } from "./bridge.ts";
import { addCompletion } from "./completion.ts";
import { addDomains } from "./domains.ts";
import { addExec } from "./exec.ts";
import { addDemo, addRun, addTry } from "./run.ts";
import type { AddVerb } from "./verb.ts";
import { addWatching } from "./watching.ts";

export const VERBS: readonly AddVerb[] = [
  addRun,
  addTry,
  addDemo,
  addDomains,
  addExec,
  addWatching,
  addAgent,
  addBridge,
  addImageCommands,
  addDiskCommands,
  addCompletion,
];
