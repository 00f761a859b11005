/**
 * Fetches a Debian kernel, builds an initramfs, and prints where they are, as JSON.
 *
 *   node scripts/guest.ts [--suite bookworm] [--flavour cloud|generic] [--package NAME]… [--script FILE] [--modules]
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import {
  AptSource,
  buildInitramfs,
  fetchKernel,
  type KernelFlavour,
  machineArchive,
  unpackModules,
} from "@xenoserver/toolstack/guest/index.ts";

const { values } = parseArgs({
  options: {
    suite: { type: "string" },
    flavour: { type: "string", default: "cloud" },
    package: { type: "string", multiple: true, default: [] },
    script: { type: "string" },
    modules: { type: "boolean", default: false },
  },
});
const progress = (line: string): void => console.error(line);

const archive = await machineArchive();
if (archive === undefined) throw new Error("apt follows no Debian release here");
const source = new AptSource(archive, values.suite ?? archive.suite, progress);
const kernel = await fetchKernel(source, values.flavour as KernelFlavour, progress);
const script = values.script === undefined ? {} : { script: readFileSync(values.script, "utf8") };
const initramfs = await buildInitramfs(source, { packages: values.package, ...script }, progress);
const modules = values.modules ? unpackModules(kernel, progress) : undefined;
console.log(
  JSON.stringify(
    { suite: source.suite, kernel: kernel.path, release: kernel.release, initramfs, modules },
    undefined,
    2,
  ),
);
