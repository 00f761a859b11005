/** `xeno run` and `xeno try`: one domain in the foreground. */
import { type Command, Option } from "commander";
import type { RunOptions } from "../run-command.ts";
import type { SourceOptions, TryOptions } from "../try-command.ts";
import { type AddVerb, addImageOptions, consoleOption, reportOption, timeoutOption, verboseOption } from "./verb.ts";

export const addRun: AddVerb = (program, setStatus) => {
  const run = program
    .command("run")
    .description("run a domain in the foreground; Ctrl-] leaves")
    .argument("[args...]", "FILE.cfg in xl.cfg syntax, and key=value settings on top of it")
    .option("-n, --dryrun", "print what would be built, and build nothing");
  addImageOptions(run)
    .option(
      "--exec <command>",
      "run a command in the guest, with this command's streams and its status, then end the domain",
    )
    .option("--rm", "delete the domain's disk on an image behind it")
    .addOption(consoleOption())
    .addOption(timeoutOption())
    .addOption(reportOption())
    .addOption(verboseOption())
    .addHelpText(
      "after",
      "\nStatus: 0 power-off, 2 bad configuration, 3 the guest crashed, 124 time limit, 130 interrupted.",
    )
    .action(async (args: string[], options: RunOptions) => {
      const { runCommand } = await import("../run-command.ts");
      setStatus(await runCommand(args, options));
    });
};

export const addTry: AddVerb = (program, setStatus) => {
  const verb = program
    .command("try")
    .description("build a Debian, clone it a disk, and give a root shell and SSH; a busybox guest where input is piped")
    .argument("[settings...]", "key=value settings of xl.cfg, e.g. memory=512")
    .option("--busybox", "a guest that is all shell, at once")
    .option("--debian", "the Debian, also where input is piped: its lines are a shell's then")
    .option("--fresh", "the Debian with a new disk, in place of the one that it had");
  addSourceOptions(verb, "12; with --busybox the machine's, else stable")
    .option("--pv", "boot it as a paravirtual kernel, under Xen's shim")
    .option("--demo", "once it has ended well, what demo shows; npm start does this")
    .option("--no-demo", "not that")
    .addOption(consoleOption())
    .addOption(timeoutOption())
    .addOption(reportOption())
    .addOption(verboseOption())
    .action(async (settings: string[], options: TryOptions) => {
      const { tryCommand } = await import("../try-command.ts");
      setStatus(await tryCommand(settings, options));
    });
};

export const addDemo: AddVerb = (program, setStatus) => {
  const verb = program
    .command("demo")
    .description("start two servers and move a domain from one to the other while its console is watched");
  addSourceOptions(verb, "the machine's, else stable").action(async (options: SourceOptions) => {
    const { demoCommand } = await import("../demo-command.ts");
    const { say } = await import("../store-access.ts");
    setStatus(await demoCommand(options, say));
  });
};

/** @param release  what it is if nobody says */
const addSourceOptions = (verb: Command, release: string): Command =>
  verb
    .option("--suite <name>", `Debian release (default: ${release})`)
    .addOption(new Option("--flavour <name>", "which kernel (default: cloud)").choices(["cloud", "generic"]))
    .addOption(
      new Option("--mirror <url>", "Debian archive to use instead of the machine's apt").env("XENO_DEBIAN_MIRROR"),
    )
    .addOption(
      new Option("--keyring <file>", "OpenPGP keys that sign the mirror's archive").env("XENO_DEBIAN_KEYRING"),
    );
