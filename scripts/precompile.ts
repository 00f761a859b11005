/**
 * Makes programs of domains' processes and threads, if their sources changed, and loads them without running them: Node keeps what it
 * compiled. A process that has to strip the types off by itself holds the tool for that, some 20 MB, for as long as it runs.
 */
import "../apps/cli/src/main.ts";
import "../bench/domain-process.ts";
import "../packages/toolstack/src/control/process.ts";
import { BUNDLE_FOLDER, hasBundles } from "@xenoserver/toolstack/program.ts";
import { makeBundles } from "./bundles.ts";

if (!hasBundles()) {
  const { programs } = await makeBundles();
  for (const file of Object.values(programs)) await import(new URL(file, BUNDLE_FOLDER).href);
}
