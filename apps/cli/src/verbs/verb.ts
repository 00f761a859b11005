/** What a module of the command adds to the program. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { collected } from "../collected.ts";

/**
 * Adds one verb, or one family of them, to the program.
 * @param setStatus  to be called by the verb's action with the exit status of the command; without, it is 0
 */
export type AddVerb = (program: Command, setStatus: (status: number) => void) => void;

/** A number of seconds above 0, for commander. */
export function seconds(written: string): number {
  const value = Number(written);
  if (!(value > 0)) throw new InvalidArgumentError("Expected a number of seconds above 0.");
  return value;
}

export const consoleOption = (): Option =>
  new Option("--console <target>", "where the console goes: a FILE, or none").default("stdio");
export const timeoutOption = (): Option =>
  new Option("--timeout <seconds>", "end the domain after this long, with status 124").argParser(seconds);
export const reportOption = (): Option => new Option("--json", "print the closing report as JSON on standard output");
export const verboseOption = (): Option =>
  new Option("-v, --verbose", "show the hypervisor's messages on standard error");

/** What `run` and `create` take for a domain that boots from an image. */
export const addImageOptions = (command: Command): Command =>
  command
    .option("--image <name>", "boot a disk of the domain's own on an image, with a network of its own")
    .option("--user-data <file>", "what cloud-init of the image is told at the first start")
    .option("--ssh-key <file>", "let this public key log in; may be repeated", collected)
    .option("--hostname <name>", "what the machine calls itself (default: the domain's name)")
    .option("--address <address>", "of the machine, such as 10.0.2.20/24 (default: by DHCP)");
