/**
 * Fetches a Debian kernel, builds an initramfs, and prints where they are, as JSON.
 *
 *   node scripts/guest.ts [--suite bookworm] [--flavour cloud|generic] [--package NAME]… [--script FILE] [--modules]
 *                         [--mirror URL] [--keyring FILE]
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import {
  buildInitramfs,
  fetchKernel,
  type KernelFlavour,
  openPackageSource,
  unpackModules,
} from "@xenoserver/toolstack/guest/index.ts";

const { values } = parseArgs({
  options: {
    suite: { type: "string" },
    flavour: { type: "string", default: "cloud" },
    package: { type: "string", multiple: true, default: [] },
    script: { type: "string" },
    mirror: { type: "string" },
    keyring: { type: "string" },
    modules: { type: "boolean", default: false },
  },
});
const progress = (line: string): void => console.error(line);

const source = await openPackageSource({
  progress,
  ...(values.suite !== undefined && { suite: values.suite }),
  ...(values.mirror !== undefined && { mirror: values.mirror }),
  ...(values.keyring !== undefined && { keyring: values.keyring }),
});
const kernel = await fetchKernel(source, values.flavour as KernelFlavour, progress);
const script = values.script === undefined ? {} : { script: readFileSync(values.script, "utf8") };
const initramfs = await buildInitramfs(source, { packages: values.package, ...script }, progress);
const modules = values.modules ? await unpackModules(source, kernel, progress) : undefined;
console.log(
  JSON.stringify(
    { suite: source.suite, kernel: kernel.path, release: kernel.release, initramfs, modules },
    undefined,
    2,
  ),
);
