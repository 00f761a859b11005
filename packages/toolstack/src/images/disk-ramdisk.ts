/**
 * The ramdisk of a disk with a system on it: one small program and the few kernel modules that lead to the disk. A distribution's
 * own ramdisk, with a shell and device manager in it, takes a translated guest several seconds.
 */
import { readFileSync } from "node:fs";
import { type Content, type DirectoryNode, type FileTree, readContent } from "@xenoserver/storage";
import { AGENT_PROGRAM } from "../agent/program.ts";
import { PackageError, RootTree } from "../guest/index.ts";
import { canonicalModule, MAX_MODULE_BYTES, MODULE_SUFFIX, moduleInfo, unpackModule } from "../guest/modules.ts";

/** Where modules are looked for. */
export interface ModuleFolder {
  /** Unpacked; undefined if the kernel has it built in, or there is no such module. */
  read(name: string): Promise<Uint8Array | undefined>;
}

/** What a root disk needs beside its driver. Nobody names the first: ext4 asks for a checksum, and modprobe would find it. */
const FILE_SYSTEM = ["crc32c_generic", "ext4"];

/**
 * The newc archive. What its init does is in `../agent/boot.c`.
 * @param drivers  modules that lead to the disk, on another machine than ours
 * @throws PackageError  a module is none
 */
export async function diskRamdisk(
  modules: ModuleFolder,
  drivers: readonly string[] = ["xen_blkfront"],
): Promise<Uint8Array> {
  const tree = new RootTree();
  for (const path of ["dev", "proc", "root", "modules"]) tree.directory(path);
  tree.charDevice("dev/console", 5, 1);
  tree.charDevice("dev/null", 1, 3, 0o666);
  tree.file("init", readFileSync(AGENT_PROGRAM), 0o755);
  const order: string[] = [];
  const seen = new Set<string>();
  const add = async (name: string): Promise<void> => {
    if (seen.has(name)) return;
    seen.add(name);
    const bytes = await modules.read(name);
    if (bytes === undefined) return;
    const depends = (moduleInfo(bytes).get("depends") ?? []).flatMap((list) => list.split(",")).filter(Boolean);
    for (const other of depends) await add(canonicalModule(other));
    tree.file(`modules/${name}.ko`, bytes);
    order.push(`${name}.ko\0`);
  };
  for (const name of [...drivers, ...FILE_SYSTEM]) await add(name);
  tree.file("modules/order", order.join(""));
  return tree.toNewc();
}

/** The modules of a kernel that a tree of packages has. */
export function modulesIn(tree: FileTree, release: string): ModuleFolder {
  const files = new Map<string, { readonly path: string; readonly content: Content }>();
  const visit = (folder: DirectoryNode, path: string): void => {
    for (const [name, node] of folder.entries) {
      if (node.type === "directory") visit(node, `${path}/${name}`);
      else if (node.type === "file" && MODULE_SUFFIX.test(name))
        files.set(canonicalModule(name.replace(MODULE_SUFFIX, "")), {
          path: `${path}/${name}`,
          content: node.content,
        });
    }
  };
  const home = `lib/modules/${release}/kernel`;
  const folder = tree.find(home);
  if (folder?.type !== "directory") throw new PackageError(`kernel ${release}: has no modules in /${home}`);
  visit(folder, home);
  return {
    read: async (name) => {
      const file = files.get(name);
      if (file === undefined) return undefined;
      return unpackModule(await readContent(file.content, MAX_MODULE_BYTES, file.path), file.path);
    },
  };
}
