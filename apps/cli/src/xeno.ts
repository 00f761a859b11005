/** The `xeno` command, which `main.ts` starts. */
import { readFileSync } from "node:fs";
import { StorageError } from "@xenoserver/storage/error.ts";
import { ConfigError } from "@xenoserver/toolstack/cfg/syntax.ts";
import { PackageError } from "@xenoserver/toolstack/guest/package-source.ts";
import { Command, CommanderError } from "commander";
import { ExitError, ExitStatus } from "./exit-status.ts";
import { VERBS } from "./verbs/index.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

let status: number = ExitStatus.ok;
const program = new Command("xeno")
  .description("Runs unmodified Linux kernels as Xen PVH domains, without privileges.")
  .version(version)
  .exitOverride()
  .configureHelp({ showGlobalOptions: true });
for (const addVerb of VERBS) addVerb(program, (given) => (status = given));

/** The error and what caused it, each once. */
function chain(error: unknown): string {
  const messages: string[] = [];
  for (let e = error; e instanceof Error; e = e.cause) if (!messages.includes(e.message)) messages.push(e.message);
  return messages.length > 0 ? messages.join("\n  because: ") : String(error);
}

/** Does what the command line says, and sets the exit status. */
export async function main(): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      status = error.exitCode === 0 ? ExitStatus.ok : ExitStatus.badConfig;
    } else {
      status =
        error instanceof ExitError
          ? error.status
          : error instanceof ConfigError
            ? ExitStatus.badConfig
            : ExitStatus.failed;
      const known =
        [ExitError, ConfigError, PackageError, StorageError].some((kind) => error instanceof kind) ||
        // Loaded by those verbs only that speak to the agent.
        (error as Error).name === "AgentError";
      process.stderr.write(`xeno: ${chain(error)}\n`);
      if (!known || process.env["XENO_DEBUG"]) process.stderr.write(`${(error as Error).stack}\n`);
    }
  }
  process.exitCode = status;
}
