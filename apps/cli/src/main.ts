/** The `xeno` command. */
import { readFileSync } from "node:fs";
import { StorageError } from "@xenoserver/storage/error.ts";
import { ConfigError } from "@xenoserver/toolstack/cfg/index.ts";
import { PackageError } from "@xenoserver/toolstack/guest/index.ts";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { addDiskCommands } from "./disk-commands.ts";
import { ExitError, ExitStatus } from "./exit-status.ts";
import { type RunOptions, runCommand } from "./run-command.ts";
import { type TryOptions, tryCommand } from "./try-command.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as {
  version: string;
};

function seconds(written: string): number {
  const value = Number(written);
  if (!(value > 0)) throw new InvalidArgumentError("Expected a number of seconds above 0.");
  return value;
}

const consoleOption = () =>
  new Option("--console <target>", "where the console goes: a FILE, or none").default("stdio");
const timeoutOption = () =>
  new Option("--timeout <seconds>", "end the domain after this long, with status 124").argParser(seconds);
const jsonOption = () => new Option("--json", "print the closing report as JSON on standard output");
const verboseOption = () => new Option("-v, --verbose", "show the hypervisor's messages on standard error");

let status: number = ExitStatus.ok;
const program = new Command("xeno")
  .description("Runs unmodified Linux kernels as Xen PVH domains, without privileges.")
  .version(version)
  .exitOverride()
  .configureHelp({ showGlobalOptions: true });

program
  .command("run")
  .description("run a domain in the foreground; Ctrl-] leaves")
  .argument("[args...]", "FILE.cfg in xl.cfg syntax, and key=value settings on top of it")
  .option("-n, --dryrun", "print what would be built, and build nothing")
  .addOption(consoleOption())
  .addOption(timeoutOption())
  .addOption(jsonOption())
  .addOption(verboseOption())
  .addHelpText(
    "after",
    "\nStatus: 0 power-off, 2 bad configuration, 3 the guest crashed, 124 time limit, 130 interrupted.",
  )
  .action(async (args: string[], options: RunOptions) => {
    status = await runCommand(args, options);
  });

program
  .command("try")
  .description("fetch a Debian kernel and busybox, boot them, and give a root shell")
  .argument("[settings...]", "key=value settings of xl.cfg, e.g. memory=512")
  .option("--suite <name>", "Debian release (default: the machine's, else stable)")
  .addOption(new Option("--flavour <name>", "which kernel").choices(["cloud", "generic"]).default("cloud"))
  .addOption(
    new Option("--mirror <url>", "Debian archive to use instead of the machine's apt").env("XENO_DEBIAN_MIRROR"),
  )
  .addOption(new Option("--keyring <file>", "OpenPGP keys that sign the mirror's archive").env("XENO_DEBIAN_KEYRING"))
  .addOption(consoleOption())
  .addOption(timeoutOption())
  .addOption(jsonOption())
  .addOption(verboseOption())
  .action(async (settings: string[], options: TryOptions) => {
    status = await tryCommand(settings, options);
  });

program
  .command("bridge")
  .description("run a switch that domains plug into by bridge=NAME; Ctrl-C ends it")
  .argument("<name>", "its name, e.g. xenbr0")
  .option("--user [settings]", "with a gateway to the world, e.g. --user subnet=10.1.0.0/24,forward=8080:80")
  .action(async (name: string, { user }: { readonly user?: string | true }) => {
    const { bridgeCommand } = await import("./bridge-command.ts");
    status = await bridgeCommand(name, user === true ? "" : user);
  });

addDiskCommands(program);

/** The error and what caused it, each once. */
function chain(error: unknown): string {
  const messages: string[] = [];
  for (let e = error; e instanceof Error; e = e.cause) if (!messages.includes(e.message)) messages.push(e.message);
  return messages.length > 0 ? messages.join("\n  because: ") : String(error);
}

if (import.meta.main) await main();

async function main(): Promise<void> {
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
      const known = [ExitError, ConfigError, PackageError, StorageError].some((kind) => error instanceof kind);
      process.stderr.write(`xeno: ${chain(error)}\n`);
      if (!known || process.env["XENO_DEBUG"]) process.stderr.write(`${(error as Error).stack}\n`);
    }
  }
  process.exitCode = status;
}
